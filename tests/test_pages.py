"""What the pages tell a reader to type is what the program takes."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from voxmoe.cli.main import app
from voxmoe.training.any_recipe import load_any
from voxmoe.training.recipe import EyeRecipe, load

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = re.compile(r"^    (voxmoe .+)$|`(voxmoe [^`]+)`", re.MULTILINE)


def commands(page: Path) -> list[list[str]]:
    """The commands of a page, each without what follows a comment, a pipe or a redirection."""
    found = [indented or inline for indented, inline in COMMAND.findall(page.read_text())]
    return [shlex.split(re.split(r" #| > | \| ", line)[0].rstrip("\\")) for line in found]


EVERY = [(page.name, command) for page in PAGES for command in commands(page)]


def test_commands_are_found() -> None:
    assert ["voxmoe", "evaluate", "pocket", "DATASET"] in [command for _, command in EVERY]
    assert len({command[1] for _, command in EVERY}) > 15


@pytest.mark.parametrize(("page", "command"), EVERY, ids=lambda value: value if isinstance(value, str) else None)
def test_commands_and_options_exist(page: str, command: list[str]) -> None:
    known = typer.main.get_command(app)
    words = command[1:]
    while isinstance(known, typer.core.TyperGroup) and words and not words[0].startswith("-"):
        name = words.pop(0)
        assert name in known.commands or known.invoke_without_command, f"{page}: {shlex.join(command)}"
        known = known.commands.get(name, known)
    options = {option for parameter in known.params for option in parameter.opts}
    used = {word.split("=")[0] for word in words if word.startswith("--")}
    assert used <= options | {"--help"}, f"{page}: {shlex.join(command)}"


RECIPES = [
    command[2:]
    for _, command in EVERY
    if command[1] in ("train", "pretrain") and any(word.startswith("recipes/") for word in command)
]


@pytest.mark.parametrize("arguments", RECIPES, ids=shlex.join)
def test_recipes_take_the_changes_that_pages_make(arguments: list[str]) -> None:
    recipe, *changes = [argument for argument in arguments if not argument.startswith("--")]
    wanted = [change for change in changes if "=" in change]
    if Path(recipe).stem == "eye":
        assert load(EyeRecipe, ROOT / recipe, wanted).name
    else:
        assert load_any(ROOT / recipe, wanted)[0].name

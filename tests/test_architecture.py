"""Who may import whom. Every import is read from the source, those inside functions too."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import voxmoe

SOURCE = Path(voxmoe.__file__).parent
ROOMS = (
    "imaging",
    "vqa",
    "model",
    "training",
    "segmenting",
    "evaluation",
    "answering",
    "evidence",
    "reporting",
    "reconciling",
    "scan_answering",
    "any_model",
    "publishing",
    "bench",
    "reproduction",
    "cli",
    "__main__",
)
"""In the order of the data: a room imports from itself, from those before it and from the modules that all share."""
SHARED = ("vocabulary", "errors", "files", "pictures", "default", "hub", "settings")
HEAVY = {"torch", "transformers", "peft", "accelerate"}


def name_of(path: Path) -> str:
    parts = ("voxmoe", *path.relative_to(SOURCE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(path): path for path in sorted(SOURCE.rglob("*.py"))}


def imports_of(source: str) -> set[str]:
    """The modules that a source imports: for `from a import b`, a.b where that is a module of ours, else a."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names & FILES.keys() or {node.module}
    return found


IMPORTS = {name: imports_of(path.read_text()) for name, path in FILES.items()}


def room_of(module: str) -> str:
    """The room or shared module that a module of ours lies in; empty for the package itself."""
    return module.partition(".")[2].partition(".")[0]


def in_room(room: str) -> list[str]:
    return [module for module in FILES if room_of(module) == room]


def reached_from(module: str) -> set[str]:
    """Every module that importing this one can import, through ours."""
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        for found in IMPORTS.get(waiting.pop(), set()) - seen:
            seen.add(found)
            waiting.append(found)
    return seen


def test_imports_are_read_everywhere() -> None:
    source = "import os.path\ndef f():\n    from voxmoe.cli import show\n    from voxmoe.errors import VoxmoeError\n"
    assert imports_of(source) == {"os.path", "voxmoe.cli.show", "voxmoe.errors"}
    assert "voxmoe.vqa.findings" in IMPORTS["voxmoe.cli.main"]
    assert "torch" in reached_from("voxmoe.training.run")


def test_every_module_has_its_room() -> None:
    assert {room_of(module) for module in FILES} == {"", *SHARED, *ROOMS}


def test_the_picture_shows_all_rooms_in_their_order() -> None:
    page = (SOURCE.parents[1] / "docs" / "design.md").read_text()
    (chain,) = (line.split() for line in page.splitlines() if line.startswith("    imaging -> "))
    assert tuple(chain[::2]) == ROOMS[:-1]
    for room in (*ROOMS[:-1], *SHARED):
        assert f"`{room}/`" in page or f"`{room}.py`" in page, room


def test_imports_of_our_own_exist() -> None:
    ours = {found for imports in IMPORTS.values() for found in imports if found.split(".")[0] == "voxmoe"}
    assert ours <= FILES.keys()


def test_vocabulary_imports_nothing_but_the_standard_library() -> None:
    assert {name.split(".")[0] for name in IMPORTS["voxmoe.vocabulary"]} <= sys.stdlib_module_names


@pytest.mark.parametrize("shared", SHARED)
def test_what_is_shared_imports_no_room(shared: str) -> None:
    assert {room_of(name) for name in reached_from(f"voxmoe.{shared}") if name in FILES} <= set(SHARED)


@pytest.mark.parametrize("module", [module for room in ROOMS for module in in_room(room)])
def test_rooms_import_only_from_rooms_before_them(module: str) -> None:
    allowed = {"", *SHARED, *ROOMS[: ROOMS.index(room_of(module)) + 1]}
    if room_of(module) == "model":
        allowed.remove("vqa")
    assert {room_of(name) for name in IMPORTS[module] if name in FILES} <= allowed


@pytest.mark.parametrize("module", [*in_room("imaging"), *in_room("vqa")])
def test_imaging_and_vqa_never_reach_torch(module: str) -> None:
    assert not HEAVY & {name.split(".")[0] for name in reached_from(module)}


@pytest.mark.parametrize("module", in_room("model"))
def test_the_model_never_reads_image_files(module: str) -> None:
    imports = IMPORTS[module]
    assert "nibabel" not in {name.split(".")[0] for name in imports}
    assert not imports & {"voxmoe.imaging.volume", "voxmoe.imaging.layouts"}


@pytest.mark.parametrize("module", ["voxmoe.vqa.dataset", "voxmoe.vqa.measure", "voxmoe.cli.main"])
def test_nothing_heavy_is_loaded_in_fact(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({HEAVY!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []

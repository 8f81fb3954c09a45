"""The model that is used where none is named: the user's own, or the one that the package brings along."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from voxmoe.errors import WeightsError
from voxmoe.files import home

POCKET = "pocket"
"""What the shipped model is called where a model's folder can be named."""
SHIPPED = Path(__file__).parent / "weights" / POCKET

_HUB = "hf:"
"""What the name of a model on the Hugging Face Hub begins with, where a folder could be named, too."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choice:
    """The model that is used where none is named."""

    folder: Path | None
    """None where there is none."""
    source: Literal["made the default", "shipped with the package", "none"]
    gone: Path | None = None
    """The folder that was made the default and is no longer there."""


def default_pointer() -> Path:
    """The file that names the folder of the user's own default."""
    return home() / "default-model"


def shipped_model() -> Path | None:
    """The folder of the model that the package brings along; None where it was built without one."""
    return SHIPPED if (SHIPPED / "model.safetensors").is_file() else None


def choice() -> Choice:
    """The model last made the default, if its folder still exists; else the shipped one."""
    pointer, shipped = default_pointer(), shipped_model()
    own = Path(pointer.read_text().strip()) if pointer.is_file() else None
    if own is not None and own.is_dir():
        return Choice(own, "made the default")
    return Choice(shipped, "shipped with the package" if shipped else "none", own)


def default_model() -> Path:
    """The folder of the model that is used where none is named.

    Where the user's own is gone the shipped one takes its place, and a warning says so: the answers are then another
    model's. Raises `WeightsError` if there is neither.
    """
    chosen = choice()
    gone = "" if chosen.gone is None else f"{chosen.gone}, which was made the default model, is no longer there"
    if chosen.folder is None:
        raise WeightsError(
            f"{gone or 'no model was named, and none was made the default'}; this copy of voxmoe brings none along: "
            "name one with --model, or train one with voxmoe train RECIPE --default"
        )
    if gone:
        _log.warning("%s; asking the shipped model instead (%s)", gone, chosen.folder)
    return chosen.folder


def model_at(named: Path | None) -> Path:
    """The folder of a model that a user names: the default where none is named, the shipped one by the name "pocket",
    one on the Hugging Face Hub, which is fetched once, as hf:OWNER/NAME.

    Raises `WeightsError` if there is no default, if none is shipped, if the hub does not have it, or if a folder here
    is called "pocket", too: which model answers is not to depend on where a command is run.
    """
    if named is None:
        return default_model()
    if str(named).startswith(_HUB):
        from voxmoe.hub import fetched  # imports much

        return fetched(str(named).removeprefix(_HUB))
    if named != Path(POCKET):
        return named
    shipped = shipped_model()
    if shipped is not None and named.is_dir():
        raise WeightsError(
            f"{POCKET}: both the shipped model and a folder here are called so; name the one that is meant in full: "
            f"{shipped} or {named.resolve()}"
        )
    if shipped is None and not named.is_dir():
        raise WeightsError(f"{POCKET}: this copy of voxmoe brings no model along, and there is no folder of that name")
    return shipped or named

"""Files of weights: where a name leads to, what a file holds, and pickles made into safetensors.

Only safetensors are loaded. A pickle can run any code while it is read, so a `.bin` or `.pt` file is converted first,
by a command of its own, in which PyTorch reads tensors and nothing else.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers.utils import SAFE_WEIGHTS_NAME, cached_file

from voxmoe.default import model_at
from voxmoe.errors import WeightsError
from voxmoe.files import atomic_path
from voxmoe.hub import PICKLES, require_hub
from voxmoe.settings import Settings


class Pretrained(Settings):
    """The weights that a part of the model starts from."""

    weights: str | None = None
    """A safetensors file, a folder that holds one, or a model on the hub; None starts from random weights."""
    fingerprint: str | None = None
    """Of those weights. Recorded when a model is made; other weights under it are refused."""


def _how_to_convert(file: Path) -> str:
    return f"convert it once: voxmoe weights {file} {file.with_suffix('.safetensors')}"


def _in_folder(folder: Path) -> Path:
    files = sorted(folder.glob("*.safetensors"))
    usual = folder / str(SAFE_WEIGHTS_NAME)
    if usual in files:
        return usual
    if len(files) == 1:
        return files[0]
    if files:
        raise WeightsError(f"{folder}: name one of its files: {', '.join(file.name for file in files)}")
    pickles = [file for file in sorted(folder.iterdir()) if file.suffix in PICKLES]
    hint = f"; {pickles[0].name} is a pickle, {_how_to_convert(pickles[0])}" if pickles else ""
    raise WeightsError(f"{folder}: holds no safetensors file{hint}")


def find_weights(place: str) -> Path:
    """The safetensors file that a file, a folder, "pocket" (the shipped model) or the name of a model on the hub leads
    to.

    Raises `WeightsError` if there is none.
    """
    path = model_at(Path(place).expanduser())
    if path.is_file():
        if path.suffix != ".safetensors":
            raise WeightsError(f"{path}: not a safetensors file, and nothing else is loaded; {_how_to_convert(path)}")
        return path
    if path.is_dir():
        return _in_folder(path)
    if path.suffix in (*PICKLES, ".safetensors"):
        raise WeightsError(f"{place}: no such file or folder")
    require_hub(place, SAFE_WEIGHTS_NAME)
    try:
        return Path(cached_file(place, SAFE_WEIGHTS_NAME))
    except OSError as error:
        raise WeightsError(
            f"{place}: {SAFE_WEIGHTS_NAME} cannot be had from the hub; if it holds a pickle alone, download that and "
            f"{_how_to_convert(Path('FILE.bin'))} ({error})"
        ) from None


def find_beside(place: str | os.PathLike[str], name: str) -> Path | None:
    """A file that a model in a folder or on the hub may have or not; None where it has none, or none on this machine
    while the hub cannot be asked."""
    found = cached_file(
        str(place),
        name,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return None if found is None else Path(found)


def read_weights(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{file}: not a whole safetensors file: {error}") from None


def check_fit(what: str, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Raises `WeightsError` that lists what is missing, unexpected or of another shape."""
    missing, unexpected = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    misshapen = sorted(
        f"{name} {tuple(found[name].shape)} for {tuple(expected[name].shape)}"
        for name in expected.keys() & found.keys()
        if found[name].shape != expected[name].shape
    )
    if missing or unexpected or misshapen:
        raise WeightsError(
            f"{what}: missing {missing or 'none'}; unexpected {unexpected or 'none'}; "
            f"of another shape {misshapen or 'none'}"
        )


@dataclass(frozen=True)
class KeyReport:
    """What became of the tensors of a file."""

    file: Path
    prefix: str
    """Of the names that were loaded."""
    loaded: int
    left_aside: Mapping[str, int]
    """How many tensors the file holds beside them, by the first part of their names."""

    def __str__(self) -> str:
        aside = ", ".join(f"{name} ({count})" for name, count in self.left_aside.items())
        return (
            f"{self.file}: {self.loaded} tensors loaded"
            + (f" from under {self.prefix!r}" if self.prefix else "")
            + (f"; left aside: {aside}" if aside else "")
        )


def load_module(module: nn.Module, file: Path, landmark: str) -> KeyReport:
    """Fill a module from a file that holds it, alone or under a prefix beside other things; strictly.

    `landmark` is the name of a tensor of the module by which it is found in the file. Raises `WeightsError` if it is
    not there exactly once, or if anything under its prefix is missing, unexpected or of another shape.
    """
    state = read_weights(file)
    prefixes = [name.removesuffix(landmark) for name in state if name == landmark or name.endswith(f".{landmark}")]
    if len(prefixes) != 1:
        places = f"in {len(prefixes)} places ({', '.join(prefixes)})" if prefixes else "nowhere"
        some = ", ".join([*state][:3])
        raise WeightsError(f"{file}: {landmark} has to be in it once and is {places}; it holds {some}, ..")
    (prefix,) = prefixes
    own = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    check_fit(f"{file} does not fit", module.state_dict(), own)
    module.load_state_dict(own)
    aside = Counter(name.partition(".")[0] for name in state if not name.startswith(prefix))
    return KeyReport(file, prefix, len(own), dict(sorted(aside.items())))


def digest(tensors: Mapping[str, Tensor]) -> str:
    """A short hash over names and values (as float32)."""
    hasher = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        hasher.update(name.encode())
        hasher.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return hasher.hexdigest()[:16]


def convert_pickle(source: Path, target: Path) -> dict[str, Tensor]:
    """Write the tensors of a PyTorch pickle as safetensors, and return them.

    PyTorch reads tensors and plain containers and refuses everything else (`weights_only`). A checkpoint that keeps its
    weights under `state_dict` is understood. Raises `WeightsError`.
    """
    if target.suffix != ".safetensors":
        raise WeightsError(f"{target}: name a file that ends in .safetensors")
    try:
        content = torch.load(source, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise WeightsError(f"{source}: no such file") from None
    except Exception as error:  # bytes that are no pickle are read as one until anything fails
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise WeightsError(f"{source}: not a PyTorch file of tensors alone: {reason}") from None
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not content:
        raise WeightsError(f"{source}: holds {type(content).__name__}, not tensors by name")
    if others := [str(name) for name, value in content.items() if not isinstance(value, Tensor)]:
        raise WeightsError(f"{source}: these are not tensors: {', '.join(others[:5])}")
    tensors = {str(name): tensor.detach().clone().contiguous() for name, tensor in content.items()}
    with atomic_path(target) as temporary:
        save_file(tensors, temporary)
    return tensors

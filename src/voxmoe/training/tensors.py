"""Named tensors in a safetensors file that tells whether it is whole."""

import json
from pathlib import Path

from safetensors.torch import load_file, save
from torch import Tensor
from zlib_ng import zlib_ng

from voxmoe.files import write_bytes
from voxmoe.training.cache import mark_used

_LENGTH_BYTES = 8
"""At the start of a file: the length of its header, which comes next."""


def _parts(content: bytes) -> tuple[bytes, bytes]:
    """Header and data of a file."""
    end = _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES], "little")
    return content[_LENGTH_BYTES:end], content[end:]


def write_tensors(path: Path, tensors: dict[str, Tensor], told: dict[str, str] | None = None) -> None:
    """Write atomically, with a checksum of the data and what else is `told` in the header."""
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    _, data = _parts(save(whole))
    write_bytes(path, save(whole, {"crc32": str(zlib_ng.crc32(data)), **(told or {})}))


def is_intact(path: Path) -> bool:
    """Whether the file is there and holds what was written; if so, it counts as used now."""
    try:
        header, data = _parts(path.read_bytes())
        intact = bool(json.loads(header)["__metadata__"]["crc32"] == str(zlib_ng.crc32(data)))
    except (OSError, ValueError, KeyError, TypeError):
        return False
    if intact:
        mark_used(path)
    return intact


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors, mapped from the file: they take memory only when they are read."""
    return load_file(path)


def told(path: Path) -> dict[str, str]:
    """What was told when an intact file was written."""
    header, _ = _parts(path.read_bytes())
    found: dict[str, str] = json.loads(header)["__metadata__"]
    return found

"""The slices of CT volumes as a reader takes them: drawn once, kept on disk, read batch by batch.

The key of an entry is what decides it: the voxels and their size, slope and intercept that were still to be applied,
the settings of the pictures, and the code that draws them.

Shapes: D slice, C channel, H W pixels, L label, N patch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from safetensors import safe_open
from torch import Tensor

from voxmoe.imaging import ct, dicom, grid, hounsfield, volume, windows
from voxmoe.imaging.ct import read_ct
from voxmoe.imaging.hounsfield import Rescale
from voxmoe.imaging.study import check_same_grid
from voxmoe.imaging.volume import read_mask
from voxmoe.imaging.windows import PictureSettings, label_shares, to_pictures
from voxmoe.training.cache import PICTURES, code_digest, key_of, place
from voxmoe.training.digests import CT, MASK, FileStates, volume_digest
from voxmoe.training.studies import ahead
from voxmoe.training.tensors import is_intact, read_tensors, write_tensors

Report = Callable[[str, int, int], None]
_PIXELS, _SHARES = "pixels", "shares"
_DRAWING = tuple(module.__name__ for module in (ct, dicom, grid, hounsfield, volume, windows))
"""The modules that make pictures of files."""


@dataclass(frozen=True)
class Scan:
    """A CT on disk: its file or folder, what its values still need, and a mask of its tissues, if there is one."""

    image: Path
    rescale: Rescale | None = None
    mask: Path | None = None


class PictureCache:
    """Pictures by one setting; with `labels`, also how much of each of `cells` x `cells` patches each label covers."""

    def __init__(self, settings: PictureSettings, labels: Sequence[int] = (), cells: int = 1) -> None:
        self.settings = settings
        self.labels = tuple(labels)
        self.cells = cells
        code = code_digest([*_DRAWING, __name__])
        asked = settings.model_dump(mode="json")
        self._decided = key_of(settings=asked, labels=self.labels, cells=cells, code=code)

    def _path(self, digests: Mapping[str, str], rescale: Rescale | None) -> Path:
        told = None if rescale is None else [rescale.slope, rescale.intercept]
        return place(PICTURES, key_of(drawn=self._decided, images=digests, rescale=told), ".safetensors")

    def _files(self, scan: Scan) -> dict[str, Path]:
        return {CT: scan.image} | ({MASK: scan.mask} if self.labels and scan.mask is not None else {})

    def of(self, scan: Scan) -> Path:
        """The file of a scan's pictures, drawn unless it is there; raises `ImageError` for what is no CT and
        `StudyError` for a mask that lies on another grid."""
        files = self._files(scan)
        states = FileStates(files)
        digests = states.remembered() if scan.image.is_file() else None
        if digests is not None and is_intact(path := self._path(digests, scan.rescale)):
            return path
        found = read_ct(scan.image, scan.rescale)
        mask = read_mask(files["mask"]) if "mask" in files else None
        if mask is not None:
            check_same_grid(found, mask)
        digests = {CT: volume_digest(found)} | ({MASK: volume_digest(mask)} if mask is not None else {})
        path = self._path(digests, scan.rescale)
        tensors = {_PIXELS: torch.from_numpy(to_pictures(found, self.settings))}
        if mask is not None:
            tensors[_SHARES] = torch.from_numpy(label_shares(mask, self.labels, self.settings, self.cells)).half()
        write_tensors(path, tensors, {"image": scan.image.name})
        if scan.image.is_file():
            states.remember(digests)
        return path

    def of_all(self, scans: Mapping[str, Scan], report: Report) -> "KeptPictures":
        """The pictures of all scans, by name."""
        paths = {}
        for name, path in zip(scans, ahead(self.of, scans.values()), strict=True):
            paths[name] = path
            report("drawing slices", len(paths), len(scans))
        return KeptPictures(paths)


class KeptPictures:
    """The pictures of scans by name, read from disk whenever they are asked for."""

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self.paths = paths

    def depth(self, name: str) -> int:
        """How many slices a scan has."""
        with safe_open(self.paths[name], framework="pt") as file:
            depth: int = file.get_slice(_PIXELS).get_shape()[0]
        return depth

    def pixels(self, name: str, number: int | None = None) -> UInt8[Tensor, "D C H W"]:
        """All slices of a scan, or one."""
        return self._part(name, _PIXELS, number)

    def shares(self, name: str, number: int | None = None) -> Float[Tensor, "D L N"]:
        """How much of each patch each label covers, of all slices or of one."""
        return self._part(name, _SHARES, number).float().flatten(2)

    def _part(self, name: str, what: str, number: int | None) -> Tensor:
        tensor = read_tensors(self.paths[name])[what]
        return tensor if number is None else tensor[number : number + 1]

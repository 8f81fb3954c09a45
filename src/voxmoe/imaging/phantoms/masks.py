"""The masks of real studies as moulds: a folder -> which part of a lesion lies where, in template mm.

Nothing else of a patient is kept: no intensity, no name, no path, no date; a digest of the content tells masks apart.
Each is read once and packed, about 30 kB a mask, so that thousands fit into memory and go to other processes.
"""

import hashlib
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cc3d
import numpy as np
from jaxtyping import Bool, Float, UInt8

from voxmoe.errors import LabelError, StudyError, VoxmoeError
from voxmoe.imaging.grid import Box, bounding_box
from voxmoe.imaging.layouts import find_masks, require_profile
from voxmoe.imaging.parts import PART_KEYS, Part, label_parts
from voxmoe.imaging.phantoms.geometry import Point, Shape, as_point
from voxmoe.imaging.phantoms.template import load_template
from voxmoe.imaging.spaces import SPACES, space_of
from voxmoe.imaging.study import StudyFiles, check_same_grid, load_mask
from voxmoe.imaging.volume import Volume, label_values, scan_image
from voxmoe.vocabulary import Profile

_BRAIN_LITRES = (0.7, 2.2)
"""What is not zero in an image must be as much as a brain, or it says nothing of where the brain is."""
_EVERY = 3
"""Voxels between those by which a brain is measured."""
_TOLD = 3
"""As many reasons are told where no mask can be used."""


@dataclass(frozen=True, eq=False)
class RealMask:
    """One lesion, or all lesions of a study: its parts on voxels of its own and where these lie in the template."""

    digest: str
    shape: Shape
    packed: bytes
    to_mni: Float[np.ndarray, "4 4"]
    """From its voxels to template mm."""
    centre_mni: Point
    """Of the largest piece of what takes up room, of everything where nothing does."""
    solid: float
    """Volume of that piece in percent of the brain."""
    hollow: bool
    """Whether any of it is a resection cavity."""

    @property
    def parts(self) -> UInt8[np.ndarray, "X Y Z"]:
        """The part that each voxel shows, 0 for none and so all around."""
        flat: np.ndarray = np.frombuffer(zlib.decompress(self.packed), dtype=np.uint8)
        return flat.reshape(self.shape, order="F")


@dataclass(frozen=True, eq=False)
class Masks:
    """The masks of a folder, each once and in the order of their digests: where they lie and what they are called
    changes nothing."""

    kept: tuple[RealMask, ...]
    skipped: tuple[str, ...] = ()
    """Why each of the others cannot be used, with its path."""

    @cached_property
    def by_digest(self) -> Mapping[str, RealMask]:
        return {mask.digest: mask for mask in self.kept}

    @cached_property
    def digest(self) -> str:
        """What tells these masks, all together, from others."""
        return hashlib.sha256("".join(mask.digest for mask in self.kept).encode()).hexdigest()


def _spread(points: Float[np.ndarray, "P 3"]) -> tuple[Float[np.ndarray, " 3"], Float[np.ndarray, " 3"]]:
    return points.mean(axis=0), points.std(axis=0)


def _some_voxels(brain: Bool[np.ndarray, "X Y Z"]) -> Float[np.ndarray, "P 3"]:
    return np.argwhere(brain[::_EVERY, ::_EVERY, ::_EVERY]) * float(_EVERY)


def _fitted(brain: Bool[np.ndarray, "X Y Z"], rough: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "4 4"]:
    """A way to template mm that gives a brain the template's place and size along each axis: its mean and deviation,
    which what is left of the skull hardly moves, where it would move a box."""
    template = load_template()
    mean, deviation = _spread(_some_voxels(brain) @ rough[:3, :3].T + rough[:3, 3])
    wanted, width = _spread(_some_voxels(template.maps["depth"] > 0) + template.origin_mni)
    fit = np.diag([*(width / deviation), 1.0])
    fit[:3, 3] = wanted - width / deviation * mean
    return np.asarray(fit @ rough)


def _to_mni(files: StudyFiles, mask: Volume) -> Float[np.ndarray, "4 4"]:
    """From a mask's voxels to template mm: by the standard space that its layout or its grid names, then by the size of
    the study's own brain, which such a space, entered without stretching, leaves as it is.

    Either can be missing: masks alone have no brain, studies on the scanner's grid no space.
    """
    named = next((space for space in SPACES if space.name == files.space), None)
    space = named or space_of(mask)
    rough = mask.affine if space is None else np.asarray(np.linalg.inv(space.from_mni152) @ mask.affine)
    if files.images:
        image = scan_image(next(iter(files.images.values())))
        check_same_grid(image, mask)
        brain = image.data != 0
        litres = float(np.count_nonzero(brain) * image.voxel_mm3 / 1e6)
        low, high = _BRAIN_LITRES
        if low < litres < high:
            return _fitted(brain, rough)
        found = f"{litres:.2g} litres of its image are not 0, so that is no skull-stripped brain ({low:g} to {high:g})"
    else:
        found = "there is no image beside it"
    if space is None:
        raise StudyError(
            f"{mask.source}: nothing shows where in the brain it lies: its grid ({mask.describe_grid()}) is neither "
            f"that of SRI24 nor of MNI152, and {found}"
        )
    return rough


def _main_piece(parts: UInt8[np.ndarray, "X Y Z"]) -> Bool[np.ndarray, "X Y Z"]:
    solid = parts > Part.HALO
    pieces = cc3d.connected_components(solid if solid.any() else parts > 0, connectivity=26)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return np.asarray(pieces == sizes.argmax())


def _mould(parts: UInt8[np.ndarray, "X Y Z"], to_mni: Float[np.ndarray, "4 4"]) -> RealMask:
    place = np.round(to_mni, 4) + 0.0  # so that every machine comes to the same digest
    content = parts.tobytes(order="F")
    x, y, z = parts.shape
    solid = parts > Part.HALO
    piece = _main_piece(parts)
    centre = place[:3, :3] @ np.argwhere(piece).mean(axis=0) + place[:3, 3]
    brain = int((load_template().maps["depth"] > 0).sum())
    volume = float((piece & solid).sum() * abs(np.linalg.det(place[:3, :3])))
    return RealMask(
        digest=hashlib.sha256(repr((parts.shape, place.tolist())).encode() + content).hexdigest(),
        shape=(x, y, z),
        packed=zlib.compress(content),
        to_mni=place,
        centre_mni=as_point(centre),
        solid=100 * volume / brain,
        hollow=bool((parts == Part.CAVITY).any()),
    )


def _parts_of(mask: Volume, profile: Profile, box: Box) -> UInt8[np.ndarray, "X Y Z"]:
    """The parts in a box of a mask, with one voxel of nothing all around; raises `LabelError` for labels that are no
    part."""
    table = label_parts(profile)
    nameless = {profile.by_value[int(value)].key for value in label_values(mask) if not table[value]}
    if nameless:
        known = ", ".join(sorted({key for keys in PART_KEYS.values() for key in keys}))
        raise LabelError(
            f"{mask.source}: {', '.join(sorted(nameless))} is no part of a lesion that phantoms have ({known})"
        )
    return np.asfortranarray(np.pad(table[mask.data[box.slices]], 1))


def _read(files: StudyFiles, profile: str | None) -> RealMask:
    """Raises `VoxmoeError` that names the file if it cannot be used."""
    known = require_profile(files, profile).profile
    assert files.mask is not None
    assert known is not None
    mask = load_mask(files.mask, known)
    if not mask.data.any():
        raise StudyError(f"{mask.source}: shows no lesion")
    box = bounding_box(mask.data)
    parts = _parts_of(mask, known, box)
    to_mni = _to_mni(files, mask).copy()
    to_mni[:3, 3] += to_mni[:3, :3] @ (np.array(box.start) - 1)
    return _mould(parts, to_mni)


def read_masks(
    folder: Path | str, profile: str | None = None, progress: Callable[[int, int], None] = lambda done, total: None
) -> Masks:
    """The masks of all studies at or below a folder, in any layout, and of masks that lie there alone.

    `profile` names the release whose label values they hold, where neither layout nor names do. Masks that cannot be
    used (no lesion, unknown values, a damaged file) are left out and listed in `skipped`. Raises `StudyError` if there
    is no such folder, no mask in it, or none that can be used.
    """
    found = find_masks(folder, profile)
    kept: dict[str, RealMask] = {}
    skipped = []
    for done, files in enumerate(found):
        progress(done, len(found))
        try:
            mask = _read(files, profile)
        except VoxmoeError as error:
            skipped.append(str(error))
        else:
            kept[mask.digest] = mask
    progress(len(found), len(found))
    if not kept:
        told = "; ".join(skipped[:_TOLD]) + (" .." if len(skipped) > _TOLD else "")
        raise StudyError(f"{folder}: none of its {len(found)} masks can be used: {told}")
    return Masks(tuple(kept[digest] for digest in sorted(kept)), tuple(skipped))

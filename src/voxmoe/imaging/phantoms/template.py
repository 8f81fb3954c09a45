"""The ICBM152 template (T1, grey and white matter at 1 mm, from the nilearn wheel's package data) as maps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Bool, Float, Float32
from scipy import ndimage

from voxmoe.files import packaged
from voxmoe.imaging.grid import bounding_box
from voxmoe.imaging.phantoms.geometry import Field, Shape

_FILE = "datasets/data/mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"


@dataclass(frozen=True, eq=False)
class Template:
    """The template's maps in 0 to 1 or mm, where their first voxel lies, and where lesions can begin."""

    maps: Mapping[str, Field]
    """`depth` below the brain's surface and distance from the `ventricle`s in mm; `grey` and `white` matter in 0 to
    1."""
    origin_mni: Float[np.ndarray, " 3"]
    sites: Mapping[str, Float[np.ndarray, "P 3"]]

    @property
    def shape(self) -> Shape:
        x, y, z = self.maps["grey"].shape
        return x, y, z

    def averaged(self, step: int) -> Mapping[str, Field]:
        """The maps on voxels of `step` mm, of which the first begins with the first of the maps."""
        return self.maps if step == 1 else _averaged(step)


def deep_share(mni: Sequence[Float32[np.ndarray, "..."]], depth: Float32[np.ndarray, "..."]) -> np.ndarray:
    """How far, at template mm, grey matter is that of the basal ganglia and the thalamus, 0 to 1."""
    x, y, z = mni
    away = np.square(np.square(x / 35)) + np.square(np.square((y + 5) / 30)) + np.square(np.square((z - 3) / 18))
    share: np.ndarray = np.clip(5.5 - 5 * away, 0, 1) * np.clip(depth - 23.5, 0, 1)
    return share


def dural_folds(mni: Sequence[Float32[np.ndarray, " N"]]) -> Float32[np.ndarray, " N"]:
    """How much of each voxel of 1 mm, at template mm, falx and tentorium fill: sheets about a millimetre thick."""
    x, y, z = mni
    share = np.zeros(x.shape, dtype=np.float32)
    at = np.flatnonzero(np.abs(x) < 1)
    middle, above = y[at], z[at]
    around = np.square((middle + 18) / 60) + np.square((above - 2) / 38) > 1  # over the corpus callosum
    share[at] = (1 - np.abs(x[at])) * (around & (above > np.where(middle > 0, -15, 2)))
    beside = np.abs(x)
    # from the straight sinus down to the transverse sinuses
    at = np.flatnonzero((np.abs(z - 15.2 - 0.22 * y + 0.65 * beside) < 1.2) & (y < -20) & (beside < 52))
    side, behind = beside[at], y[at]
    open_front = np.square(side / 17) + np.square((behind + 25) / 20) < 1  # for the brainstem
    away = np.abs(z[at] - 15.2 - 0.22 * behind + 0.65 * side) / np.float32(1.2)
    share[at] = np.maximum(share[at], (1 - away) * ~open_front)
    return share


def template_path(kind: str) -> Path:
    return packaged("nilearn", _FILE.format(kind))


def _read_map(kind: str) -> tuple[Field, Float[np.ndarray, " 3"]]:
    image = nib.load(template_path(kind))
    return np.asarray(image.dataobj, dtype=np.float32) / 255, np.asarray(image.affine, dtype=float)[:3, 3]


def _signed_distance(region: Bool[np.ndarray, "X Y Z"]) -> Field:
    """Distance in voxels from the border of a region that is left-right symmetric, positive outside.

    The template is symmetric: what is nearest lies in the same half, so one half is measured and mirrored.
    """
    half = region[: (len(region) + 1) // 2]
    distance = (ndimage.distance_transform_edt(~half) - ndimage.distance_transform_edt(half)).astype(np.float32)
    return np.concatenate([distance, distance[: len(region) // 2][::-1]])


def _grid_mni(shape: Shape, origin: Float[np.ndarray, " 3"]) -> list[Float32[np.ndarray, "..."]]:
    return [
        (axis + start).astype(np.float32)
        for axis, start in zip(np.ogrid[tuple(map(slice, shape))], origin, strict=True)
    ]


def _ventricles(csf: Field, depth: Field, origin: Float[np.ndarray, " 3"]) -> Bool[np.ndarray, "X Y Z"]:
    x, y, z = _grid_mni(csf.shape, origin)
    cerebral = (np.abs(x) < 42) & (y > -55) & (y < 40) & (z > -18) & (z < 32) & (depth > 14)
    fourth = (np.abs(x) < 12) & (y > -52) & (y < -33) & (z > -45) & (z < -20)
    labels, _ = ndimage.label((csf > 0.5) & cerebral)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray((sizes[labels] > 400) | ((csf > 0.5) & fourth))


def _maps(
    grey: Field, white: Field, brain: Bool[np.ndarray, "X Y Z"], origin: Float[np.ndarray, " 3"]
) -> dict[str, Field]:
    depth = np.clip(-_signed_distance(brain), -12, 40)
    csf = np.clip(1 - grey - white, 0, 1) * brain
    ventricle = np.clip(_signed_distance(_ventricles(csf, depth, origin)), -12, 60)
    bulk = ndimage.gaussian_filter(grey, 2)
    # the template takes the mixture of fluid and white matter around the ventricles for grey
    lining = grey * np.clip((3 - ventricle) / 1.5, 0, 1) * np.clip((0.55 - bulk) / 0.1, 0, 1)
    x = _grid_mni(grey.shape, origin)[0]
    return {
        "depth": depth,
        "grey": grey - lining,
        "white": white + lining * np.clip((ventricle + 0.5) / 2, 0, 1),
        # wide ventricles are wide at their sides: stretched near the midline, distances let less be added there
        "ventricle": np.where(ventricle > 0, ventricle * (1 + 2 * np.exp(-((x / 6) ** 2))), ventricle),
    }


@lru_cache(maxsize=2)
def _averaged(step: int) -> Mapping[str, Field]:
    def means(field: Field) -> Float32[np.ndarray, "A B C"]:
        blocks = np.pad(field, [(0, -size % step) for size in field.shape], mode="edge")
        x, y, z = (size // step for size in blocks.shape)
        averaged: np.ndarray = blocks.reshape(x, step, y, step, z, step).mean(axis=(1, 3, 5))
        return np.asfortranarray(averaged)

    return {name: means(field) for name, field in load_template().maps.items()}


def _sites(maps: Mapping[str, Field], origin: Float[np.ndarray, " 3"]) -> dict[str, Float[np.ndarray, "P 3"]]:
    """Template mm at which a lesion of each kind can begin."""
    x, y, z = _grid_mni(maps["grey"].shape, origin)
    below = (z < -18) & (y < -38) & (z > -55)
    stem = (np.abs(x) < 12) & (y > -42) & (y < -16) & (z < -14) & (z > -50) & (maps["depth"] > 4)
    cerebrum = ~below & (z > -28) & ~stem
    white, grey, depth = maps["white"], maps["grey"], maps["depth"]
    regions = {
        "white matter": (white > 0.6) & cerebrum & (depth > 8),
        "junction": (white > 0.25) & (grey > 0.35) & cerebrum & (depth > 4) & (depth < 16),
        "cerebellum": (white + grey > 0.9) & below & (depth > 6),
        "brainstem": (white + grey > 0.7) & stem,
        "deep": (deep_share((x, y, z), depth) > 0.5) & cerebrum,
        "surface": (depth > 1) & (depth < 5) & (z > -20),
    }
    return {name: np.argwhere(region)[::7].astype(float) + origin for name, region in regions.items()}


@lru_cache(maxsize=1)
def load_template() -> Template:
    """The template, cropped to the brain. Raises `AtlasError` if the files are not there."""
    t1, origin = _read_map("t1")
    brain = ndimage.binary_fill_holes(ndimage.binary_opening(t1 > 0.2, iterations=2))
    box = bounding_box(brain)
    start = [max(first - 10, 0) for first in box.start]
    crop = tuple(slice(first, stop + 10) for first, stop in zip(start, box.stop, strict=True))
    origin = origin + start
    maps = _maps(_read_map("gm")[0][crop], _read_map("wm")[0][crop], brain[crop], origin)
    # the first axis closest in memory, as in the images that are drawn from it
    return Template({name: np.asfortranarray(field) for name, field in maps.items()}, origin, _sites(maps, origin))

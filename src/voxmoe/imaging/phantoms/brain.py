"""A brain of its own for every study: the template's maps, warped and sampled once, as fractions of tissue."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import cc3d
import numpy as np
from jaxtyping import Bool
from scipy import ndimage

from voxmoe.imaging.grid import bounding_box
from voxmoe.imaging.phantoms.anatomy import Anatomy
from voxmoe.imaging.phantoms.geometry import Flat
from voxmoe.imaging.phantoms.noise import linear_weights, separable
from voxmoe.imaging.phantoms.template import deep_share, load_template
from voxmoe.imaging.phantoms.vessels import plexus_map, vessel_map
from voxmoe.imaging.phantoms.voxels import Raster, Voxels
from voxmoe.imaging.phantoms.warp import Push, Warp, sample

_MARGIN_MM = 4.0
"""How far around the brain tissue is drawn, so that blurring at its border finds something to mix."""
_COARSE = 3


@dataclass(frozen=True, eq=False)
class Brain:
    """The tissue of each drawn voxel, in 0 to 1."""

    voxels: Voxels
    inside: Bool[np.ndarray, " N"]
    """Which of the drawn voxels the skull-stripped brain keeps."""
    depth: Flat
    """Distance in mm from the brain's surface, negative outside."""
    ventricle: Flat
    """Distance in mm from the ventricles' walls, negative within."""
    csf: Flat
    grey: Flat
    white: Flat
    deep: Flat
    vessel: Flat
    plexus: Flat


def _candidates(warp: Warp, raster: Raster) -> Voxels:
    """The voxels that can be brain: found on every third voxel, widened by one of those."""
    coarse = warp.coordinates(raster.lines(raster.whole, _COARSE))
    depth = load_template().maps["depth"]
    near = [
        np.clip(np.rint(axis), 0, size - 1).astype(np.int32) for axis, size in zip(coarse, depth.shape, strict=True)
    ]
    fine: np.ndarray = ndimage.maximum_filter(depth[tuple(near)] > -np.float32(_MARGIN_MM + 1), size=3)
    for axis in range(3):
        fine = np.repeat(fine, _COARSE, axis=axis)
    fine = fine[tuple(map(slice, raster.shape))]
    box = bounding_box(fine)
    return Voxels(raster, box, np.flatnonzero(fine[box.slices].ravel(order="F")))


def _tissues(anatomy: Anatomy, sampled: Mapping[str, Flat], noise: Callable[[float], Flat]) -> dict[str, Flat]:
    """Fractions of fluid, grey, white and deep grey matter that add up to 1, with folds of their own."""
    grey, white = np.clip(sampled["grey"], 0, 1), np.clip(sampled["white"], 0, 1)
    csf = np.clip(1 - grey - white, 0.01, 1)
    ventricle = sampled["ventricle"] - np.float32(anatomy.ventricles)
    folding = np.float32(anatomy.folding)
    cortical = np.clip((sampled["depth"] + 1) / 3, 0, 1) * np.clip((ventricle - 4) / 6, 0, 1)
    csf = csf**1.6 * np.exp(cortical * (np.float32(anatomy.sulci + 0.4) + folding * noise(4.5)))
    white = white**1.5 * np.exp(cortical * 0.8 * folding * noise(6.0))
    grey = np.maximum(grey**1.5, np.clip(-sampled["depth"], 0, 0.5))
    total = csf + grey + white
    fluid = np.clip(0.5 - ventricle / 1.2, 0, 1)
    shell = np.clip(1 - sampled["depth"], 0, 1) * np.clip(0.45 + 0.4 * noise(9.0), 0, 1)
    fluid = np.maximum(fluid, shell)
    solid = (1 - fluid) / total
    deep = grey * solid * sampled["deep"]
    return {
        "csf": csf * solid + fluid,
        "grey": grey * solid - deep,
        "white": white * solid,
        "deep": deep,
        "ventricle": ventricle,
    }


def _largest_piece(inside: Bool[np.ndarray, " N"], voxels: Voxels) -> Bool[np.ndarray, " N"]:
    labels = voxels.flat(cc3d.connected_components(voxels.volume(inside.view(np.uint8)), connectivity=6))
    sizes = np.bincount(labels)
    sizes[0] = 0
    return np.asarray(labels == sizes.argmax())


def _sampled(warp: Warp, voxels: Voxels) -> dict[str, Flat]:
    """The template's maps at the drawn voxels; distances, which are smooth, on a grid of 2 mm in between."""
    template, raster = load_template(), voxels.raster
    maps = template.at_spacing(raster.spacing)
    tissue = {name: maps[name] for name in ("grey", "white")}
    coordinates = [voxels.flat(axis) for axis in warp.coordinates(voxels.lines)]
    sampled = dict(zip(tissue, sample(list(tissue.values()), coordinates), strict=True))
    step = max(round(2 / raster.spacing), 1)
    coarse = warp.coordinates(raster.lines(voxels.box, step))
    shape = coarse[0].shape
    distances = ("depth", "ventricle")
    flat = [axis.ravel(order="F") for axis in coarse]
    for name, values in zip(distances, sample([maps[name] for name in distances], flat), strict=True):
        weights = [linear_weights(size, step) for size in voxels.shape]
        sampled[name] = voxels.flat(separable(values.reshape(shape, order="F"), weights))
    mni = [axis + np.float32(start) for axis, start in zip(coordinates, template.origin_mni, strict=True)]
    return sampled | {"deep": deep_share(mni, sampled["depth"])}


def grow_brain(anatomy: Anatomy, pushes: Sequence[Push], raster: Raster) -> Brain:
    """The brain that the parameters describe. Raises `MissingPackageError` without the template."""
    warp = Warp(anatomy, pushes)
    voxels = _candidates(warp, raster)
    sampled = _sampled(warp, voxels)
    noise = partial(voxels.noise, np.random.default_rng([anatomy.seed, 3]))
    tissues = _tissues(anatomy, sampled, noise)
    edge = anatomy.strip_offset + anatomy.strip_roughness * noise(14.0)
    inside = _largest_piece(sampled["depth"] > np.clip(edge, -_MARGIN_MM + 1, 4), voxels)
    vessel = vessel_map(anatomy, warp, voxels)
    plexus = plexus_map(anatomy, warp, voxels, tissues["ventricle"])
    return Brain(voxels, inside, sampled["depth"], vessel=vessel, plexus=plexus, **tissues)

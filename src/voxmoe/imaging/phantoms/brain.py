"""A brain of its own for every study: the template's maps, warped and sampled once, as fractions of tissue."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import cc3d
import numpy as np
from jaxtyping import Bool
from scipy import ndimage

from voxmoe.imaging.grid import Box, bounding_box
from voxmoe.imaging.phantoms.anatomy import Anatomy
from voxmoe.imaging.phantoms.geometry import Flat, in_chunks
from voxmoe.imaging.phantoms.noise import line_places, linear_weights, separable
from voxmoe.imaging.phantoms.template import deep_share, dural_folds, load_template
from voxmoe.imaging.phantoms.vessels import plexus_map, vessel_map
from voxmoe.imaging.phantoms.voxels import Raster, Voxels
from voxmoe.imaging.phantoms.warp import COARSE, Push, Warp, sample

_MARGIN_MM = 4.0
"""How far around the brain tissue is drawn, so that blurring at its border finds something to mix."""


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
    dural_folds: Flat
    """Falx and tentorium."""


def _candidates(warp: Warp, raster: Raster) -> Voxels:
    """The voxels that can be brain: found at coarse places, widened by one of those."""
    depth = load_template().maps["depth"]
    near = [
        np.clip(np.rint(axis), 0, size - 1).astype(np.int32)
        for axis, size in zip(warp.coarse, depth.shape, strict=True)
    ]
    coarse = ndimage.maximum_filter(depth[tuple(near)] > -np.float32(_MARGIN_MM + 1), size=3)
    nearest = [
        np.clip(np.rint(line_places(line) / COARSE), 0, size - 1).astype(np.int32)
        for line, size in zip(raster.lines(raster.whole), coarse.shape, strict=True)
    ]
    around = bounding_box(coarse)
    spans = [
        np.flatnonzero((near >= start) & (near < stop))
        for near, start, stop in zip(nearest, around.start, around.stop, strict=True)
    ]
    x, y, z = (near[span] for near, span in zip(nearest, spans, strict=True))
    (x0, x1), (y0, y1), (z0, z1) = ((int(span[0]), int(span[-1]) + 1) for span in spans)
    box = Box((x0, y0, z0), (x1, y1, z1))
    return Voxels(raster, box, np.flatnonzero(coarse.T[np.ix_(z, y, x)]))


def _tissues(anatomy: Anatomy, at: Mapping[str, Flat]) -> dict[str, Flat]:
    """Fractions of fluid, grey, white and deep grey matter that add up to 1, with folds of their own."""
    grey, white = np.clip(at["grey"], 0, 1), np.clip(at["white"], 0, 1)
    csf = np.clip(1 - grey - white, 0.01, 1)
    ventricle = at["ventricle"] - np.float32(anatomy.ventricles)
    folding = np.float32(anatomy.folding)
    cortical = np.clip((at["depth"] + 1) / 3, 0, 1) * np.clip((ventricle - 4) / 6, 0, 1)
    csf = csf**1.6 * np.exp(cortical * (np.float32(anatomy.sulci + 0.4) + folding * at["fine folds"]))
    white = white**1.5 * np.exp(cortical * 0.8 * folding * at["folds"])
    grey = np.maximum(grey**1.5, np.clip(-at["depth"], 0, 0.5))
    total = csf + grey + white
    fluid = np.clip(0.5 - ventricle / 1.2, 0, 1)
    shell = np.clip(1 - at["depth"], 0, 1) * np.clip(0.45 + 0.4 * at["shell"], 0, 1)
    fluid = np.maximum(fluid, shell)
    solid = (1 - fluid) / total
    deep = grey * solid * at["deep"]
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
    template, spacing = load_template(), voxels.raster.spacing
    coordinates = [voxels.flat(axis) for axis in warp.coordinates(voxels.lines)]
    step = max(int(spacing), 1)
    tissue = ("grey", "white")
    maps = template.averaged(step)
    sampled = dict(zip(tissue, sample([maps[name] for name in tissue], coordinates, step), strict=True))
    distances = ("depth", "ventricle")
    maps = template.averaged(2)
    every = max(round(2 / spacing), 1)
    between = warp.coordinates(voxels.raster.lines(voxels.box, every))
    flat = sample([maps[name] for name in distances], [axis.ravel(order="F") for axis in between], 2)
    weights = [linear_weights(size, every) for size in voxels.shape]
    for name, values in zip(distances, flat, strict=True):
        sampled[name] = voxels.flat(separable(values.reshape(between[0].shape, order="F"), weights))
    mni = [axis + np.float32(start) for axis, start in zip(coordinates, template.origin_mni, strict=True)]
    return sampled | {"deep": deep_share(mni, sampled["depth"]), "dural folds": dural_folds(mni)}


def grow_brain(anatomy: Anatomy, pushes: Sequence[Push], raster: Raster) -> Brain:
    """The brain that the parameters describe. Raises `MissingPackageError` without the template."""
    warp = Warp(anatomy, pushes)
    voxels = _candidates(warp, raster)
    noise = partial(voxels.noise, np.random.default_rng([anatomy.seed, 3]))
    at = _sampled(warp, voxels) | {"fine folds": noise(4.5), "folds": noise(6.0), "shell": noise(9.0)}
    tissues = in_chunks(partial(_tissues, anatomy), at)
    edge = anatomy.strip_offset + anatomy.strip_roughness * noise(14.0)
    inside = _largest_piece(at["depth"] > np.clip(edge, -_MARGIN_MM + 1, 4), voxels)
    vessel = vessel_map(anatomy, warp, voxels)
    plexus = plexus_map(anatomy, warp, voxels, tissues["ventricle"])
    return Brain(voxels, inside, at["depth"], vessel=vessel, plexus=plexus, dural_folds=at["dural folds"], **tissues)

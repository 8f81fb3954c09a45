"""Masks of nested balls whose place and volumes are known."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from voxmoe.imaging.spaces import MNI152, Space
from voxmoe.imaging.volume import Volume, write_volume

Ball = tuple[tuple[float, float, float], float, int]
"""Centre in template mm, radius in template mm, value."""
DEEP = (42.0, -53.0, 30.0)
"""A place amid white matter, 20 mm from any fluid of the template."""


def ball_mask(balls: list[Ball], space: Space = MNI152) -> Volume:
    """The later balls lie over the earlier ones."""
    to_mni = np.linalg.inv(space.from_mni152) @ space.affine
    index = np.stack(np.meshgrid(*(np.arange(size) for size in space.shape), indexing="ij", sparse=False), axis=-1)
    mni = index @ to_mni[:3, :3].T + to_mni[:3, 3]
    data = np.zeros(space.shape, np.uint8, order="F")
    for centre, radius, value in balls:
        data[((mni - centre) ** 2).sum(axis=-1) < radius**2] = value
    return Volume(data, space.affine, "balls", space.axes)


def write_masks(folder: Path, masks: Mapping[str, Volume]) -> Path:
    """Masks alone in one folder, by the names of their studies."""
    for name, volume in masks.items():
        write_volume(volume, folder / f"{name}_seg.nii.gz")
    return folder


def nested(centre: tuple[float, float, float] = DEEP, space: Space = MNI152) -> Volume:
    """Core in rim in halo, by the values of brats-2021."""
    return ball_mask([(centre, 16.0, 2), (centre, 12.0, 4), (centre, 8.0, 1)], space)

"""Signal to image: uneven sensitivity, noise, the resolution of the acquisition, stored intensities."""

from functools import lru_cache

import numpy as np
from jaxtyping import Int16
from scipy import ndimage, sparse

from voxmoe.imaging.phantoms.brain import Brain
from voxmoe.imaging.phantoms.contrasts import Contrast
from voxmoe.imaging.phantoms.draws import Rng
from voxmoe.imaging.phantoms.geometry import Field, Flat
from voxmoe.imaging.phantoms.noise import smooth_noise
from voxmoe.imaging.phantoms.signal import Scene, tissue_signal


def _shading(brain: Brain, contrast: Contrast, rng: Rng) -> Flat:
    """The coils' uneven sensitivity: slopes, a smooth field, and a gain towards the surface."""
    shape = brain.voxels.shape
    log = np.float32(contrast.bias) * smooth_noise(rng, shape, 55.0)
    slopes = [
        (np.arange(size, dtype=np.float32) / size - 0.5) * np.float32(1.6 * slope)
        for size, slope in zip(shape, contrast.shading, strict=True)
    ]
    for slope in np.ix_(*slopes):
        log += slope
    near = np.float32(contrast.rim_shading) * np.exp(-np.clip(brain.depth, 0, None) / 14)
    return np.asarray(np.exp(brain.voxels.flat(log) + near), dtype=np.float32)


@lru_cache(maxsize=64)
def _slice_profile(size: int, thickness: float) -> sparse.csr_array:
    """Averaging over slices of `thickness` voxels, and linear interpolation back to the grid."""
    count = max(int(np.ceil(size / thickness)), 2)
    centres = (np.arange(count) + 0.5) * thickness - 0.5
    grid = np.arange(size)[None, :]
    take = np.clip(thickness / 2 + 0.5 - np.abs(grid - centres[:, None]), 0, 1)
    take /= take.sum(axis=1, keepdims=True)
    give = np.clip(1 - np.abs(np.clip(grid, centres[0], centres[-1]).T - centres[None, :]) / thickness, 0, 1)
    return sparse.csr_array((give @ take).astype(np.float32))


def _resolved(volume: Field, contrast: Contrast) -> Field:
    """The resolution of the acquisition, on the grid's 1 mm voxels."""
    for axis, side in enumerate(contrast.blur):
        volume = ndimage.correlate1d(volume, np.array([side, 1 - 2 * side, side]), axis=axis, mode="nearest")
    if contrast.thickness > 1:
        weights = _slice_profile(volume.shape[contrast.thick_axis], contrast.thickness)
        front = np.moveaxis(volume, contrast.thick_axis, 0)
        thick = weights @ np.ascontiguousarray(front).reshape(front.shape[0], -1)
        volume = np.moveaxis(thick.reshape(front.shape), 0, contrast.thick_axis)
    return volume


def acquire(scene: Scene, contrast: Contrast) -> Int16[np.ndarray, "X Y Z"]:
    """One modality on the SRI24 grid, at least 1 in the brain and 0 elsewhere."""
    rng = np.random.default_rng(contrast.seed)
    brain, voxels = scene.brain, scene.brain.voxels
    image = tissue_signal(scene, contrast, rng)
    image = np.maximum(image, 0.01) ** np.float32(contrast.gamma) * _shading(brain, contrast, rng)
    sigma = np.float32(contrast.noise)
    real = image + sigma * rng.standard_normal(len(image), dtype=np.float32)
    image = np.hypot(real, sigma * rng.standard_normal(len(image), dtype=np.float32))
    volume = _resolved(voxels.volume(image), contrast)
    if contrast.cut:
        volume[round((1 - contrast.cut) * len(volume)) :] = 0.01
    stored = np.clip(np.rint(voxels.flat(volume) * np.float32(contrast.scale)), 1, 32000)
    return voxels.on_grid(stored.astype(np.int16) * brain.inside)

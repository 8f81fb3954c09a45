"""Signal to image: uneven sensitivity, noise, the resolution of the acquisition, stored intensities."""

from functools import lru_cache

import numpy as np
from jaxtyping import Float32, Int16
from scipy import sparse

from voxmoe.imaging.phantoms.contrasts import Contrast
from voxmoe.imaging.phantoms.draws import Rng
from voxmoe.imaging.phantoms.geometry import Field, Flat
from voxmoe.imaging.phantoms.noise import smooth_noise
from voxmoe.imaging.phantoms.signal import Scene, tissue_signal
from voxmoe.imaging.spaces import SRI24


def _log_shading(scene: Scene, contrast: Contrast, rng: Rng) -> Flat:
    """The logarithm of the coils' uneven sensitivity: slopes, a smooth field, and a gain towards the surface."""
    voxels = scene.brain.voxels
    log = smooth_noise(rng, SRI24.shape, 55.0, voxels.lines)
    log *= np.float32(contrast.bias)
    slopes = [
        np.linspace(-0.8, 0.8, size, dtype=np.float32) * np.float32(slope)
        for size, slope in zip(voxels.shape, contrast.shading, strict=True)
    ]
    for slope in np.ix_(*slopes):
        log += slope
    return voxels.flat(log) + np.float32(contrast.rim_shading) * scene.near_surface


@lru_cache(maxsize=1)
def _noise_bank() -> Float32[np.ndarray, " W"]:
    return np.random.default_rng(0).standard_normal(1 << 22, dtype=np.float32)


def _with_noise(image: Flat, sigma: float, rng: Rng) -> Flat:
    """Rician noise. Both its parts are read from one bank, at random places: drawing anew costs more than all else."""
    bank = _noise_bank()
    real, imaginary = (bank[start:][: len(image)] for start in rng.integers(0, len(bank) - len(image), 2))
    noisy = np.square(image + np.float32(sigma) * real)
    noisy += np.square(np.float32(sigma) * imaginary)
    return np.sqrt(noisy, out=noisy)


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


def _average_neighbours(rows: np.ndarray, side: np.float32) -> np.ndarray:
    """Each row with a share of those before and after it; at both ends the row itself stands in for the missing one."""
    out = rows * (1 - 2 * side)
    out[1:] += side * rows[:-1]
    out[:-1] += side * rows[1:]
    out[0] += side * rows[0]
    out[-1] += side * rows[-1]
    return out


def _blur(volume: Field, sides: tuple[float, float, float]) -> Field:
    """Average along all axes, plane by plane, which the cache can hold."""
    x, y, z = map(np.float32, sides)
    planes = volume.T  # Z Y X
    out = np.empty(planes.shape, dtype=np.float32)
    for plane, blurred in zip(planes, out, strict=True):
        blurred[:] = _average_neighbours(_average_neighbours(plane, y).T, x).T
    before = out[0].copy()
    for index, plane in enumerate(out):
        after = out[min(index + 1, len(out) - 1)]
        here = plane.copy()
        plane *= 1 - 2 * z
        plane += z * (before + after)
        before = here
    return out.T


def _resolved(volume: Field, contrast: Contrast, spacing: float) -> Field:
    """The resolution of the acquisition, on voxels of `spacing` mm."""
    x, y, z = (side / spacing**2 for side in contrast.blur)
    volume = _blur(volume, (x, y, z))
    if contrast.thickness > spacing:
        weights = _slice_profile(volume.shape[contrast.thick_axis], contrast.thickness / spacing)
        front = np.moveaxis(volume, contrast.thick_axis, 0)
        thick = weights @ np.ascontiguousarray(front).reshape(front.shape[0], -1)
        volume = np.moveaxis(thick.reshape(front.shape), 0, contrast.thick_axis)
    return volume


def acquire(scene: Scene, contrast: Contrast) -> Int16[np.ndarray, "X Y Z"]:
    """One modality on the whole raster, at least 1 in the brain and 0 elsewhere."""
    rng = np.random.default_rng(contrast.seed)
    brain, voxels = scene.brain, scene.brain.voxels
    spacing = voxels.raster.spacing
    image = np.log(np.maximum(tissue_signal(scene, contrast), np.float32(0.01)))
    image *= np.float32(contrast.gamma)
    image += _log_shading(scene, contrast, rng)
    image = _with_noise(np.exp(image, out=image), contrast.noise / spacing**1.5, rng)
    volume = _resolved(voxels.volume(image), contrast, spacing)
    if contrast.cut:
        volume[round((1 - contrast.cut) * len(volume)) :] = 0.01
    stored = np.clip(np.rint(voxels.flat(volume) * np.float32(contrast.scale)), 1, 32000)
    return voxels.on_grid(stored.astype(np.int16) * brain.inside)

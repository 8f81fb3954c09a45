"""One CT from any file: NIfTI, a DICOM series, or M3D's array -> a `Volume` in Hounsfield units (HU) on RAS axes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voxmoe.errors import ImageError
from voxmoe.imaging.dicom import is_dicom, read_series
from voxmoe.imaging.hounsfield import Rescale, to_hounsfield
from voxmoe.imaging.volume import Volume, read_image


@dataclass(frozen=True, eq=False)
class GreyVolume(Volume):
    """Grey values from 0 to 1 whose HU are lost, and with them every window; spacing and orientation are not known.

    The affine says 1 mm, and that slices are drawn as radiologists look at them.
    """


def read_array(path: Path | str) -> GreyVolume:
    """M3D's .npy: [1, D, H, W] or [D, H, W] in 0 to 1, slices [H, W] with anterior at the top and right at the left.

    Slices keep the order that they have. Raises `ImageError` if it is missing, no array, or of other shape or values.
    """
    path = Path(path)
    try:
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except (OSError, ValueError, EOFError) as error:
        raise ImageError(f"{path}: not a whole .npy file of numbers ({error})") from None
    if not isinstance(array, np.ndarray):
        raise ImageError(f"{path}: an archive of arrays (.npz); one array (.npy) is needed here")
    shape = array.shape[1:] if array.ndim == 4 and array.shape[0] == 1 else array.shape
    if len(shape) != 3 or 0 in shape or array.dtype.kind not in "biuf":
        told = "x".join(map(str, array.shape))
        raise ImageError(
            f"{path}: an array of {array.dtype}, {told}; numbers 1x32x256x256, as M3D has them, are needed"
        )
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 1 and low < high):
        raise ImageError(
            f"{path}: its values go from {low:g} to {high:g}; an M3D array holds grey values from 0 to 1; a CT in HU "
            "is read from NIfTI or DICOM"
        )
    slices = array.reshape(shape).astype(np.float32)
    _check_no_gap(slices.min(axis=(1, 2)), slices.max(axis=(1, 2)), str(path))
    return GreyVolume(np.asfortranarray(slices.transpose(2, 1, 0)[::-1, ::-1]), np.eye(4), str(path))


def read_ct(path: Path | str, rescale: Rescale | None = None) -> Volume:
    """A CT in HU, at least -1024, float32, from .nii or .nii.gz, or from a DICOM series: its folder, or one file of it.

    A NIfTI header's own slope is applied at reading. `rescale` is for files with stored values, whose slope and
    intercept stand in a table (CT-RATE's first version). From .npy comes a `GreyVolume`, which has no HU. Raises
    `ImageError` for what is broken, no CT, not in HU, or would be rescaled twice, and `MissingPackageError` for DICOM
    without the extra `dicom`.
    """
    path = Path(path)
    brings = (
        "M3D's arrays have no HU" if path.suffix == ".npy" else "DICOM files bring their own" if is_dicom(path) else ""
    )
    if rescale and brings:
        raise ImageError(f"{path}: {brings}; leave out the {rescale} that were given")
    if path.suffix == ".npy":
        return read_array(path)
    if is_dicom(path):
        return read_series(path)
    return to_hounsfield(read_upright(path), rescale)


def read_upright(path: Path | str) -> Volume:
    """A NIfTI file as it is, if slices can be drawn of it; raises `ImageError` where they drift sideways, or one was
    lost."""
    volume = read_image(path)
    _check_upright(volume)
    _check_no_gap(volume.data.min(axis=(0, 1)), volume.data.max(axis=(0, 1)), volume.source)
    return volume


def _check_no_gap(lowest: np.ndarray, highest: np.ndarray, source: str) -> None:
    """Raise `ImageError` where an axial slice of one value lies between others: it was lost. At the ends it is
    padding."""
    seen = np.flatnonzero(highest > lowest)
    lost = np.setdiff1d(np.arange(seen.min(initial=len(lowest)), seen.max(initial=0)), seen)
    if lost.size:
        raise ImageError(
            f"{source}: axial slice {lost[0] + 1} of {len(lowest)}, counted from below,"
            f"{f' and {len(lost) - 1} more' * (len(lost) > 1)} has a single value ({lowest[lost[0]]:g}) between slices "
            "that have an image; convert the scan again, all of it"
        )


_UPRIGHT = 0.02
"""How far from 0 the cosine between two axes may be: 1 degree."""


def _check_upright(volume: Volume) -> None:
    """Raise `ImageError` for slices that drift sideways, as those of a tilted gantry do: they are to be drawn, and
    measured, above one another."""
    axes = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
    cosine = float(np.abs(axes.T @ axes - np.eye(3)).max())
    if cosine > _UPRIGHT:
        raise ImageError(
            f"{volume.source}: its axes stand {np.degrees(np.arccos(cosine)):.0f} degrees to one another, as those "
            "of a tilted gantry; 90 are needed: give the DICOM series, which is straightened, or straighten the file"
        )

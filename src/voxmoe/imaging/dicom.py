"""One CT series of DICOM files -> a `Volume` in Hounsfield units (HU) on RAS axes.

Slices are put in order by their position along the slices' normal. A series that is not one evenly spaced stack of grey
CT slices is refused; a tilted gantry's is sheared upright. Nothing is read of a file but what `_TAGS` names, and
nothing of it but sizes, counts, modality and file names enters an error: no patient data can.
"""

import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Float64, Num
from scipy.ndimage import shift

from voxmoe.errors import ImageError, MissingPackageError
from voxmoe.imaging.hounsfield import AIR, to_hounsfield
from voxmoe.imaging.volume import Volume, in_ras

_log = logging.getLogger(__name__)

_TAGS = [
    "SOPClassUID",
    "SeriesInstanceUID",
    "Modality",
    "ImageType",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "PixelSpacing",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "RescaleSlope",
    "RescaleIntercept",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
]
_GREY = ("MONOCHROME1", "MONOCHROME2", "")
"""How grey pixels are shown, which HU do not depend on; in a palette, pixels are numbers of colours."""
_UPRIGHT_PIXELS = 0.25
"""Slices that drift sideways by no more than this over the whole stack lie above one another."""
_UNEVEN = 0.1
"""By which part of the usual distance a slice may lie off its place: positions are rounded by scanners."""


@dataclass(frozen=True, eq=False)
class Image:
    """What one file says of its image; lengths in mm, LPS axes."""

    path: Path
    series: str
    modality: str
    kinds: tuple[str, ...]
    size: tuple[float, float]
    """Rows and columns."""
    frames: int
    samples: int
    photometric: str
    spacing: tuple[float, ...]
    """Between rows and between columns; empty if it is not said, as the next two."""
    orientation: tuple[float, ...]
    position: tuple[float, ...]

    @property
    def is_localiser(self) -> bool:
        return "LOCALIZER" in self.kinds


@dataclass(frozen=True, eq=False)
class Stack:
    """The places of evenly spaced slices in order: unit vectors along columns, rows and normal, and steps in mm."""

    axes: Float64[np.ndarray, "3 3"]
    """Rows of the matrix: along which the column number, the row number and the slice number grow; LPS."""
    spacing: tuple[float, float, float]
    origin: Float64[np.ndarray, "3"]
    drift: tuple[float, float]
    """By how many columns and rows each slice lies off the normal through the one before: a tilted gantry."""


def is_dicom(path: Path) -> bool:
    """Whether a path is a folder, which may hold a series, or a DICOM file."""
    if path.is_dir():
        return True
    try:
        with path.open("rb") as stream:
            return stream.read(132).endswith(b"DICM")
    except OSError:
        return False


def _read(path: Path, *more: str) -> Any:
    """The data set of one file, of `_TAGS` and `more` alone; warnings, which quote values, are kept back."""
    try:
        from pydicom import dcmread
    except ImportError:
        raise MissingPackageError(f"{path}: DICOM needs pydicom: pip install 'voxmoe[dicom]'") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dcmread(path, specific_tags=[*_TAGS, *more], stop_before_pixels=not more)


def _image(path: Path) -> Image | None:
    """What the file says, or None if it holds no image (a report, contours)."""
    try:
        found = _read(path)
        if "Rows" not in found:
            return None

        def numbers(tag: str) -> tuple[float, ...]:
            return tuple(map(float, found.get(tag) or ()))

        kinds = found.get("ImageType") or ()
        return Image(
            path=path,
            series=str(found.get("SeriesInstanceUID", "")),
            modality=str(found.get("Modality", "")),
            kinds=(kinds,) if isinstance(kinds, str) else tuple(kinds),
            size=(float(found.Rows), float(found.Columns)),
            frames=int(found.get("NumberOfFrames") or 1),
            samples=int(found.get("SamplesPerPixel") or 1),
            photometric=str(found.get("PhotometricInterpretation") or ""),
            spacing=numbers("PixelSpacing"),
            orientation=numbers("ImageOrientationPatient"),
            position=numbers("ImagePositionPatient"),
        )
    except MissingPackageError:
        raise
    except Exception:
        # Whatever pydicom trips over; its words may quote the file's.
        raise ImageError(f"{path}: is a DICOM file with a damaged header; export it again") from None


def _images(folder: Path) -> list[Image]:
    found: list[Image] = []
    for path in sorted(folder.iterdir()):
        if path.is_file() and is_dicom(path):
            image = _image(path)
            found += [image] if image else []
        elif path.suffix.lower() == ".dcm":
            raise ImageError(f"{path}: no DICOM file, or its start is damaged; export it again, or take it away")
    return found


def _told(series: Sequence[Image]) -> str:
    first = series[0]
    rows, columns = first.size
    return f"{len(series)} of {first.modality or 'no modality'}, {rows:g}x{columns:g} ({first.path.name})"


def _chosen(path: Path) -> list[Image]:
    """The images of the one series that is meant, without localisers."""
    folder = path if path.is_dir() else path.parent
    images = _images(folder)
    if path != folder:
        named = next((image for image in images if image.path == path), None)
        if named is None:
            raise ImageError(f"{path}: holds no image; give a file of the CT series that is meant, or its folder")
        images = [image for image in images if image.series == named.series]
    if not images:
        deeper = (
            "; it holds other folders: give the one of the series" if any(map(Path.is_dir, folder.iterdir())) else ""
        )
        raise ImageError(f"{folder}: holds no DICOM images{deeper or '; give the folder of a CT series'}")
    slices = [image for image in images if not image.is_localiser]
    localisers = ", ".join(image.path.name for image in images if image.is_localiser)
    if not slices:
        raise ImageError(f"{path}: holds nothing but localiser images ({localisers}); give the CT series itself")
    by_series: dict[str, list[Image]] = {}
    for image in slices:
        by_series.setdefault(image.series, []).append(image)
    if len(by_series) > 1:
        listed = "; ".join(map(_told, by_series.values()))
        raise ImageError(
            f"{folder}: holds {len(by_series)} series: {listed}; give one file of the series that is meant in place of "
            "the folder"
        )
    if localisers:
        _log.warning("%s: localiser images are left out: %s", folder, localisers)
    return slices


def _check_images(images: Sequence[Image]) -> None:
    """Raise `ImageError` unless all are single grey CT slices whose place is said."""
    for image in images:
        if image.modality != "CT":
            raise ImageError(f"{image.path}: its modality is {image.modality or 'not said'}; CT is needed here")
        if image.samples != 1 or image.photometric not in _GREY:
            raise ImageError(f"{image.path}: a colour image; CT slices in HU, grey, are needed")
        if image.frames != 1:
            raise ImageError(f"{image.path}: holds {image.frames} frames; convert multi-frame CT to NIfTI (dcm2niix)")
        if (len(image.spacing), len(image.orientation), len(image.position)) != (2, 6, 3):
            raise ImageError(
                f"{image.path}: does not say its pixel spacing, orientation or position, as slices of a CT do (a "
                "screenshot or a report?); take it away"
            )
        row, column = np.reshape(image.orientation, (2, 3))
        if not np.allclose((row @ row, column @ column, row @ column), (1, 1, 0), atol=1e-2) or min(image.spacing) <= 0:
            raise ImageError(f"{image.path}: its orientation or pixel spacing is impossible; mend its header")


def _check_same(images: Sequence[Image], what: str, value: Callable[[Image], tuple[float, ...]]) -> None:
    first = images[0]
    odd = [image for image in images if not np.allclose(value(image), value(first), rtol=1e-3, atol=1e-3)]
    if odd:
        said, usual = ("x".join(f"{number:.4g}" for number in value(image)) for image in (odd[0], first))
        raise ImageError(
            f"{odd[0].path}: its {what} is {said}, that of {first.path.name} {usual}: {len(odd)} of the {len(images)} "
            "images of the series differ; keep in the folder those that belong together"
        )


def _ordered(images: Sequence[Image]) -> tuple[list[Image], Stack]:
    """The images along their normal, and where they lie; raises `ImageError` where they make no even stack."""
    for what, value in (
        ("size", lambda image: image.size),
        ("pixel spacing", lambda image: image.spacing),
        ("orientation", lambda image: image.orientation),
    ):
        _check_same(images, what, value)
    folder = images[0].path.parent
    if len(images) < 2:
        raise ImageError(f"{images[0].path}: is the only image of its series; a volume needs two slices or more")
    row, column = np.reshape(images[0].orientation, (2, 3))
    normal = np.cross(row, column)
    images = sorted(images, key=lambda image: float(normal @ image.position))
    positions = np.array([image.position for image in images])
    gaps = np.diff(positions @ normal)
    step = float(np.sort(gaps)[(gaps.size - 1) // 2])
    twice = np.flatnonzero(gaps < 0.01)
    if twice.size:
        first, second = images[twice[0]].path.name, images[twice[0] + 1].path.name
        raise ImageError(
            f"{folder}: {first} and {second} lie at one position, and {twice.size} such pairs there are: several "
            "phases or reconstructions, or copies; put one of them into a folder of its own"
        )
    wide = np.flatnonzero(gaps > 1.5 * step)
    if wide.size:
        missing = int(np.rint(gaps[wide] / step - 1).sum())
        first, second = images[wide[0]].path.name, images[wide[0] + 1].path.name
        raise ImageError(
            f"{folder}: {missing} slices are missing in {wide.size} places, first between {first} and {second}: "
            f"{gaps[wide[0]]:.4g} mm there, {step:.4g} mm elsewhere; export the whole series again"
        )
    mean = (positions[-1] - positions[0]) / (len(images) - 1)
    off = np.abs(positions - positions[0] - np.arange(len(images))[:, None] * mean).max()
    if off > _UNEVEN * step or np.abs(gaps - step).max() > _UNEVEN * step:
        raise ImageError(
            f"{folder}: its slices are not evenly spaced: {gaps.min():.4g} to {gaps.max():.4g} mm apart, up to "
            f"{off:.3g} mm off a straight line; reconstruct or export the series with even spacing"
        )
    between_rows, between_columns = images[0].spacing
    stack = Stack(
        axes=np.stack([row, column, normal]),
        spacing=(between_columns, between_rows, float(mean @ normal)),
        origin=positions[0],
        drift=(float(mean @ row) / between_columns, float(mean @ column) / between_rows),
    )
    return images, stack


def _hounsfield(image: Image) -> Float32[np.ndarray, "R C"]:
    """The slice in HU by its own slope and intercept; pixels that it declares to be padding are -1024."""
    try:
        found = _read(image.path, "PixelData")
        pixels = _pixels(image.path, found)
        rescale = found.get("RescaleSlope"), found.get("RescaleIntercept")
        if None in rescale:
            raise ImageError(
                f"{image.path}: has no rescale slope and intercept, so its HU are not known; export it again"
            )
        slope, intercept = map(float, rescale)
        hu = pixels.astype(np.float32) * np.float32(slope) + np.float32(intercept)
        padding = found.get("PixelPaddingValue")
        if padding is not None:
            limit = found.get("PixelPaddingRangeLimit")
            low, high = sorted((int(padding), int(padding if limit is None else limit)))
            hu[(pixels >= low) & (pixels <= high)] = AIR
        return hu
    except (ImageError, MissingPackageError):
        raise
    except Exception:
        raise ImageError(f"{image.path}: its pixels cannot be read; the file is damaged, export it again") from None


def _pixels(path: Path, found: Any) -> Num[np.ndarray, "R C"]:
    """The stored values; raises `MissingPackageError` if nothing that is installed decodes them."""
    from pydicom.pixels import get_decoder

    syntax = found.file_meta.TransferSyntaxUID
    try:
        missing = syntax.is_compressed and not get_decoder(syntax).is_available
    except NotImplementedError:
        missing = True
    if missing:
        raise MissingPackageError(
            f"{path}: nothing is installed that decodes {syntax.name}: pip install 'voxmoe[dicom]' for JPEG 2000, "
            "pip install python-gdcm for other kinds of JPEG"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pixels: np.ndarray = found.pixel_array
    return pixels


def _upright(data: Float32[np.ndarray, "X Y Z"], stack: Stack) -> tuple[Float32[np.ndarray, "P Q Z"], Stack]:
    """The slices of a tilted gantry moved within their planes onto a rectangular grid that holds them all."""
    count = data.shape[2]
    moves = np.arange(count)[:, None] * np.array(stack.drift)
    if np.abs(moves).max() <= _UPRIGHT_PIXELS:
        return data, stack
    low = np.floor(moves.min(axis=0)).astype(int)
    more = np.ceil(moves.max(axis=0)).astype(int) - low
    out = np.empty((data.shape[0] + more[0], data.shape[1] + more[1], count), dtype=np.float32, order="F")
    for index in range(count):
        padded = np.pad(data[:, :, index], [(0, more[0]), (0, more[1])], constant_values=AIR)
        out[:, :, index] = shift(padded, moves[index] - low, order=1, cval=AIR)
    origin = stack.origin + (low * stack.spacing[:2]) @ stack.axes[:2]
    return out, Stack(stack.axes, stack.spacing, origin, (0.0, 0.0))


def _affine(stack: Stack) -> Float[np.ndarray, "4 4"]:
    """From column, row and slice number to mm in RAS."""
    affine = np.eye(4)
    affine[:3, :3] = stack.axes.T * stack.spacing
    affine[:3, 3] = stack.origin
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def read_series(path: Path | str) -> Volume:
    """The CT series in a folder, or the one in its folder that a file belongs to, in HU, at least -1024.

    Localisers are left out, with a warning in the log. Raises `ImageError` for several series in the folder, another
    modality, colour, several frames, differing sizes, spacings or orientations, missing, doubled or unevenly spaced
    slices, and values that are not in HU after their rescale; `MissingPackageError` without the extra `dicom`.
    """
    path = Path(path)
    chosen = _chosen(path)
    _check_images(chosen)
    images, stack = _ordered(chosen)
    rows, columns = map(int, images[0].size)
    data = np.empty((columns, rows, len(images)), dtype=np.float32, order="F")
    for index, image in enumerate(images):
        data[:, :, index] = _hounsfield(image).T
    data, stack = _upright(data, stack)
    volume = in_ras(data, _affine(stack), str(path))
    upright = Volume(np.asfortranarray(volume.data), volume.affine, volume.source, volume.axes)
    return to_hounsfield(upright)

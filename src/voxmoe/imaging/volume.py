"""One 3D image: voxels in RAS order with their affine, read from and written to NIfTI (or one channel of a 4D file).

Every volume is turned to RAS at load (axis 0 towards the patient's right, 1 anterior, 2 superior); the order that the
file had is kept, so that what is written back lies as the user's own files do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Bool, Float, Int64, Shaped, UInt8
from nibabel.filebasedimages import ImageFileError
from nibabel.orientations import (
    aff2axcodes,
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from zlib_ng import gzip_ng, zlib_ng

from voxmoe.errors import ImageError, LabelError
from voxmoe.files import write_bytes
from voxmoe.imaging.places import Channel, Place, Role, file_of

_GZIP_MAGIC = b"\x1f\x8b"
_FORMATS = {
    size.to_bytes(4, order): kind
    for size, kind in ((348, nib.Nifti1Image), (540, nib.Nifti2Image))
    for order in ("little", "big")
}
"""What the first four bytes of a file, the size of its header, say of its format."""
_RAS = axcodes2ornt("RAS")


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels [X, Y, Z] in RAS order, the 4x4 affine from voxel indices to world mm, and where they came from."""

    data: Shaped[np.ndarray, "X Y Z"]
    affine: Float[np.ndarray, "4 4"]
    source: str = "array"
    axes: str = "RAS"
    """The file's own axis order, e.g. "LPS"; `write_volume` goes back to it."""

    @property
    def shape(self) -> tuple[int, int, int]:
        x, y, z = self.data.shape
        return x, y, z

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel edge lengths in mm along the three axes."""
        x, y, z = (float(length) for length in np.linalg.norm(self.affine[:3, :3], axis=0))
        return x, y, z

    @property
    def voxel_mm3(self) -> float:
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    def crop(self, box: tuple[slice, slice, slice]) -> "Volume":
        """The voxels in a box, where they lie in the world."""
        affine = self.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ [along.start for along in box]
        return replace(self, data=np.asfortranarray(self.data[box]), affine=affine)

    def same_grid(self, other: "Volume", tolerance_mm: float = 1e-2) -> bool:
        """Whether both volumes have one shape and their corner voxels lie within `tolerance_mm` of each other."""
        if self.shape != other.shape:
            return False
        corners = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=float)
        corners[:, :3] *= np.array(self.shape) - 1
        return bool(np.abs(corners @ (self.affine - other.affine).T).max() <= tolerance_mm)

    def describe_grid(self) -> str:
        shape = "x".join(map(str, self.shape))
        spacing = "x".join(f"{length:.3g}" for length in self.spacing)
        origin = ", ".join(f"{value:.1f}" for value in self.affine[:3, 3])
        return f"{shape} voxels of {spacing} mm, origin ({origin}) mm RAS"


def inflated(path: Path) -> bytes:
    """What a file holds, taken out of gzip where it is in it; raises `ImageError` if it is missing or broken."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ImageError(f"{path}: is a folder; a NIfTI file (.nii or .nii.gz) is needed here") from None
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror}") from None
    if not content.startswith(_GZIP_MAGIC):
        return content
    try:
        stream = zlib_ng.decompressobj(wbits=31)
        data: bytes = stream.decompress(content)
        # One gzip member, as nearly always, is inflated at once; several, or a broken one, the long way.
        return data if stream.eof and not stream.unused_data else bytes(gzip_ng.decompress(content))
    except (EOFError, OSError, zlib_ng.error) as error:  # type: ignore[misc]  # its stub gives an instance
        raise ImageError(
            f"{path}: broken gzip stream ({error}); the file is truncated or damaged, copy or download it again"
        ) from None


def _parse(path: Path, content: bytes) -> "nib.Nifti1Image":
    try:
        return _FORMATS[content[:4]].from_bytes(content)
    except (KeyError, ImageFileError, HeaderDataError, WrapStructError, ValueError, EOFError):
        raise ImageError(f"{path}: not a NIfTI file; .nii and .nii.gz are read here") from None


def _open(path: Path) -> "nib.Nifti1Image":
    return _parse(path, inflated(path))


def _shape_of(place: Place, image: "nib.Nifti1Image") -> tuple[int, ...]:
    """The file's shape without trailing ones: three lengths, and the number of channels where one is asked for."""
    shape: tuple[int, ...] = image.shape
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    told = "x".join(map(str, shape))
    if isinstance(place, Channel):
        if len(shape) == 3:
            shape = (*shape, 1)
        wanted = place.count or max(place.index + 1, shape[-1])
        if len(shape) != 4 or shape[3] != wanted:
            raise ImageError(f"{place.path}: has the shape {told}; a 4D file of {wanted} channels is needed here")
    elif len(shape) != 3:
        raise ImageError(
            f"{place}: has {len(shape)} dimensions {told}; one 3D volume a file is needed: split a 4D file into one "
            "file for each modality"
        )
    if 0 in shape:
        raise ImageError(f"{place}: has no voxels (shape {told})")
    return shape


def _voxels(place: Place, image: "nib.Nifti1Image") -> np.ndarray:
    shape = _shape_of(place, image)[:3]
    kind = image.get_data_dtype()
    if kind.kind not in "iuf":
        raise ImageError(f"{file_of(place)}: its voxels are of the type {kind}; one real number a voxel is needed")
    stored, size = image.dataobj, int(np.prod(shape))
    index = place.index if isinstance(place, Channel) else 0
    try:
        if (stored.slope, stored.inter) == (1, 0):  # the file's own bytes, uncopied
            content = image.file_map["image"].fileobj.getvalue()
            start = stored.offset + index * size * stored.dtype.itemsize
            voxels = np.frombuffer(content, stored.dtype, size, start)
        else:
            voxels = np.asarray(stored[:, :, :, index] if image.ndim > 3 else stored)
        return voxels.reshape(shape, order="F")
    except (OSError, ValueError, EOFError):
        raise ImageError(
            f"{file_of(place)}: holds fewer voxels than its header says; the file is truncated, copy or download it "
            "again"
        ) from None


def in_ras(voxels: Shaped[np.ndarray, "I J K"], affine: Float[np.ndarray, "4 4"], source: str) -> Volume:
    """Voxels in any axis order, with the affine from their indices to mm in RAS, as a volume: a view of them."""
    orientation = io_orientation(affine)
    return Volume(
        data=apply_orientation(voxels, orientation),
        affine=affine @ inv_ornt_aff(orientation, voxels.shape),
        source=source,
        axes="".join(aff2axcodes(affine)),
    )


def _turned(place: Place, image: "nib.Nifti1Image") -> Volume:
    """The volume of an opened NIfTI file in RAS order, its voxels left where they lie: a view."""
    voxels = _voxels(place, image)
    affine = np.asarray(image.affine, dtype=float)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise ImageError(f"{file_of(place)}: its affine is singular or not finite; mend the header's qform or sform")
    return in_ras(voxels, affine, str(place))


def _scanned(volume: Volume) -> Volume:
    data = volume.data
    if data.dtype.kind == "f":
        with np.errstate(over="ignore", invalid="ignore"):
            data = data.astype(np.float32, copy=False)
            bounds = data.min(), data.max()  # NaN if any voxel is
        if not np.isfinite(bounds).all():
            bad = int((~np.isfinite(data)).sum())
            raise ImageError(
                f"{volume.source}: {bad} of {data.size} voxels are NaN or infinite; every voxel must be a number"
            )
    if not np.count_nonzero(data):
        raise ImageError(f"{volume.source}: every voxel is 0; the image is empty")
    return replace(volume, data=data)


def _settled(volume: Volume) -> Volume:
    return replace(volume, data=np.asfortranarray(volume.data, np.float32))


def read_raw(path: Path | str) -> Volume:
    """The volume of a NIfTI file in RAS order with the file's own numbers (scale applied), unchecked.

    Raises `ImageError` if the file is missing, truncated, not NIfTI, not 3D, or has no usable affine.
    """
    path = Path(path)
    volume = _turned(path, _open(path))
    return replace(volume, data=np.asfortranarray(volume.data))


def scan_image(place: Place | str) -> Volume:
    """What `read_image` gives, checked as there, but whole numbers stay such and voxels lie as in the file.

    Several times as fast where voxels are only counted. Raises `ImageError` as `read_image` does.
    """
    place = Path(place) if isinstance(place, str) else place
    return _scanned(_turned(place, _open(file_of(place))))


def read_image(place: Place | str) -> Volume:
    """An intensity image as float32, finite and not empty.

    Raises `ImageError` as `read_raw` does, for a 4D file without or with other than the channels that are meant, and
    for NaN, infinite or all-zero voxels.
    """
    return _settled(scan_image(place))


def read_images(places: Mapping[Role, Place], scan: bool = False) -> dict[Role, Volume]:
    """Several images as `read_image` gives them, or `scan_image`; a 4D file is opened once, and only the channels
    meant are read."""
    images: dict[Role, Volume] = {}
    for path in dict.fromkeys(map(file_of, places.values())):
        opened = _open(path)
        here = {role: place for role, place in places.items() if file_of(place) == path}
        images |= {role: _scanned(_turned(place, opened)) for role, place in here.items()}
        if not scan:
            images |= {role: _settled(images[role]) for role in here}
    return {role: images[role] for role in places}


def read_mask(path: Path | str) -> Volume:
    """A segmentation mask as uint8 label values (all zero is allowed: nothing was segmented).

    Raises `ImageError` as `read_raw` does, and `LabelError` for values that are not whole numbers from 0 to 255.
    """
    path = Path(path)
    volume = _turned(path, _open(path))
    with np.errstate(invalid="ignore"):
        data = volume.data.astype(np.uint8, order="F")
    if volume.data.dtype == np.uint8:
        return replace(volume, data=data)
    wrong = data != volume.data
    if wrong.any():
        values = ", ".join(f"{value:g}" for value in np.unique(volume.data[wrong])[:5])
        raise LabelError(
            f"{path}: holds {values}; a mask holds whole label values from 0 to 255 "
            "(an intensity image or an interpolated mask was given?)"
        )
    return replace(volume, data=data)


def nifti_bytes(volumes: Sequence[Volume], gzipped: bool) -> bytes:
    """Volumes on one grid as a NIfTI file in their files' own axis order: 3D for one, else 4D with a channel for each.

    Same content, same bytes.
    """
    first = volumes[0]
    orientation = ornt_transform(_RAS, axcodes2ornt(first.axes))
    data = [apply_orientation(volume.data, orientation) for volume in volumes]
    affine = first.affine @ inv_ornt_aff(orientation, first.shape)
    image = nib.Nifti1Image(data[0] if len(data) == 1 else np.stack(data, axis=3), affine)
    image.header.set_xyzt_units("mm")
    content: bytes = image.to_bytes()
    return bytes(gzip_ng.compress(content, compresslevel=2, mtime=0)) if gzipped else content


def write_volumes(volumes: Sequence[Volume], path: Path | str) -> None:
    """Write volumes of one grid as the channels of one .nii or .nii.gz, as `write_volume` does one."""
    path = Path(path)
    write_bytes(path, nifti_bytes(volumes, path.name.endswith(".gz")))


def write_volume(volume: Volume, path: Path | str) -> None:
    """Write `volume` as .nii or .nii.gz in the axis order it was read in; same content, same bytes; atomically."""
    write_volumes([volume], path)


def byte_counts(data: UInt8[np.ndarray, "..."]) -> Int64[np.ndarray, "256"]:
    """How often each byte value occurs. Eight voxels at a time are passed over where all of them are 0 or all 255."""
    voxels = data.ravel(order="K")
    whole = voxels.size // 8 * 8
    words = voxels[:whole].view(np.uint64)
    mixed = words[words + np.uint64(1) > 1]
    counts = np.bincount(np.concatenate([mixed.view(np.uint8), voxels[whole:]]), minlength=256)
    full = int(np.count_nonzero(words == ~np.uint64(0)))
    counts[0] += 8 * (words.size - mixed.size - full)
    counts[255] += 8 * full
    return counts


def label_values(mask: Volume) -> UInt8[np.ndarray, " V"]:
    """The label values that occur in a mask, 0 left out, ascending."""
    return (np.flatnonzero(byte_counts(mask.data)[1:]) + 1).astype(np.uint8)


def where_label(data: UInt8[np.ndarray, "*shape"], values: Sequence[int]) -> Bool[np.ndarray, "*shape"]:
    """The voxels that hold any of a label's values."""
    return reduce(np.logical_or, (data == value for value in values))

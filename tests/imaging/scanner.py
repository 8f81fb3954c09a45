"""A torso in HU as tests scan it, and DICOM slices of it as a scanner would write them."""

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

SECRET = "Doe^Jane"


def torso(shape: tuple[int, int, int] = (20, 16, 8), seed: int = 0) -> np.ndarray:
    """HU [X, Y, Z]: tissue in air, with a bone at the back and a lung to the right; no two slices are alike."""
    generator = np.random.default_rng(seed)
    x, y = np.meshgrid(*(np.linspace(-1.2, 1.2, size) for size in shape[:2]), indexing="ij")
    hu = np.full(shape, -1000.0)
    hu[x**2 + y**2 < 1] = 40
    hu[(x - 0.4) ** 2 + y**2 < 0.06] = -800
    hu[x**2 + (y + 0.6) ** 2 < 0.05] = 700
    return np.rint(hu + generator.normal(0, 8, shape) + 3 * np.arange(shape[2])).astype(np.float32)


def write_slice(path: Path, hu: np.ndarray, position: tuple[float, float, float], **tags: Any) -> Path:
    """One file of a slice [row, column], stored as HU + 1024; `tags` are set last, None takes one away."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    slice_: Dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    slice_.SOPClassUID, slice_.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    slice_.PatientName, slice_.PatientID, slice_.SeriesDescription = SECRET, SECRET, SECRET
    slice_.SeriesInstanceUID, slice_.Modality = "1.2.3", "CT"
    slice_.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    slice_.Rows, slice_.Columns = hu.shape
    slice_.PixelSpacing = [1.5, 0.75]
    slice_.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    slice_.ImagePositionPatient = list(position)
    slice_.RescaleSlope, slice_.RescaleIntercept = 1, -1024
    slice_.SamplesPerPixel, slice_.PhotometricInterpretation = 1, "MONOCHROME2"
    slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit, slice_.PixelRepresentation = 16, 16, 15, 1
    slice_.PixelData = (hu + 1024).astype("<i2").tobytes()
    for tag, value in tags.items():
        if value is None:
            delattr(slice_, tag)
        else:
            setattr(slice_, tag, value)
    slice_.save_as(path, enforce_file_format=True)
    return path


def write_stack(
    folder: Path, hu: np.ndarray, step: tuple[float, float, float] = (0, 0, 2.5), **tags: Any
) -> list[Path]:
    """A series of HU [X, Y, Z] in RAS order: rows from anterior, columns from the right, slices from below.

    `step` is from one to the next, mm LPS. File names and instance numbers are in another order.
    """
    folder.mkdir(exist_ok=True)
    pictures = hu[::-1, ::-1].transpose(2, 1, 0)
    order = np.random.default_rng(1).permutation(len(pictures))
    paths = []
    for index, picture in enumerate(pictures):
        x, y, z = (start + index * move for start, move in zip((-7.0, -30.0, 100.0), step, strict=True))
        number = int(order[index])
        path = folder / f"{tags.get('SeriesInstanceUID', '')}image{number:02}.dcm"
        paths.append(write_slice(path, picture, (x, y, z), InstanceNumber=number, **tags))
    return paths

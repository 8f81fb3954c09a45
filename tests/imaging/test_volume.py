"""NIfTI in every axis order and storage form, nibabel as the oracle; one clear error for each kind of bad file."""

import gzip
from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxmoe.errors import ImageError, LabelError
from voxmoe.imaging import volume as module
from voxmoe.imaging.places import Channel
from voxmoe.imaging.volume import (
    Volume,
    label_values,
    read_image,
    read_images,
    read_mask,
    read_raw,
    scan_image,
    where_label,
    write_volume,
    write_volumes,
)

ORIENTATIONS = ["".join(codes) for order in permutations(("LR", "PA", "IS")) for codes in product(*order)]
SPACING = (0.8, 1.25, 3.0)


def numbered(shape: tuple[int, int, int] = (3, 4, 5), axes: str = "RAS") -> Volume:
    """A volume in which every voxel has a number of its own."""
    data = np.arange(1, np.prod(shape) + 1, dtype=np.float32).reshape(shape)
    affine = nib.affines.from_matvec(np.diag(SPACING), (-12.5, 7, 30.25))
    return Volume(np.asfortranarray(data), affine, axes=axes)


def world(data: np.ndarray, affine: np.ndarray) -> dict[float, tuple[float, ...]]:
    """Where in the world each value of an image lies."""
    index = np.argwhere(data > 0)
    places = nib.affines.apply_affine(affine, index).round(3)
    return {float(data[tuple(i)]): tuple(map(float, place)) for i, place in zip(index, places, strict=True)}


def saved(data: np.ndarray, path: Path, kind: type = nib.Nifti1Image, affine: np.ndarray | None = None) -> Path:
    nib.save(kind(data, np.eye(4) if affine is None else affine), path)
    return path


def test_there_are_48_orientations() -> None:
    assert len(set(ORIENTATIONS)) == 48


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("axes", ORIENTATIONS)
def test_round_trip_keeps_voxels_in_their_place(axes: str, suffix: str, tmp_path: Path) -> None:
    volume, path = numbered(axes=axes), tmp_path / f"image{suffix}"
    write_volume(volume, path)
    stored = nib.load(path)
    assert "".join(nib.aff2axcodes(stored.affine)) == axes
    assert world(np.asarray(stored.dataobj), stored.affine) == world(volume.data, volume.affine)
    found = read_image(path)
    assert found.axes == axes
    assert found.data.dtype == np.float32
    np.testing.assert_array_equal(found.data, volume.data)
    np.testing.assert_allclose(found.affine, volume.affine, atol=1e-5)
    canonical = nib.as_closest_canonical(stored)
    np.testing.assert_array_equal(found.data, np.asarray(canonical.dataobj))
    np.testing.assert_allclose(found.affine, canonical.affine)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    kind=st.sampled_from([nib.Nifti1Image, nib.Nifti2Image]),
    dtype=st.sampled_from(["u1", "i2", "<f4", ">f4", "f8", "u2", ">i4"]),
)
def test_oblique_files_of_any_type_read_as_nibabel_reads_them(
    seed: int, kind: type, dtype: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    generator = np.random.default_rng(seed)
    data = generator.integers(0, 200, tuple(generator.integers(1, 7, 3))).astype(dtype)
    rotation, _ = np.linalg.qr(generator.normal(size=(3, 3)))
    affine = nib.affines.from_matvec(rotation * generator.uniform(0.3, 4, 3), generator.uniform(-90, 90, 3))
    path = saved(data, tmp_path_factory.mktemp("oblique") / "image.nii.gz", kind, affine)
    canonical, found = nib.as_closest_canonical(nib.load(path)), read_raw(path)
    np.testing.assert_array_equal(found.data, np.asarray(canonical.dataobj))
    np.testing.assert_allclose(found.affine, canonical.affine)
    np.testing.assert_allclose(found.spacing, canonical.header.get_zooms(), rtol=1e-4)
    assert found.voxel_mm3 == pytest.approx(np.prod(found.spacing), rel=1e-4)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_both_byte_orders_and_both_versions(kind: type, order: str, tmp_path: Path) -> None:
    header = kind.header_class(endianness=order)
    header.set_data_dtype("f4")
    nib.save(kind(numbered().data, numbered().affine, header), tmp_path / "image.nii")
    np.testing.assert_array_equal(read_image(tmp_path / "image.nii").data, numbered().data)


def test_scaled_integers_read_as_what_they_stand_for(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros((2, 2, 2)), np.eye(4))
    image.header.set_data_dtype(np.int16)
    image.header.set_slope_inter(0.5, -1024)
    stored = np.arange(8, dtype=np.int16)
    content = bytearray(image.to_bytes())
    content[352:] = stored.tobytes()
    slope = nib.Nifti1Header.template_dtype.fields["scl_slope"][1]
    content[slope : slope + 8] = np.array([0.5, -1024], np.float32).tobytes()
    (tmp_path / "scaled.nii").write_bytes(content)
    expected = (stored * 0.5 - 1024).reshape((2, 2, 2), order="F")
    np.testing.assert_array_equal(read_image(tmp_path / "scaled.nii").data, expected)


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIL"])
@pytest.mark.parametrize("dtype", ["u1", "i2", "f4", "f8"])
def test_a_scan_counts_what_the_image_holds(dtype: str, axes: str, tmp_path: Path) -> None:
    volume = numbered(axes=axes)
    data = np.where(volume.data % 3 == 0, 0, volume.data).astype(dtype)
    write_volume(Volume(data, volume.affine, axes=axes), tmp_path / "image.nii.gz")
    scan, image = scan_image(tmp_path / "image.nii.gz"), read_image(tmp_path / "image.nii.gz")
    assert scan.data.dtype == ("f4" if dtype == "f8" else dtype)
    assert image.data.flags.f_contiguous
    np.testing.assert_array_equal(scan.data, image.data)
    np.testing.assert_array_equal(scan.affine, image.affine)
    assert (scan.axes, scan.source) == (image.axes, image.source)


@pytest.mark.parametrize("trailing", [(1,), (1, 1)])
def test_trailing_axes_of_one_are_dropped(trailing: tuple[int, ...], tmp_path: Path) -> None:
    volume = numbered()
    data = volume.data.reshape(volume.shape + trailing)
    found = read_image(saved(data, tmp_path / "image.nii.gz", affine=volume.affine))
    np.testing.assert_array_equal(found.data, volume.data)


def test_qform_alone_is_enough(tmp_path: Path) -> None:
    image = nib.Nifti1Image(numbered().data, None)
    image.set_qform(numbered().affine @ np.diag([-1, -1, 1, 1]), code=1)
    image.set_sform(None, code=0)
    nib.save(image, tmp_path / "qform.nii.gz")
    found = read_image(tmp_path / "qform.nii.gz")
    assert found.axes == "LPS"
    np.testing.assert_array_equal(found.data, numbered().data[::-1, ::-1])
    np.testing.assert_allclose(found.affine[:3, 3], (-12.5 - 2 * 0.8, 7 - 3 * 1.25, 30.25), atol=1e-4)


def test_gzip_of_several_members_and_without_the_suffix(tmp_path: Path) -> None:
    write_volume(numbered(), tmp_path / "image.nii")
    content = (tmp_path / "image.nii").read_bytes()
    (tmp_path / "gzipped.nii").write_bytes(gzip.compress(content[:400]) + gzip.compress(content[400:]))
    np.testing.assert_array_equal(read_image(tmp_path / "gzipped.nii").data, numbered().data)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_same_content_same_bytes(suffix: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_volume(numbered(axes="LPS"), tmp_path / f"{name}{suffix}")
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"a{suffix}", f"b{suffix}"]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIL"])
def test_channels_are_written_and_read_in_their_order(axes: str, suffix: str, tmp_path: Path) -> None:
    first, path = numbered(axes=axes), tmp_path / f"image{suffix}"
    volumes = [Volume(first.data * factor, first.affine, axes=axes) for factor in (1, 10, 100)]
    write_volumes(volumes, path)
    stored = nib.load(path)
    assert stored.shape[3] == 3
    assert "".join(nib.aff2axcodes(stored.affine)) == axes
    for index, volume in enumerate(volumes):
        found = read_image(Channel(path, index, 3))
        np.testing.assert_array_equal(found.data, volume.data)
        assert found.same_grid(first)
        assert (found.axes, found.source) == (axes, f"{path}#{index}")
        assert world(np.asarray(stored.dataobj)[..., index], stored.affine) == world(volume.data, volume.affine)


def test_a_4d_file_is_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_volumes([numbered()] * 4, tmp_path / "4d.nii.gz")
    write_volume(numbered(), tmp_path / "3d.nii.gz")
    opened: list[str] = []
    opens = module._open
    monkeypatch.setattr(module, "_open", lambda path: opened.append(path.name) or opens(path))
    places = {
        "a": Channel(tmp_path / "4d.nii.gz", 3),
        "b": tmp_path / "3d.nii.gz",
        "c": Channel(tmp_path / "4d.nii.gz", 0),
    }
    assert list(read_images(places)) == ["a", "b", "c"]
    assert sorted(opened) == ["3d.nii.gz", "4d.nii.gz"]


def test_only_the_channel_that_is_meant_has_to_be_whole(tmp_path: Path) -> None:
    data = np.ones((3, 4, 5, 2), np.float32)
    data[..., 1] = np.nan
    path = saved(data, tmp_path / "4d.nii")
    np.testing.assert_array_equal(read_image(Channel(path, 0)).data, 1)
    with pytest.raises(ImageError, match=r"4d\.nii#1: 60 of 60 voxels are NaN"):
        read_image(Channel(path, 1))
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ImageError, match=r"4d\.nii: holds fewer voxels than its header says"):
        read_image(Channel(path, 1))


def test_scaled_integers_of_a_channel(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 2, 3, 2), np.eye(4))
    image.header.set_slope_inter(0.5, 3)
    nib.save(image, tmp_path / "4d.nii.gz")
    np.testing.assert_array_equal(
        read_image(Channel(tmp_path / "4d.nii.gz", 1)).data,
        np.asarray(nib.load(tmp_path / "4d.nii.gz").dataobj)[..., 1],
    )


@pytest.mark.parametrize(
    ("shape", "channel", "wanted"),
    [
        ((3, 4, 5), (0, 4), 4),
        ((3, 4, 5), (1, None), 2),
        ((3, 4, 5, 2), (2, None), 3),
        ((3, 4, 5, 3), (0, 4), 4),
        ((3, 4, 5, 2, 2), (0, 2), 2),
    ],
)
def test_files_without_the_channel(
    shape: tuple[int, ...], channel: tuple[int, int | None], wanted: int, tmp_path: Path
) -> None:
    path = saved(np.ones(shape, np.float32), tmp_path / "image.nii")
    told = "x".join(map(str, shape))
    with pytest.raises(
        ImageError, match=rf"image\.nii: has the shape {told}; a 4D file of {wanted} channels is needed"
    ):
        read_image(Channel(path, *channel))


def test_a_3d_file_is_a_4d_file_of_one_channel(tmp_path: Path) -> None:
    write_volume(numbered(), tmp_path / "image.nii")
    np.testing.assert_array_equal(read_image(Channel(tmp_path / "image.nii", 0, 1)).data, numbered().data)


def test_where_a_label_of_several_values_lies() -> None:
    data = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
    np.testing.assert_array_equal(where_label(data, (4,)), data == 4)
    np.testing.assert_array_equal(where_label(data, (1, 26, 7)), np.isin(data, (1, 7, 26)))


def test_numbers_of_a_grid() -> None:
    volume = numbered((2, 3, 4))
    assert volume.shape == (2, 3, 4)
    assert volume.spacing == SPACING
    assert volume.voxel_mm3 == pytest.approx(3.0)
    assert volume.describe_grid() == "2x3x4 voxels of 0.8x1.25x3 mm, origin (-12.5, 7.0, 30.2) mm RAS"


@pytest.mark.parametrize(("moved", "same"), [(0.009, True), (0.011, False)])
def test_grids_are_compared_at_the_corners(moved: float, same: bool) -> None:
    volume = numbered((101, 4, 5))
    affine = volume.affine.copy()
    affine[0, 0] += moved / 100
    assert volume.same_grid(Volume(volume.data, affine)) is same
    assert not volume.same_grid(Volume(volume.data[1:], volume.affine))


def broken_file(kind: str, path: Path) -> None:
    write_volume(numbered((20, 20, 20)), path.with_suffix(".good"))
    good = path.with_suffix(".good").read_bytes()
    contents = {
        "text": b"patient,age\n1,54\n" * 100,
        "empty": b"",
        "one byte": b"\x1f",
        "png": b"\x89PNG\r\n\x1a\n" + bytes(1000),
        "zeros": bytes(1000),
        "gzipped text": gzip.compress(b"nothing of the kind"),
        "header cut": good[:200],
        "magic gone": good[:344] + bytes(4) + good[348:],
    }
    path.write_bytes(contents[kind])


@pytest.mark.parametrize(
    "kind", ["text", "empty", "one byte", "png", "zeros", "gzipped text", "header cut", "magic gone"]
)
def test_what_is_not_nifti_is_named_so(kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "image.nii"
    broken_file(kind, path)
    with pytest.raises(ImageError) as error:
        read_image(path)
    assert str(error.value) == f"{path}: not a NIfTI file; .nii and .nii.gz are read here"
    assert capfd.readouterr() == ("", "")


def test_no_such_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"missing\.nii: no such file$"):
        read_image(tmp_path / "missing.nii")
    with pytest.raises(ImageError, match="is a folder; a NIfTI file"):
        read_image(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ImageError, match="cannot be read: Not a directory"):
        read_image(tmp_path / "file" / "image.nii")


@pytest.mark.parametrize("kept", [2, 9, 30, 0.25, 0.5, 0.9, -9, -8, -4, -1])
def test_truncated_gzip(kept: float, tmp_path: Path) -> None:
    data = np.random.default_rng(0).random((16, 16, 16), dtype=np.float32)
    write_volume(Volume(data, np.eye(4)), tmp_path / "whole.nii.gz")
    content = (tmp_path / "whole.nii.gz").read_bytes()
    cut = int(kept * len(content)) if 0 < kept < 1 else int(kept)
    (tmp_path / "cut.nii.gz").write_bytes(content[:cut])
    with pytest.raises(ImageError, match=r"cut\.nii\.gz: broken gzip stream .*truncated or damaged"):
        read_image(tmp_path / "cut.nii.gz")


def test_damaged_gzip(tmp_path: Path) -> None:
    write_volume(numbered((9, 9, 9)), tmp_path / "image.nii.gz")
    content = bytearray((tmp_path / "image.nii.gz").read_bytes())
    content[-6] ^= 0xFF
    (tmp_path / "image.nii.gz").write_bytes(content)
    with pytest.raises(ImageError, match="broken gzip stream"):
        read_image(tmp_path / "image.nii.gz")


@pytest.mark.parametrize("kept", [348, 352, 353, 1000, -1])
def test_truncated_plain_file(kept: int, tmp_path: Path) -> None:
    write_volume(numbered((9, 9, 9)), tmp_path / "whole.nii")
    (tmp_path / "cut.nii").write_bytes((tmp_path / "whole.nii").read_bytes()[:kept])
    with pytest.raises(ImageError, match=r"cut\.nii: holds fewer voxels than its header says"):
        read_image(tmp_path / "cut.nii")


@pytest.mark.parametrize("bad", [(np.nan,), (np.inf,), (-np.inf,), (np.inf, -np.inf), (1e300,)])
def test_voxels_that_are_no_numbers(bad: tuple[float, ...], tmp_path: Path) -> None:
    data = np.ones((3, 4, 5))
    data.ravel()[: len(bad)] = bad
    path = saved(data, tmp_path / "image.nii.gz")
    with pytest.raises(ImageError, match=rf"image\.nii\.gz: {len(bad)} of 60 voxels are NaN or infinite"):
        read_image(path)


def test_empty_image(tmp_path: Path) -> None:
    path = saved(np.zeros((3, 3, 3), np.int16), tmp_path / "image.nii.gz")
    with pytest.raises(ImageError, match="every voxel is 0; the image is empty"):
        read_image(path)
    assert not read_mask(path).data.any()


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((4, 4, 4, 3), "has 4 dimensions 4x4x4x3; one 3D volume a file is needed: split"),
        ((4, 4), "has 2 dimensions 4x4; one 3D volume"),
        ((4, 0, 4), r"has no voxels \(shape 4x0x4\)"),
    ],
)
def test_other_than_three_dimensions(shape: tuple[int, ...], message: str, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=message):
        read_image(saved(np.ones(shape, np.float32), tmp_path / "image.nii"))


@pytest.mark.parametrize("dtype", [np.complex64, np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])])
def test_colours_and_complex_numbers(dtype: np.dtype, tmp_path: Path) -> None:
    path = saved(np.ones((3, 3, 3), dtype), tmp_path / "image.nii")
    for read in (read_image, read_mask):
        with pytest.raises(ImageError, match="one real number a voxel is needed"):
            read(path)


@pytest.mark.parametrize("row", [(0, 0, 0, 0), (0, 1, 0, 5), (np.nan, 0, 0, 0)])
def test_unusable_affine(row: tuple[float, ...], tmp_path: Path) -> None:
    write_volume(numbered(), tmp_path / "image.nii")
    content = bytearray((tmp_path / "image.nii").read_bytes())
    place = nib.Nifti1Header.template_dtype.fields["srow_x"][1]
    content[place : place + 16] = np.array(row, "<f4").tobytes()
    (tmp_path / "image.nii").write_bytes(content)
    with pytest.raises(ImageError, match="its affine is singular or not finite; mend the header"):
        read_image(tmp_path / "image.nii")


@pytest.mark.parametrize("dtype", ["u1", "i2", "f4", "f8"])
def test_masks_of_any_type_become_bytes(dtype: str, tmp_path: Path) -> None:
    data = np.arange(27, dtype=dtype).reshape(3, 3, 3)
    data[2, 2, 2] = 255
    mask = read_mask(saved(data, tmp_path / "seg.nii.gz"))
    assert mask.data.dtype == np.uint8
    np.testing.assert_array_equal(mask.data, data)
    assert label_values(mask).tolist() == [*range(1, 26), 255]


@pytest.mark.parametrize(
    ("value", "shown"), [(0.5, "0.5"), (2.999, "2.999"), (-1, "-1"), (256, "256"), (1e9, r"1e\+09"), (np.nan, "nan")]
)
def test_values_that_no_mask_holds(value: float, shown: str, tmp_path: Path) -> None:
    data = np.zeros((3, 3, 3))
    data[1, 1, 1] = value
    with pytest.raises(
        LabelError, match=rf"seg\.nii\.gz: holds {shown}; a mask holds whole label values from 0 to 255"
    ):
        read_mask(saved(data, tmp_path / "seg.nii.gz"))


@pytest.mark.real
def test_real_scans_are_those_of_nibabel(real_data: Path) -> None:
    for path in (
        real_data / "brats" / "BraTS2021_01476" / "BraTS2021_01476_t1.nii.gz",
        real_data / "gli2024_masks" / "BraTS-GLI-00060-101-seg.nii.gz",
    ):
        canonical, found = nib.as_closest_canonical(nib.load(path)), read_raw(path)
        np.testing.assert_array_equal(found.data, np.asarray(canonical.dataobj))
        np.testing.assert_array_equal(found.affine, canonical.affine)

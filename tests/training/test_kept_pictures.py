"""Slices kept on disk are those that are drawn, and are drawn again whenever something that decides them changes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from voxmoe.errors import StudyError
from voxmoe.imaging.ct import read_ct
from voxmoe.imaging.dicom import read_series
from voxmoe.imaging.grid import resample
from voxmoe.imaging.hounsfield import Rescale, to_hounsfield
from voxmoe.imaging.torso import Torso
from voxmoe.imaging.volume import Volume, in_ras, read_image, write_volume
from voxmoe.imaging.windows import PictureSettings, label_shares, to_pictures
from voxmoe.training import pictures as module
from voxmoe.training.pictures import PictureCache, Scan
from voxmoe.training.tensors import is_intact

SETTINGS = PictureSettings(size=16, depth=4)
LABELS = (1, 2)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOXMOE_HOME", str(tmp_path / "home"))


@pytest.fixture
def scan(torsos: list[Torso], tmp_path: Path) -> Scan:
    write_volume(torsos[0].volume, tmp_path / "ct.nii.gz")
    write_volume(torsos[0].mask, tmp_path / "mask.nii.gz")
    return Scan(tmp_path / "ct.nii.gz", mask=tmp_path / "mask.nii.gz")


def kept(cache: PictureCache, scan: Scan) -> Any:
    return cache.of_all({"a": scan}, lambda *_: None)


def test_what_is_kept_is_what_is_drawn(scan: Scan, torsos: list[Torso]) -> None:
    found = kept(PictureCache(SETTINGS, LABELS, 4), scan)
    expected = torch.from_numpy(to_pictures(read_ct(scan.image), SETTINGS))
    assert torch.equal(found.pixels("a"), expected)
    assert torch.equal(found.pixels("a", 2), expected[2:3])
    assert found.depth("a") == 4
    shares = torch.from_numpy(label_shares(torsos[0].mask, LABELS, SETTINGS, 4)).flatten(2)
    torch.testing.assert_close(found.shares("a"), shares, atol=1e-3, rtol=0)
    assert torch.equal(found.shares("a", 1), found.shares("a")[1:2])


def test_the_second_time_nothing_is_read(scan: Scan, monkeypatch: pytest.MonkeyPatch) -> None:
    path = PictureCache(SETTINGS, LABELS, 4).of(scan)
    again = PictureCache(SETTINGS, LABELS, 4)
    monkeypatch.setattr(module, "read_ct", None)
    monkeypatch.setattr(module, "read_mask", None)
    assert again.of(scan) == path


def test_whatever_decides_pictures_makes_another_entry(scan: Scan) -> None:
    changes: list[dict[str, Any]] = [{}, {"windows": ("bone",)}, {"size": 8}, {"depth": 5}, {"slab": "mean"}]
    paths = [PictureCache(SETTINGS.model_validate({**SETTINGS.model_dump(), **each})).of(scan) for each in changes]
    paths += [PictureCache(SETTINGS, *labels).of(scan) for labels in (((1,), 4), ((2,), 4), ((1,), 8))]
    assert len(set(paths)) == len(paths)
    assert all(path.is_file() for path in paths)


def test_all_code_that_makes_pictures_decides_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading, rescaling, resampling and windowing."""
    named: list[str] = []
    monkeypatch.setattr(module, "code_digest", lambda modules: named.extend(modules) or "")
    PictureCache(SETTINGS)
    steps = (read_ct, read_image, in_ras, read_series, to_hounsfield, resample, to_pictures, label_shares, PictureCache)
    assert {step.__module__ for step in steps} <= set(named)


def test_a_damaged_entry_is_drawn_again(scan: Scan) -> None:
    cache = PictureCache(SETTINGS)
    path = cache.of(scan)
    whole = path.read_bytes()
    path.write_bytes(whole[:-3] + bytes(255 - byte for byte in whole[-3:]))
    assert not is_intact(path)
    assert cache.of(scan) == path
    assert torch.equal(kept(cache, scan).pixels("a"), torch.from_numpy(to_pictures(read_ct(scan.image), SETTINGS)))


def test_a_changed_scan_is_drawn_again(scan: Scan, torsos: list[Torso]) -> None:
    first = PictureCache(SETTINGS).of(scan)
    write_volume(torsos[1].volume, scan.image)
    assert PictureCache(SETTINGS).of(scan) != first


def test_voxels_of_another_size_make_other_pictures(scan: Scan, torsos: list[Torso]) -> None:
    """The same values with another spacing have another aspect."""
    cache = PictureCache(SETTINGS)
    first = cache.of(scan)
    affine = torsos[0].volume.affine @ np.diag([2.0, 1.0, 1.0, 1.0])
    write_volume(Volume(torsos[0].volume.data, affine, "long"), scan.image)
    assert cache.of(scan) != first
    assert torch.equal(kept(cache, scan).pixels("a"), torch.from_numpy(to_pictures(read_ct(scan.image), SETTINGS)))


def test_slope_and_intercept_decide_too(torsos: list[Torso], tmp_path: Path) -> None:
    volume = torsos[0].volume
    stored = Volume(np.asfortranarray(volume.data + np.float32(1024)), volume.affine, "stored")
    write_volume(stored, tmp_path / "stored.nii.gz")
    scans = [Scan(tmp_path / "stored.nii.gz", Rescale(1.0, intercept)) for intercept in (-1024.0, -1000.0)]
    cache = PictureCache(SETTINGS)
    for _ in range(2):
        for scan in scans:
            expected = torch.from_numpy(to_pictures(read_ct(scan.image, scan.rescale), SETTINGS))
            assert torch.equal(kept(cache, scan).pixels("a"), expected)
    assert cache.of(scans[0]) != cache.of(scans[1])


def test_a_mask_of_another_grid_is_refused(scan: Scan, torsos: list[Torso]) -> None:
    assert scan.mask is not None
    mask = torsos[0].mask
    write_volume(Volume(mask.data[:, :, 1:].copy(order="F"), mask.affine, "mask"), scan.mask)
    with pytest.raises(StudyError, match=r"mask\.nii\.gz: lies on another grid than .*ct\.nii\.gz"):
        PictureCache(SETTINGS, LABELS, 4).of(scan)
    assert PictureCache(SETTINGS).of(scan).is_file()

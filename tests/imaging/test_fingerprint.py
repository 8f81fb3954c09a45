"""A fingerprint stays the same under what changes no scan, and tells scans apart."""

from dataclasses import replace
from itertools import combinations, permutations, product
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, zoom

from voxmoe.imaging.ct import read_ct
from voxmoe.imaging.fingerprint import CELLS, Fingerprint, alike, fingerprint, similarities, stack
from voxmoe.imaging.layouts import find_studies
from voxmoe.imaging.volume import Volume, read_image, write_volume
from voxmoe.vocabulary import Modality
from voxmoe.vqa.audit import THRESHOLD


def brain(seed: int, shape: tuple[int, int, int] = (44, 52, 40)) -> Volume:
    """An ellipsoid with coarse and fine structure of its own in a grid of zeros."""
    generator = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-1.2, 1.2, size) for size in shape), indexing="ij")
    inside = sum(axis**2 for axis in axes) < 1
    texture = sum(8 * gaussian_filter(generator.normal(size=shape), s) * s for s in (1, 3))
    data = np.where(inside, 400 + 100 * texture, 0).astype(np.float32)
    return Volume(np.asfortranarray(np.maximum(data, 0)), np.eye(4))


def changed(volume: Volume, data: np.ndarray) -> Volume:
    return replace(volume, data=np.asfortranarray(data.astype(np.float32)))


def like(first: Volume, second: Volume) -> float:
    return float(similarities(stack([fingerprint(first)]), stack([fingerprint(second)]))[0, 0])


def test_every_way_to_lay_out_the_axes_is_seen_through() -> None:
    original = brain(0)
    rows = [stack([fingerprint(original)])]
    for order in permutations(range(3)):
        for steps in product((1, -1), repeat=3):
            data = original.data.transpose(order)[tuple(slice(None, None, step) for step in steps)]
            rows.append(stack([fingerprint(changed(original, data))]))
    found = similarities(rows[0], np.concatenate(rows[1:]))
    assert found.shape == (1, 48)
    assert found.min() > 0.999


@pytest.mark.parametrize("gamma", [0.5, 0.7, 1.5, 2])
def test_no_increasing_change_of_intensities_counts(gamma: float) -> None:
    original = brain(1)
    data = original.data
    assert like(original, changed(original, 3 * data)) > 0.999
    assert like(original, changed(original, 0.3 * data + 70)) > 0.999
    assert like(original, changed(original, (data / 900) ** gamma)) > 0.97
    inside = data > 0
    scores = np.where(inside, (data - data[inside].mean()) / data[inside].std(), 0)
    assert like(original, changed(original, scores)) > 0.95


@pytest.mark.parametrize("everywhere", [False, True])
def test_little_noise_does_not_count(everywhere: bool) -> None:
    original = brain(2)
    noise = np.random.default_rng(0).normal(0, 0.02 * original.data.max(), original.shape)
    noisy = np.abs(original.data + noise)
    assert like(original, changed(original, noisy if everywhere else np.where(original.data, noisy, 0))) > 0.95


def test_the_grid_does_not_count() -> None:
    original = brain(3, (88, 104, 80))
    assert like(original, changed(original, np.pad(original.data, ((7, 3), (0, 9), (5, 1))))) > 0.999
    assert like(original, changed(original, zoom(original.data, 0.5, order=1))) > THRESHOLD


def test_different_brains_lie_below_the_threshold() -> None:
    rows = stack([fingerprint(brain(seed)) for seed in range(12)])
    found = similarities(rows, rows)
    assert np.allclose(np.diag(found), 1, atol=1e-5)
    assert max(found[i, j] for i, j in combinations(range(12), 2)) < 0.6


def test_equal_voxels_have_one_hash_however_they_are_stored(tmp_path: Path) -> None:
    whole = changed(brain(4), np.round(brain(4).data))
    files = {"a.nii.gz": ("RAS", np.float32), "b.nii": ("LPS", np.float64), "c.nii.gz": ("ASL", np.int16)}
    for name, (axes, kind) in files.items():
        write_volume(Volume(whole.data.astype(kind), whole.affine, axes=axes), tmp_path / name)
    hashes = {fingerprint(read_image(tmp_path / name)).voxels for name in files}
    assert hashes == {fingerprint(whole).voxels}
    assert fingerprint(changed(whole, np.pad(whole.data, 3))).voxels in hashes
    other = whole.data.copy()
    other[tuple(size // 2 for size in other.shape)] += 1
    assert fingerprint(changed(whole, other)).voxels not in hashes


def test_an_image_without_any_pattern_is_like_nothing() -> None:
    block = np.zeros((20, 20, 20), np.float32)
    block[5:15, 5:15, 5:15] = 200
    flat = Volume(np.asfortranarray(block), np.eye(4))
    assert like(flat, flat) == 0
    even = Volume(np.full((20, 20, 20), 7, np.float32), np.eye(4))
    assert like(even, even) == 0


def test_json_keeps_it() -> None:
    one = fingerprint(brain(5))
    again = Fingerprint.from_json(one.to_json())
    assert again.voxels == one.voxels
    assert (again.cells == one.cells).all()


@pytest.mark.parametrize("block", [1, 3, 100])
def test_pairs_are_found_in_blocks(block: int) -> None:
    generator = np.random.default_rng(0)
    cells = [generator.integers(-9, 10, (CELLS,) * 3).astype(np.int8) for _ in range(5)]
    cells += [cells[3][::-1], cells[0].transpose(2, 0, 1)]
    rows = stack([Fingerprint("", one) for one in cells])
    found = {(i, j): round(score, 4) for i, j, score in alike(rows, 0.9, block)}
    assert found == {(3, 5): 1.0, (0, 6): 1.0}
    assert list(alike(rows[:0], 0.9)) == []


@pytest.mark.real
def test_real_studies_are_told_apart_and_known_again(real_data: Path) -> None:
    images = [read_image(files.images[Modality.T1]) for files in find_studies(real_data / "brats")]
    rows = stack([fingerprint(image) for image in images])
    others = similarities(rows, rows)[np.triu_indices(len(rows), 1)]
    assert others.max() < THRESHOLD - 0.1
    image = images[0]
    noise = np.random.default_rng(0).normal(0, 0.02 * np.percentile(image.data, 99), image.shape)
    copy = np.abs((image.data / 1000) ** 1.5 * 700 + noise).transpose(1, 0, 2)[::-1]
    assert like(image, changed(image, copy)) > THRESHOLD + 0.05


def as_ct_is_met(hu: np.ndarray) -> dict[str, np.ndarray]:
    """Copies of a CT that are the same scan."""
    noise = np.random.default_rng(0).normal(0, 40, hu.shape)
    return {
        "noise of 40 HU": hu + noise,
        "padded with air": np.pad(hu, 8, constant_values=-1024),
        "grey values": np.clip((hu + 1000) / 2000, 0, 1),
        "lung window": np.clip((hu + 1350) / 1500, 0, 1),
        "half the resolution": hu[::2, ::2, ::2],
        "axes in another order": hu.transpose(2, 0, 1)[:, ::-1],
        "nine tenths of the slices": hu[:, :, : round(0.9 * hu.shape[2])],
    }


def as_ct(data: np.ndarray) -> Volume:
    return Volume(np.asfortranarray(data.astype(np.float32)), np.eye(4))


def test_the_foreground_of_a_ct_is_its_body_though_the_faces_cut_it() -> None:
    """A body from the first slice to the last: what differs from the faces would be nearly nothing."""
    x, y = np.meshgrid(np.linspace(-1.3, 1.3, 44), np.linspace(-1.3, 1.3, 40), indexing="ij")
    textures = [8 * gaussian_filter(np.random.default_rng(seed).normal(size=(44, 40, 30)), 2) for seed in (0, 1)]
    own, other = (np.where((x**2 + y**2 < 1)[..., None], 40 + 100 * texture, -1000.0) for texture in textures)
    row = stack([fingerprint(as_ct(own), ct=True)])
    for name in ("noise of 40 HU", "padded with air", "grey values", "axes in another order"):
        copy = stack([fingerprint(as_ct(as_ct_is_met(own)[name]), ct=True)])
        assert similarities(row, copy)[0, 0] > THRESHOLD, name
    assert similarities(row, stack([fingerprint(as_ct(other), ct=True)]))[0, 0] < THRESHOLD - 0.2
    nothing = stack([fingerprint(as_ct(np.full((9, 9, 9), -1000.0)), ct=True)])
    assert not nothing.any()


@pytest.mark.real
def test_real_cts_are_told_apart_and_known_again(real_data: Path) -> None:
    scans = [read_ct(real_data / "ct" / name).data for name in ("example_ct_sm.nii.gz", "example_ct_dicom")]
    rows = stack([fingerprint(as_ct(hu), ct=True) for hu in scans])
    assert similarities(rows[:1], rows[1:])[0, 0] < 0.1
    for row, hu in zip(rows, scans, strict=True):
        for name, copy in as_ct_is_met(hu).items():
            assert similarities(row[None], stack([fingerprint(as_ct(copy), ct=True)]))[0, 0] > 0.92, name

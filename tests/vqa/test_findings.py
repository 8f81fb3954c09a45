"""Findings recomputed the slow way, on masks with a truth that is known and on real ones."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from test_components import SPACINGS, slow_components, slow_shape, solid_shape

from voxmoe.errors import ImageError, LabelError, StudyError
from voxmoe.imaging.atlas import RegionMap, region_map
from voxmoe.imaging.volume import Volume, read_image, read_mask
from voxmoe.vocabulary import PROFILES_BY_NAME, REGIONS, Label, Profile, Task
from voxmoe.vqa.findings import Brain, LabelFindings, find, measure_brain, to_json
from voxmoe.vqa.protocol import CODE_V3, PAPER_V2, PROTOCOLS, ROBUST, Protocol

GLI = PROFILES_BY_NAME["gli"]
SIDES = ("left", "right")


def volume_of(mask: np.ndarray, spacing: tuple[float, ...] = (1, 1, 1)) -> Volume:
    return Volume(mask, np.diag([*map(float, spacing), 1.0]), "the mask")


def regions_on(mask: Volume, codes: np.ndarray) -> RegionMap:
    return RegionMap(Volume(codes.astype(np.uint8), mask.affine), "test atlas", "test space")


def slow_label(mask: np.ndarray, spacing: tuple[float, float, float], protocol: Protocol, brain: int) -> dict:
    """What the paper's rules say of one label, written out."""
    parts = slow_components(mask, protocol.connectivity)
    voxels, shape_of = int(mask.sum()), slow_shape
    largest = max(int(part.sum()) for part in parts)
    equals = sum(int(part.sum()) == largest for part in parts) > 1
    if protocol is ROBUST:
        smallest = 10 / float(np.prod(spacing))
        parts = [part for part in parts if part.sum() >= smallest] or [max(parts, key=np.count_nonzero)]
        shape_of = solid_shape
    sizes = [int(part.sum()) for part in parts]
    core = max(sizes) / sum(sizes)
    together = len(parts) == 1 or core >= protocol.core_fraction
    measured = [parts[int(np.argmax(sizes))]] if together else parts
    crops = [part[ndimage.find_objects(part.astype(np.uint8))[0]] for part in measured]
    numbers = np.mean([shape_of(crop, spacing) for crop in crops], axis=0)
    if protocol is not CODE_V3:
        percent, limits = 100 * voxels / brain, (0.85, 1.3, 0.60, 2.5)
    else:
        percent, limits = round(250 * voxels / brain, 2), (0.80, 1.4, 0.50, 3.0)
    round_sphericity, round_elongation, oval_sphericity, oval_elongation = limits
    sphericity, elongation = numbers[:2]
    if sum(sizes) * float(np.prod(spacing)) < 100:
        shape = "focus"
    elif sphericity >= round_sphericity and elongation <= round_elongation:
        shape = "round"
    elif oval_sphericity <= sphericity < round_sphericity and round_elongation < elongation <= oval_elongation:
        shape = "oval"
    else:
        shape = "elongated" if elongation > oval_elongation else "irregular"
    bins = (("<1%", 1), ("1-5%", 5), ("5-10%", 10), ("10-25%", 25), ("25-50%", 50), ("50-75%", np.inf))
    volume = next(name for name, limit in bins if percent < limit)
    spread = "core with satellite lesions" if core >= (0.85 if protocol is CODE_V3 else 0.7) else "scattered lesions"
    return {
        "volume": "N/A" if protocol is CODE_V3 and percent < 0.005 else volume,
        "shape": shape,
        "spread": "single lesion" if len(parts) == 1 else spread,
        "components": len(parts),
        "core_fraction": core,
        "numbers": numbers,
        "equals": equals,
    }


def check_against_slow(found: LabelFindings, slow: dict) -> None:
    assert (found.volume, found.spread, found.components) == (slow["volume"], slow["spread"], slow["components"])
    assert found.core_fraction == slow["core_fraction"]
    if not slow["equals"]:
        numbers = found.shape_numbers
        assert numbers is not None
        assert found.shape == slow["shape"]
        values = [numbers.sphericity, numbers.elongation, numbers.flatness, numbers.solidity, numbers.compactness]
        np.testing.assert_allclose(values, slow["numbers"], rtol=1e-4, atol=1e-6)


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    density=st.sampled_from((0.01, 0.1, 0.5, 0.9)),
    grown=st.integers(0, 2),
    spacing=st.sampled_from(SPACINGS),
    name=st.sampled_from(sorted(PROTOCOLS)),
)
def test_random_masks(seed: int, density: float, grown: int, spacing: tuple, name: str) -> None:
    generator = np.random.default_rng(seed)
    shape = tuple(generator.integers(1, 13, 3))
    seeds = generator.random(shape) < density / 27**grown
    where = ndimage.binary_dilation(seeds, np.ones((3, 3, 3)), grown) if grown else seeds
    values = np.where(where, generator.integers(1, 5, shape) if generator.random() < 0.5 else 2, 0)
    codes = generator.integers(0, 19, shape)
    mask = volume_of(values.astype(np.uint8), spacing)
    findings = find(mask, GLI, PROTOCOLS[name], Brain(2_000, "T1"), regions_on(mask, codes))
    for label in GLI.labels:
        found, here = findings.labels[label.key], values == label.value
        assert found.present == here.any()
        assert found.voxels == here.sum()
        touched = {(REGIONS[(code - 1) // 2], SIDES[(code - 1) % 2]) for code in codes[here].tolist() if code}
        assert found.regions is not None
        assert {(region, side) for region, sides in found.regions.items() for side in sides} == touched
        if found.present:
            assert found.volume_mm3 == pytest.approx(here.sum() * np.prod(spacing))
            check_against_slow(found, slow_label(here, spacing, PROTOCOLS[name], 2_000))


@pytest.mark.real
@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=lambda protocol: protocol.name)
def test_real_masks(protocol: Protocol, real_data: Path) -> None:
    checked = 0
    for path in sorted((real_data / "gli2024_masks").glob("*.nii.gz"))[4:]:
        mask = read_mask(path)
        findings = find(mask, GLI, protocol, Brain(1_500_000, "T1"))
        for label in GLI.labels:
            here = mask.data == label.value
            assert findings.labels[label.key].present == here.any()
            if here.any():
                box = ndimage.find_objects(here.astype(np.uint8))[0]
                slow = slow_label(here[box], mask.spacing, protocol, 1_500_000)
                check_against_slow(findings.labels[label.key], slow)
                checked += 1
    assert checked >= 20


@pytest.mark.real
def test_a_real_study_with_its_brain_and_regions(real_data: Path) -> None:
    folder = real_data / "brats" / "BraTS2021_01476"
    mask = read_mask(folder / "BraTS2021_01476_seg.nii.gz")
    t1 = read_image(folder / "BraTS2021_01476_t1.nii.gz")
    brain = measure_brain(t1, "T1", PAPER_V2)
    assert brain.voxels == np.count_nonzero(t1.data)
    regions = region_map(mask)
    findings = find(mask, PROFILES_BY_NAME["brats-2021"], PAPER_V2, brain, regions)
    assert (findings.atlas, findings.space, findings.brain_from) == ("desikan-killiany", "SRI24", "T1")
    for key, value in {"NCR": 1, "ED": 2, "ET": 4}.items():
        found, here = findings.labels[key], mask.data == value
        assert found.brain_fraction == here.sum() / brain.voxels
        assert found.regions is not None
        codes = np.unique(regions.codes[here])
        assert set(found.regions) == {REGIONS[(code - 1) // 2] for code in codes.tolist() if code}
    flipped = Volume(mask.data[::-1], mask.affine)
    mirrored = find(flipped, PROFILES_BY_NAME["brats-2021"], PAPER_V2, brain)
    for key, found in findings.labels.items():
        other = mirrored.labels[key]
        assert (other.shape, other.spread, other.voxels) == (found.shape, found.spread, found.voxels)
        assert other.shape_numbers is not None
        assert found.shape_numbers is not None
        assert other.shape_numbers.sphericity == pytest.approx(found.shape_numbers.sphericity, rel=1e-4)


def blob() -> Volume:
    """A block of ET on the left and a speck of it on the right; SNFH in no region."""
    mask = np.zeros((20, 12, 12), np.uint8)
    mask[2:7, 2:7, 2:7], mask[15, 3, 3], mask[10, 10, 10] = 3, 3, 2
    return volume_of(mask)


def test_everything_that_is_said_of_a_label() -> None:
    mask = blob()
    codes = np.zeros(mask.shape)
    codes[:10, :5], codes[10:, :5] = 1 + 2 * 3, 2 + 2 * 3
    codes[2:4, 6] = 1
    findings = find(mask, GLI, PAPER_V2, Brain(10_000, "T1"), regions_on(mask, codes))
    et, snfh, rc = (findings.labels[key] for key in ("ET", "SNFH", "RC"))
    assert (et.voxels, et.volume_mm3, et.components) == (126, pytest.approx(126), 2)
    assert (et.relative_volume, et.brain_fraction, et.volume) == (1.26, 0.0126, "1-5%")
    assert (et.shape, et.spread) == ("round", "core with satellite lesions")
    assert et.core_fraction == 125 / 126
    assert et.regions == {"frontal": ("left",), "temporal": ("left", "right")}
    assert et.answer(Task.REGION) == ("frontal", "temporal")
    assert et.answer(Task.VOLUME) == ("1-5%",)
    assert et.answer(Task.SHAPE) == ("round",)
    assert (snfh.regions, snfh.answer(Task.REGION)) == ({}, ("no labelled region",))
    assert (snfh.shape, snfh.spread) == ("focus", "single lesion")
    assert not rc.present
    assert {task: rc.answer(task) for task in Task} == dict.fromkeys(Task, ("N/A",))
    assert (rc.volume_mm3, rc.relative_volume, rc.shape_numbers, rc.regions) == (0, 0, None, {})


def test_scaling_the_spacing_scales_the_volume() -> None:
    small, large = blob(), volume_of(blob().data, (2, 2, 2))
    one, eight = (find(mask, GLI, PAPER_V2).labels["ET"] for mask in (small, large))
    assert eight.volume_mm3 == pytest.approx(8 * one.volume_mm3)
    assert (eight.voxels, eight.components, eight.core_fraction) == (one.voxels, one.components, one.core_fraction)


@pytest.mark.parametrize(("voxels", "shape"), [(99, "focus"), (100, "elongated")])
def test_a_focus_is_smaller_than_100_mm3_in_all(voxels: int, shape: str) -> None:
    mask = np.zeros((60, 6, 1), np.uint8)
    mask[5 : 5 + voxels // 2, 2] = 3
    mask[5 : 5 + voxels - voxels // 2, 3] = 3
    found = find(volume_of(mask), GLI, PAPER_V2).labels["ET"]
    assert (found.voxels, found.shape) == (voxels, shape)


@pytest.mark.parametrize(("rest", "spread"), [(3, "core with satellite lesions"), (4, "scattered lesions")])
def test_exactly_seven_tenths_is_still_a_core(rest: int, spread: str) -> None:
    mask = np.zeros((30, 3, 3), np.uint8)
    mask[0:7, 0, 0] = 1
    mask[10 : 10 + 2 * rest : 2, 0, 0] = 1
    found = find(volume_of(mask), GLI, PAPER_V2).labels["NETC"]
    assert (found.core_fraction, found.spread) == (7 / (7 + rest), spread)


def test_what_cannot_be_computed_says_why() -> None:
    findings = find(blob(), GLI, PAPER_V2, regions="no atlas fits")
    et = to_json(findings)["labels"]["ET"]
    assert et["volume"] == {"fraction": None, "percent": None, "category": None}
    assert (et["regions"], et["sides"]) == (None, None)
    assert et["reasons"] == {"volume": "no T1 image: the brain's volume is unknown", "regions": "no atlas fits"}
    assert et["spread"] == {
        "category": "core with satellite lesions",
        "components": 2,
        "core_fraction": 125 / 126,
    }
    assert findings.labels["ET"].answer(Task.REGION) == findings.labels["ET"].answer(Task.VOLUME) == ()
    assert findings.labels["RC"].answer(Task.REGION) == ("N/A",)


def test_json_names_protocol_profile_brain_and_atlas() -> None:
    mask = blob()
    found = to_json(find(mask, GLI, CODE_V3, Brain(9, "T2"), regions_on(mask, np.full(mask.shape, 18))))
    assert (found["protocol"], found["profile"]) == ("code-v3", "gli-2024")
    assert found["brain"] == {"voxels": 9, "from": "T2"}
    assert found["atlas"] == {"name": "test atlas", "space": "test space"}
    assert list(found["labels"]) == ["NETC", "SNFH", "ET", "RC"]
    assert found["labels"]["ET"]["sides"] == {"brainstem": ["right"]}


def test_the_floor_of_code_v3_makes_a_present_label_na() -> None:
    findings = find(blob(), GLI, CODE_V3, Brain(1_000_000, "T1"))
    assert findings.labels["SNFH"].present
    assert (findings.labels["SNFH"].relative_volume, findings.labels["SNFH"].volume) == (0, "N/A")
    assert (findings.labels["ET"].relative_volume, findings.labels["ET"].volume) == (0.03, "<1%")


def test_how_the_brain_is_counted() -> None:
    image = volume_of(np.array([-1, 0, 1e-7, 1e-5, 5], np.float32).reshape(5, 1, 1))
    assert measure_brain(image, "T1", PAPER_V2) == Brain(4, "T1")
    assert measure_brain(image, "T1", CODE_V3) == Brain(2, "T1")
    with pytest.raises(ImageError, match="no voxel counts as brain; a skull-stripped T1 image is needed"):
        measure_brain(volume_of(np.full((2, 2, 2), -1, np.float32)), "T1", CODE_V3)


def test_labels_and_grids_have_to_fit() -> None:
    mask = blob()
    with pytest.raises(LabelError, match="label value 3 is not in profile brats-2021"):
        find(mask, PROFILES_BY_NAME["brats-2021"], PAPER_V2)
    elsewhere = RegionMap(Volume(np.zeros(mask.shape, np.uint8), 2 * mask.affine), "a", "s")
    with pytest.raises(StudyError, match="lies on another grid than the mask"):
        find(mask, GLI, PAPER_V2, regions=elsewhere)


def scattered(
    mask: np.ndarray, generator: np.random.Generator, spacing: tuple[float, ...], limit_mm3: float
) -> np.ndarray:
    """The mask with up to 30 more specks of its label, each below `limit_mm3` and apart from all else."""
    out = mask.copy()
    for _ in range(30):
        size = generator.integers(1, 4, 3)
        if np.prod(size) * np.prod(spacing) >= limit_mm3:
            continue
        low = [int(generator.integers(1, n - s)) for n, s in zip(mask.shape, size, strict=True)]
        around = tuple(slice(start - 1, start + s + 1) for start, s in zip(low, size, strict=True))
        if not out[around].any():
            out[tuple(slice(start, start + s) for start, s in zip(low, size, strict=True))] = 3
    return out


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), bodies=st.integers(1, 4), spacing=st.sampled_from(SPACINGS))
def test_robust_does_not_see_specks(seed: int, bodies: int, spacing: tuple[float, ...]) -> None:
    """Specks below the volume of a fragment, scattered around any lesions, change neither spread nor shape; they do
    count in the volume."""
    generator = np.random.default_rng(seed)
    mask = np.zeros((30, 34, 28), np.uint8)
    for _ in range(bodies):
        low, size = generator.integers(1, 16, 3), generator.integers(3, 11, 3)
        mask[tuple(slice(start, start + s) for start, s in zip(low, size, strict=True))] = 3
    specked = scattered(mask, generator, spacing, ROBUST.fragment_mm3)
    brain = Brain(20_000, "T1")
    before, after = (find(volume_of(one, spacing), GLI, ROBUST, brain).labels["ET"] for one in (mask, specked))
    assert (after.spread, after.components, after.core_fraction) == (
        before.spread,
        before.components,
        before.core_fraction,
    )
    assert (after.shape, after.shape_numbers) == (before.shape, before.shape_numbers)
    assert after.voxels == np.count_nonzero(specked)
    assert after.volume_mm3 == pytest.approx(np.count_nonzero(specked) * np.prod(spacing))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_specks_alone_are_one_focus_to_robust(seed: int) -> None:
    mask = np.zeros((30, 34, 28), np.uint8)
    mask[5:7, 5:7, 5:7] = 3
    specked = scattered(mask, np.random.default_rng(seed), (1, 1, 1), ROBUST.fragment_mm3)
    found = find(volume_of(specked), GLI, ROBUST).labels["ET"]
    assert (found.shape, found.spread, found.components, found.core_fraction) == ("focus", "single lesion", 1, 1)
    assert find(volume_of(specked), GLI, PAPER_V2).labels["ET"].components == len(slow_components(specked > 0, 26))


def test_a_scatter_of_specks_is_round_to_the_paper_and_not_to_robust() -> None:
    """Two rods and 200 single voxels: the paper's mean over all is that of the voxels."""
    mask = np.zeros((60, 60, 12), np.uint8)
    mask[2:40, 2:4, 2:4], mask[2:40, 8:10, 2:4] = 3, 3
    mask[1:60:3, 15:45:3, 8] = 3
    paper, robust = (find(volume_of(mask), GLI, protocol).labels["ET"] for protocol in (PAPER_V2, ROBUST))
    assert paper.shape_numbers is not None
    assert (paper.shape, paper.spread, paper.components) == ("round", "scattered lesions", 202)
    assert paper.shape_numbers.sphericity > 1
    assert (robust.shape, robust.spread, robust.components) == ("elongated", "scattered lesions", 2)


def test_the_volume_of_a_fragment_is_in_mm3() -> None:
    mask = np.zeros((20, 6, 6), np.uint8)
    mask[1:7, 1:6, 1:6], mask[12:14, 2:4, 2] = 3, 3
    assert find(volume_of(mask), GLI, ROBUST).labels["ET"].components == 1
    assert find(volume_of(mask, (1, 1, 2.5)), GLI, ROBUST).labels["ET"].components == 2
    larger = ROBUST.model_copy(update={"fragment_mm3": 10.001})
    assert find(volume_of(mask, (1, 1, 2.5)), GLI, larger).labels["ET"].components == 1


def test_a_label_of_several_values() -> None:
    mask = blob()
    both = Profile("x", "x", (Label(2, "all", "all", also=(3,)), Label(3, "ET", "ET")))
    found = find(mask, both, PAPER_V2).labels
    assert (found["all"].voxels, found["all"].components) == (127, 3)
    assert found["ET"] == find(mask, GLI, PAPER_V2).labels["ET"]

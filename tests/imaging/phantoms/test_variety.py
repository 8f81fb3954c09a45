"""What varies from phantom to phantom does vary, over the ranges that docs/phantoms.md tells, and is seen in images."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from voxmoe.imaging.phantoms import Subject, draw_subject
from voxmoe.imaging.phantoms.acquisition import acquire
from voxmoe.imaging.phantoms.brain import grow_brain
from voxmoe.imaging.phantoms.contrasts import Contrast
from voxmoe.imaging.phantoms.diseases import draw_foci
from voxmoe.imaging.phantoms.foci import Focus
from voxmoe.imaging.phantoms.parameters import Parameters, draw_parameters
from voxmoe.imaging.phantoms.template import dural_folds
from voxmoe.imaging.phantoms.voxels import Raster
from voxmoe.vocabulary import PROFILES_BY_NAME, Modality

PREOPERATIVE = PROFILES_BY_NAME["brats-2021"]
DRAWN = [draw_parameters(PREOPERATIVE, 11, index) for index in range(60)]
T1, T1GD, T2, FLAIR = Modality


def of_contrast(name: str, *modalities: Modality) -> Callable[[Parameters], list[float]]:
    return lambda drawn: [getattr(drawn.modalities[modality], name) for modality in modalities or Modality]


def uptake(tissue: str) -> Callable[[Parameters], list[float]]:
    """How many times brighter a tissue is in T1Gd than in T1."""
    return lambda drawn: [drawn.modalities[T1GD].brightness[tissue] / drawn.modalities[T1].brightness[tissue]]


def bright(modality: Modality, tissue: str, than: str = "") -> Callable[[Parameters], list[float]]:
    def ratio(drawn: Parameters) -> list[float]:
        brightness = drawn.modalities[modality].brightness
        return [brightness[tissue] / (brightness[than] if than else 1.0)]

    return ratio


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [
        (of_contrast("gamma", T1, T1GD), 0.88, 1.15),
        (of_contrast("gamma", T2), 0.65, 1.15),
        (of_contrast("gamma", FLAIR), 0.8, 1.15),
        (of_contrast("bias"), 0.02, 0.12),
        (of_contrast("noise"), 0.01, 0.06),
        (of_contrast("texture"), 0.01, 0.04),
        (of_contrast("thickness"), 1.0, 5.5),
        (of_contrast("rim_shading"), 0.0, 0.3),
        (uptake("vessel"), 1.6, 3.6),
        (uptake("plexus"), 1.6, 3.0),
        (uptake("dura"), 1.2, 2.6),
        (uptake("rim"), 1.12, 2.6),
        (uptake("halo"), 0.92, 1.08),
        (uptake("core"), 0.92, 1.08),
        (bright(T2, "csf"), 2.3, 4.0),
        (lambda drawn: [drawn.dura], 0.0, 0.9),
        (lambda drawn: [drawn.anatomy.strip_offset], -0.3, 1.8),
        (lambda drawn: [drawn.anatomy.ventricles], -1.0, 3.5),
        (lambda drawn: list(drawn.anatomy.rotation), -6.0, 6.0),
        (lambda drawn: list(drawn.anatomy.elastic[:1]), 1.5, 3.6),
    ],
)
def test_what_is_drawn_fills_its_range_and_keeps_to_it(
    values: Callable[[Parameters], list[float]], low: float, high: float
) -> None:
    found = np.array([value for drawn in DRAWN for value in values(drawn)])
    assert found.min() >= low
    assert found.max() <= high
    assert np.ptp(found) > 0.7 * (high - low)


@pytest.mark.parametrize(
    ("darker", "brighter", "modality"),
    [
        ("csf", "grey", T1),
        ("csf", "grey", FLAIR),
        ("grey", "csf", T2),
        ("grey", "halo", FLAIR),
        ("cyst", "rim", T1GD),
        ("cavity", "halo", T1),
    ],
)
def test_the_radiological_order_holds_in_every_draw(darker: str, brighter: str, modality: Modality) -> None:
    assert all(bright(modality, brighter, than=darker)(drawn)[0] > 1 for drawn in DRAWN)


@pytest.fixture(scope="module")
def subject() -> Subject:
    return draw_subject(PREOPERATIVE, 7, 0, spacing=2.0)


def plain(subject: Subject) -> Contrast:
    """Of a modality without noise, texture, shading or thick slices."""
    contrast = subject.parameters.modalities[T1]
    shade = {"bias": 0.0, "shading": (0.0, 0.0, 0.0), "rim_shading": 0.0, "cut": 0.0}
    return replace(
        contrast, noise=0.0, texture=0.0, gamma=1.0, blur=(0.0, 0.0, 0.0), thickness=1.0, scale=1000.0, **shade
    )


def test_each_disturbance_does_what_it_is_called(subject: Subject) -> None:
    scene, quiet = subject.scene, plain(subject)
    inside = scene.brain.voxels.on_grid(scene.brain.inside)
    base = acquire(scene, quiet)[inside].astype(float)
    white = scene.brain.voxels.on_grid(scene.brain.white > 0.95)[inside]

    def seen(**changes: object) -> np.ndarray:
        return acquire(scene, replace(quiet, **changes))[inside].astype(float)

    noisy = seen(noise=0.2)
    assert np.std((noisy / base)[white]) > 5 * np.std((seen(noise=0.02) / base)[white])
    biased = np.log(seen(bias=0.12) / base)
    assert 0.06 < np.std(biased) < 0.2
    assert np.abs(np.log(seen(gamma=1.15)) - np.log(1000) - 1.15 * (np.log(base) - np.log(1000))).max() < 0.05
    right = np.indices(inside.shape)[0][inside] > inside.shape[0] / 2
    sloped = seen(shading=(0.12, 0.0, 0.0)) / base
    assert abs(np.median(sloped[right]) / np.median(sloped[~right]) - 1) > 0.05
    surface = scene.brain.voxels.on_grid(scene.brain.depth < 4)[inside]
    assert np.median((seen(rim_shading=0.3) / base)[surface]) > 1.1 * np.median(
        (seen(rim_shading=0.3) / base)[~surface]
    )
    for axis in range(3):
        thick = acquire(scene, replace(quiet, thickness=5.5, thick_axis=axis)).astype(float)
        steps = [np.abs(np.diff(thick, axis=along))[20:-20, 20:-20, 20:-20].mean() for along in range(3)]
        before = [
            np.abs(np.diff(acquire(scene, quiet).astype(float), axis=along))[20:-20, 20:-20, 20:-20].mean()
            for along in range(3)
        ]
        kept = [step / one for step, one in zip(steps, before, strict=True)]
        assert int(np.argmin(kept)) == axis, "the slices are thick along this axis alone"


def test_vessels_plexus_and_dura_enhance_without_a_lesion(subject: Subject) -> None:
    scene = subject.scene
    brain = scene.brain
    bright_ones = {"vessel": 2.5, "plexus": 1.8, "dura": 1.8}
    contrast = replace(plain(subject), brightness={**plain(subject).brightness, **bright_ones})
    image = acquire(scene, contrast).astype(float)
    healthy = subject.mask.data == 0
    for fraction, least in ((brain.vessel, 1800), (brain.plexus, 1500)):
        where = brain.voxels.on_grid((fraction > 0.9) & brain.inside) & healthy
        assert where.sum() > 20
        assert np.median(image[where]) > least


def test_falx_and_tentorium_lie_between_the_halves_and_over_the_cerebellum() -> None:
    mni = np.indices((141, 181, 141)).reshape(3, -1).astype(np.float32)
    mni -= np.array([[70], [108], [60]], dtype=np.float32)
    x, y, z = mni
    folds = dural_folds([x, y, z])
    assert 0 <= folds.min() < folds.max() <= 1
    falx = (x == 0) & (folds > 0.9)
    assert falx[(y == 40) & (z == 45)].any(), "between the frontal lobes"
    inner = (y > -42) & (y < 27) & (z > 2) & (z < 25)
    assert not folds[inner & (np.abs(x) < 15)].any(), "not through corpus callosum and ventricles"
    tent = (folds > 0.5) & (np.abs(x) > 20)
    assert -45 < z[tent].min() < z[tent].max() < 2
    assert y[tent].max() < -18, "behind the brainstem"
    assert not folds[(np.abs(x) < 10) & (y > -40) & (z < 2) & (y < -20)].any(), "open for the brainstem"


def test_more_is_stripped_where_the_offset_is_larger() -> None:
    anatomy = draw_parameters(PREOPERATIVE, 7, 0).anatomy
    sizes = [
        int(grow_brain(replace(anatomy, strip_offset=offset), (), Raster(4.0)).inside.sum()) for offset in (-0.3, 1.8)
    ]
    assert sizes[1] < 0.97 * sizes[0]


def shares(profile: str, count: int = 300) -> dict[str, float]:
    drawn = [draw_foci(np.random.default_rng(seed), PROFILES_BY_NAME[profile]) for seed in range(count)]
    kinds = [foci[0].kind if foci else "" for foci in drawn]
    return {kind: kinds.count(kind) / count for kind in set(kinds)}


def test_gliomas_before_surgery_are_of_three_kinds() -> None:
    found = shares("brats-2021")
    expected = {"glioblastoma": 0.68, "low-grade glioma": 0.17, "infiltrating glioma": 0.15}
    assert found == pytest.approx(expected, abs=0.08)


def foci_of(profile: str, kind: str) -> list[Focus]:
    drawn = (draw_foci(np.random.default_rng(seed), PROFILES_BY_NAME[profile]) for seed in range(200))
    return [focus for foci in drawn for focus in foci if focus.kind == kind]


def test_low_grade_gliomas_mostly_do_not_enhance_and_metastases_are_many() -> None:
    low = foci_of("brats-2021", "low-grade glioma")
    assert 0.4 < np.mean([focus.enhancing == 0 for focus in low]) < 0.9
    counts = [len(draw_foci(np.random.default_rng(seed), PROFILES_BY_NAME["met-2024"])) for seed in range(200)]
    assert min(counts) == 1
    assert max(counts) > 8
    assert any(focus.cavity > 0 for focus in foci_of("met-2025", "treated metastasis"))
    assert foci_of("brats-2021", "second focus"), "some are multifocal"

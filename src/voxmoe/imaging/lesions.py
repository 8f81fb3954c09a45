"""Lesions of synthetic studies: drawn for a profile, then grown in a brain as nested, rough-edged parts.

Each focus is a level set: the distance to its centre, bent by noise at several scales and by the tissue it
meets. A part takes the cheapest voxels until it has its drawn volume, so volumes follow what real masks show.
Volumes are percent of the brain, lengths mm, world coordinates RAS.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8
from scipy import ndimage

from voxmoe.imaging.anatomy import (
    AnatomyParameters,
    Brain,
    Point,
    Push,
    load_template,
    mni_to_world,
    rotation,
    smooth_noise,
)
from voxmoe.vocabulary import Profile


class Part(IntEnum):
    """What a lesion is made of; a higher part lies over a lower one."""

    HALO = 1
    CORE = 2
    CYST = 3
    RIM = 4
    CAVITY = 5


PART_KEYS = MappingProxyType(
    {
        Part.HALO: ("SNFH", "ED"),
        Part.CORE: ("NETC", "NCR", "NC", "NET", "GTV"),
        Part.CYST: ("CC", "NETC", "NCR", "NC", "GTV"),
        Part.RIM: ("ET", "GTV"),
        Part.CAVITY: ("RC",),
    }
)
"""The labels a part can carry: the first that the profile knows; none of them: the part stays unlabelled."""

TREATED = frozenset({"gli-2024", "met-2025"})
"""The profiles that look at patients after surgery."""


@dataclass(frozen=True)
class Focus:
    """One lesion as drawn."""

    kind: str
    centre_mni: Point
    axes: Point
    """Relative lengths along its own axes; their product is 1."""
    rotation: Point
    tumour: float
    cavity: float
    halo: float
    enhancing: float
    """The share of the tumour that enhances."""
    cyst: float
    """The share of the core that is fluid."""
    patchiness: float
    """How far enhancement leaves the tumour's rim, mm."""
    roughness: float
    grain: float
    fingers: float
    sparing: float
    """How far the halo shuns grey matter, mm."""
    smallest: int
    """Islands of the halo with fewer voxels are left out."""
    hugging: float
    """How much the halo follows the ventricles' walls, 0 to 1."""
    push: float
    seed: int


@dataclass(frozen=True)
class Lesions:
    """All foci of a study as parts over the brain's drawn voxels."""

    parts: UInt8[np.ndarray, " N"]
    soft: dict[Part, Float32[np.ndarray, " N"]]
    """How much of each part a voxel shows, 0 to 1: edges fade in the images where the mask must decide."""
    centres: tuple[Point, ...]


def part_values(profile: Profile) -> dict[Part, int]:
    """The label value of each part in this profile, 0 where it has no label for it."""
    values = {label.key: label.value for label in profile.labels}
    return {part: next((values[key] for key in keys if key in values), 0) for part, keys in PART_KEYS.items()}


# --- drawing

Rng = np.random.Generator


def _lognormal(rng: Rng, median: float, sigma: float, low: float, high: float) -> float:
    return float(np.clip(median * np.exp(sigma * rng.standard_normal()), low, high))


def _chance(rng: Rng, probability: float) -> bool:
    return bool(rng.random() < probability)


def _site(rng: Rng, name: str) -> Point:
    sites = load_template().sites[name]
    x, y, z = (float(value) for value in sites[rng.integers(len(sites))] + rng.uniform(-0.5, 0.5, 3))
    return x, y, z


def _near(rng: Rng, centre: Point, distance: float) -> Point:
    direction = rng.standard_normal(3)
    x, y, z = (float(v) for v in np.array(centre) + distance * direction / np.linalg.norm(direction))
    return x, y, z


def _focus(rng: Rng, kind: str, centre: Point, **drawn: Any) -> Focus:
    stretch = rng.normal(0, 0.22, 3)
    axes = np.exp(stretch - stretch.mean())
    common: dict[str, Any] = {
        "kind": kind,
        "centre_mni": centre,
        "axes": tuple(float(value) for value in axes),
        "rotation": tuple(float(value) for value in rng.uniform(-90, 90, 3)),
        "tumour": 0.0,
        "cavity": 0.0,
        "halo": 0.0,
        "enhancing": 0.0,
        "cyst": 0.0,
        "patchiness": float(rng.uniform(0.5, 3.5)),
        "roughness": float(rng.uniform(0.12, 0.4)),
        "grain": float(rng.uniform(0.5, 1.4)),
        "fingers": float(rng.uniform(3, 8)),
        "sparing": float(rng.uniform(2, 12)),
        "smallest": 1,
        "hugging": 0.0,
        "push": 0.0,
        "seed": int(rng.integers(2**32)),
    }
    return Focus(**{**common, **drawn})


def _specks(rng: Rng, focus: Focus, most: int) -> list[Focus]:
    """Small islands near a focus."""
    mixed = 0 < focus.enhancing < 1
    radius = 12 + 11 * (focus.tumour + focus.cavity) ** (1 / 3)
    return [
        _focus(
            rng,
            "satellite",
            _near(rng, focus.centre_mni, radius * float(rng.uniform(0.7, 1.4))),
            tumour=_lognormal(rng, 0.006, 1.2, 0.0003, 0.15) if focus.tumour else 0.0,
            halo=_lognormal(rng, 0.05, 1.2, 0.002, 0.5) if focus.halo else 0.0,
            enhancing=float(rng.choice((0.0, 1.0, 0.7), p=(0.2, 0.5, 0.3))) if mixed else float(focus.enhancing >= 1),
            cavity=_lognormal(rng, 0.004, 1.2, 0.0005, 0.1) if focus.cavity and _chance(rng, 0.2) else 0.0,
            grain=0.5 * focus.grain,
        )
        for _ in range(int(rng.integers(0, most + 1)))
    ]


def _treated_glioma(rng: Rng) -> list[Focus]:
    """After surgery and radiotherapy: a cavity, tissue along its wall, a broad halo, changes elsewhere."""
    cavity = _lognormal(rng, 0.4, 1.2, 0.003, 4.0) if _chance(rng, 0.77) else 0.0
    rim = _lognormal(rng, 0.16, 1.6, 0.003, 4.0) if _chance(rng, 0.7) else 0.0
    core = _lognormal(rng, 0.08, 1.7, 0.002, 2.0) if _chance(rng, 0.42) else 0.0
    halo = _lognormal(rng, 3.4, 0.75, 0.2, 11.0) if _chance(rng, 0.985) else 0.0
    elsewhere = float(rng.uniform(0.05, 0.45)) * halo if _chance(rng, 0.4) else 0.0
    main = _focus(
        rng,
        "treated glioma",
        _site(rng, "white matter"),
        cavity=cavity,
        tumour=rim + core,
        enhancing=rim / (rim + core) if rim + core else 0.0,
        patchiness=float(rng.uniform(2, 7)),
        grain=float(rng.uniform(0.1, 0.8)),
        fingers=float(rng.uniform(3, 7)),
        smallest=round(_lognormal(rng, 25.0, 1.5, 1.0, 400.0)),
        halo=halo - elsewhere,
        hugging=float(rng.choice((0.0, 0.35, 0.6), p=(0.6, 0.2, 0.2))),
        push=float(rng.uniform(-0.15, 0.1)),
    )
    foci = [main, *_specks(rng, main, 3)]
    if elsewhere:
        x, y, z = _site(rng, "white matter")
        mirrored = _near(rng, (-main.centre_mni[0], main.centre_mni[1], main.centre_mni[2]), 10.0)
        centre = mirrored if _chance(rng, 0.5) else (x, y, z)
        foci.append(
            _focus(
                rng,
                "white matter change",
                centre,
                halo=elsewhere,
                hugging=float(rng.uniform(0.2, 0.8)),
                grain=main.grain,
                fingers=main.fingers,
                smallest=main.smallest,
            )
        )
    return foci


def _glioblastoma(rng: Rng) -> list[Focus]:
    tumour = _lognormal(rng, 3.0, 0.9, 0.06, 13.0)
    main = _focus(
        rng,
        "glioblastoma",
        _site(rng, "deep" if _chance(rng, 0.1) else "white matter"),
        tumour=tumour,
        enhancing=float(np.clip(rng.beta(1.8, 1.8), 0.08, 0.97)),
        halo=_lognormal(rng, 2.8, 0.8, 0.3, 11.0),
        cyst=float(rng.uniform(0.1, 0.6)) if _chance(rng, 0.2) else 0.0,
        push=float(rng.uniform(0, 0.3)) if tumour > 0.5 else 0.0,
    )
    foci = [main, *_specks(rng, main, 3)]
    if _chance(rng, 0.15):
        centre = _site(rng, "white matter") if _chance(rng, 0.5) else _near(rng, main.centre_mni, 32.0)
        share = float(rng.uniform(0.05, 0.6))
        foci.append(
            replace(
                _focus(rng, "second focus", centre),
                tumour=share * tumour,
                halo=share * main.halo,
                enhancing=0.7,
            )
        )
    return foci


def _low_grade(rng: Rng) -> list[Focus]:
    main = _focus(
        rng,
        "low-grade glioma",
        _site(rng, "white matter"),
        tumour=_lognormal(rng, 2.6, 0.9, 0.02, 9.0),
        enhancing=float(rng.uniform(0.003, 0.08)) if _chance(rng, 0.35) else 0.0,
        patchiness=8.0,
        halo=_lognormal(rng, 1.8, 0.8, 0.1, 8.0),
        cyst=float(rng.uniform(0.1, 0.8)) if _chance(rng, 0.2) else 0.0,
        push=float(rng.uniform(0, 0.3)),
    )
    return [main, *_specks(rng, main, 2)]


def _infiltrating(rng: Rng) -> list[Focus]:
    """Mostly halo, with a small enhancing or necrotic spot."""
    spot = _lognormal(rng, 0.12, 0.9, 0.01, 0.6)
    main = _focus(
        rng,
        "infiltrating glioma",
        _site(rng, "white matter"),
        tumour=spot,
        enhancing=float(rng.uniform(0.3, 1)),
        halo=_lognormal(rng, 2.2, 0.6, 0.4, 7.0),
    )
    return [main, *_specks(rng, main, 2)]


def _metastasis(rng: Rng, smallest: float) -> Focus:
    tumour = _lognormal(rng, 0.035, 1.4, smallest, 2.2)
    large = tumour > 0.1
    site = rng.choice(("junction", "cerebellum", "white matter", "brainstem"), p=(0.66, 0.2, 0.11, 0.03))
    swollen = _chance(rng, 0.85 if large else 0.35)
    return _focus(
        rng,
        "metastasis",
        _site(rng, str(site)),
        tumour=tumour,
        enhancing=float(rng.uniform(0.3, 0.95)) if large and _chance(rng, 0.75) else 1.0,
        patchiness=float(rng.uniform(0.2, 1.2)),
        roughness=float(rng.uniform(0.03, 0.18)),
        grain=float(rng.uniform(0.1, 0.6)),
        halo=_lognormal(rng, 3.0, 0.9, 0.3, 25.0) * min(tumour, 0.3) if swollen else 0.0,
    )


def _metastases(rng: Rng) -> list[Focus]:
    count = int(np.clip(rng.geometric(0.28), 1, 15))
    return [_metastasis(rng, 0.05 if index == 0 else 0.0008) for index in range(count)]


def _treated_metastases(rng: Rng) -> list[Focus]:
    foci = _metastases(rng)
    if _chance(rng, 0.35):
        first = foci[0]
        foci[0] = replace(
            first,
            kind="treated metastasis",
            cavity=_lognormal(rng, 0.3, 0.9, 0.02, 2.0),
            halo=max(first.halo, 0.4),
        )
    return foci


def _meningioma(rng: Rng) -> list[Focus]:
    count = 2 if _chance(rng, 0.1) else 1
    return [
        _focus(
            rng,
            "meningioma",
            _site(rng, "surface"),
            tumour=_lognormal(rng, 1.3 if index == 0.0 else 0.1, 1.0, 0.02, 8.0),
            enhancing=1.0 if _chance(rng, 0.45) else float(rng.uniform(0.8, 0.995)),
            patchiness=5.0,
            roughness=float(rng.uniform(0.05, 0.18)),
            grain=float(rng.uniform(0.2, 0.6)),
            halo=_lognormal(rng, 1.2, 1.1, 0.02, 8.0) if _chance(rng, 0.6) else 0.0,
            push=float(rng.uniform(0, 0.3)),
        )
        for index in range(count)
    ]


def _paediatric(rng: Rng) -> list[Focus]:
    site = str(rng.choice(("brainstem", "cerebellum", "deep", "white matter"), p=(0.4, 0.3, 0.15, 0.15)))
    main = _focus(
        rng,
        f"paediatric tumour, {site}",
        _site(rng, site),
        tumour=_lognormal(rng, 2.0, 0.7, 0.15, 8.0),
        enhancing=float(rng.beta(1.1, 2.2)) if _chance(rng, 0.65) else 0.0,
        patchiness=float(rng.uniform(3, 9)),
        cyst=float(rng.uniform(0.05, 0.6)) if _chance(rng, 0.45) else 0.0,
        roughness=float(rng.uniform(0.08, 0.25)),
        halo=_lognormal(rng, 0.5, 1.1, 0.02, 4.0) if _chance(rng, 0.45) else 0.0,
        push=float(rng.uniform(0, 0.25)),
    )
    return [main, *_specks(rng, main, 1)]


_GLIOMAS = ((0.68, _glioblastoma), (0.17, _low_grade), (0.15, _infiltrating))
_ALL_TUMOURS = (
    (0.4, _glioblastoma),
    (0.1, _low_grade),
    (0.1, _infiltrating),
    (0.2, _metastases),
    (0.1, _meningioma),
    (0.1, _paediatric),
)
DISEASES: MappingProxyType[str, tuple[tuple[float, Callable[[Rng], list[Focus]]], ...]] = MappingProxyType(
    {
        "gli-2024": ((0.99, _treated_glioma), (0.01, lambda _: [])),
        "met-2024": ((1.0, _metastases),),
        "met-2025": ((0.99, _treated_metastases), (0.01, lambda _: [])),
        "goat-2024": _ALL_TUMOURS,
        "ped-2023": ((1.0, _paediatric),),
        "ped-2024": ((1.0, _paediatric),),
        "men-2023": ((1.0, _meningioma),),
        "men-rt-2024": ((1.0, _meningioma),),
    }
)
"""What each profile shows, and how often; the others are gliomas before surgery."""


def draw_foci(rng: Rng, profile: Profile) -> tuple[Focus, ...]:
    diseases = DISEASES.get(profile.name, _GLIOMAS)
    chosen = rng.choice(len(diseases), p=[weight for weight, _ in diseases])
    return tuple(diseases[chosen][1](rng))


def pushes(foci: tuple[Focus, ...], anatomy: AnatomyParameters) -> tuple[Push, ...]:
    """How the foci displace the brain around them."""
    return tuple(
        Push(
            mni_to_world(anatomy, focus.centre_mni),
            focus.push,
            8 + 15 * (focus.tumour + focus.cavity) ** (1 / 3),
        )
        for focus in foci
        if focus.push
    )


# --- growing


@dataclass(frozen=True, eq=False)
class _Tissue:
    """The brain around lesions, as arrays over a box."""

    inside: Bool[np.ndarray, "X Y Z"]
    csf: Float32[np.ndarray, "X Y Z"]
    grey: Float32[np.ndarray, "X Y Z"]
    deep: Float32[np.ndarray, "X Y Z"]
    ventricle: Float32[np.ndarray, "X Y Z"]

    def cut(self, box: tuple[slice, slice, slice]) -> "_Tissue":
        return _Tissue(self.inside[box], self.csf[box], self.grey[box], self.deep[box], self.ventricle[box])


_FORBIDDEN = np.float32(1e4)


def _cheapest(cost: Float32[np.ndarray, "X Y Z"], count: int) -> float:
    """The level below which `count` voxels lie (as far as there are allowed ones)."""
    allowed = cost[cost < _FORBIDDEN / 2]
    if count <= 0 or allowed.size == 0:
        return float("-inf")
    count = min(count, allowed.size)
    return float(np.partition(allowed, count - 1)[count - 1]) + 1e-6


def _fade(cost: Float32[np.ndarray, "X Y Z"], level: float, width: float) -> Float32[np.ndarray, "X Y Z"]:
    if level == float("-inf"):
        return np.zeros_like(cost)
    over = np.clip((cost - np.float32(level)) / np.float32(width), -20, 20)
    return np.asarray(1 / (1 + np.exp(over)), dtype=np.float32)


def _radius(percent: float, brain_voxels: int) -> float:
    return float((3 * percent / 100 * brain_voxels / (4 * np.pi)) ** (1 / 3))


def _settled(brain: Brain, tissue: _Tissue, world: Point, kind: str) -> Float[np.ndarray, " 3"]:
    """The voxel of suitable tissue nearest to where the template's centre came to lie."""
    at = np.clip(brain.voxel(world), 0, np.array(brain.shape) - 1)
    for reach in (6.0, 14.0, 40.0):
        box, corner = _box(at, reach, brain.shape)
        here = tissue.cut(box)
        fits = here.inside & (here.ventricle > 1)
        if kind != "meningioma":
            fits &= here.csf < 0.25
        found = np.argwhere(fits)
        if len(found):
            away = np.linalg.norm(found + corner - at, axis=1)
            return np.asarray(found[away.argmin()] + corner, dtype=float)
    return np.asarray(at, dtype=float)


def _box(
    centre: Float[np.ndarray, " 3"], reach: float, shape: tuple[int, int, int]
) -> tuple[tuple[slice, slice, slice], Float[np.ndarray, " 3"]]:
    start = np.clip(np.floor(centre - reach), 0, np.array(shape) - 1).astype(int)
    stop = np.clip(np.ceil(centre + reach) + 1, start + 1, shape).astype(int)
    x, y, z = (slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
    return (x, y, z), start.astype(float)


def _ellipsoid(focus: Focus, shape: tuple[int, ...], centre: Float[np.ndarray, " 3"]) -> Float32[np.ndarray, "X Y Z"]:
    """Distance from the centre in mm, shorter along the focus's long axes."""
    turn = rotation(focus.rotation)
    metric = turn @ np.diag(1 / np.array(focus.axes) ** 2) @ turn.T
    x, y, z = (axis - np.float32(at) for axis, at in zip(np.ogrid[tuple(map(slice, shape))], centre, strict=True))
    m = metric.astype(np.float32)
    square = (
        m[0, 0] * x * x + m[1, 1] * y * y + m[2, 2] * z * z + 2 * (m[0, 1] * x * y + m[0, 2] * x * z + m[1, 2] * y * z)
    )
    return np.asarray(np.sqrt(np.maximum(square, 0)), dtype=np.float32)


Noise = Callable[[float], Float32[np.ndarray, "X Y Z"]]


def _tumour_cost(
    focus: Focus, away: Float32[np.ndarray, "X Y Z"], radius: float, noise: Noise
) -> Float32[np.ndarray, "X Y Z"]:
    coarse, fine = max(0.9 * radius, 3.0), max(0.4 * radius, 2.5)
    rough = np.float32(focus.roughness * max(radius, 2.0))
    return away + rough * (noise(coarse) + 0.5 * noise(fine)) + np.float32(focus.grain) * noise(2.3)


def _split(
    focus: Focus, depth: Float32[np.ndarray, "X Y Z"], tumour: Bool[np.ndarray, "X Y Z"], noise: Noise
) -> tuple[Float32[np.ndarray, "X Y Z"], Float32[np.ndarray, "X Y Z"]]:
    """How much of the tumour enhances, and how much of the rest is fluid, at every voxel."""
    if focus.enhancing >= 1:
        return np.ones_like(depth), np.zeros_like(depth)
    patch = np.float32(focus.patchiness)
    cost = np.where(
        tumour,
        depth + patch * (0.9 * noise(7.0) + 0.4 * noise(3.5)) + np.float32(0.3 * focus.grain) * noise(2.2),
        _FORBIDDEN,
    )
    count = int(tumour.sum())
    rim = _fade(cost, _cheapest(cost, round(focus.enhancing * count)), 0.5)
    rest = np.where(tumour & (rim < 0.5), -depth + 2 * noise(6.0), _FORBIDDEN).astype(np.float32)
    cyst = _fade(rest, _cheapest(rest, round(focus.cyst * (1 - focus.enhancing) * count)), 0.5)
    return rim, cyst


def _halo_cost(
    focus: Focus, edge: Float32[np.ndarray, "X Y Z"], here: _Tissue, noise: Noise
) -> Float32[np.ndarray, "X Y Z"]:
    """White matter is cheap, cortex dear, fluid forbidden; noise draws the front out into fingers."""
    grey = ndimage.uniform_filter(here.grey, 3)
    fingers = np.float32(focus.fingers)
    base = np.maximum(edge, -3)
    if focus.hugging:
        share = np.float32(focus.hugging)
        base = (1 - share) * base + 2.5 * share * np.abs(here.ventricle)
    cost = base + fingers * (0.8 * noise(9.0) + 0.25 * noise(5.0)) + np.float32(1.5 * focus.grain) * noise(2.2)
    cost += np.float32(focus.sparing) * grey + 22 * here.csf + 4 * here.deep
    return np.where(here.inside & (here.ventricle > 0.3) & (here.csf < 0.7), cost, _FORBIDDEN).astype(np.float32)


def _solid_cost(
    focus: Focus,
    away: Float32[np.ndarray, "X Y Z"],
    wall: Float32[np.ndarray, "X Y Z"],
    radius: float,
    noise: Noise,
) -> Float32[np.ndarray, "X Y Z"]:
    """The cost of tumour: along the cavity's `wall` (mm from it) if there is one, else from the centre."""
    if not focus.cavity:
        return _tumour_cost(focus, away, radius, noise)
    patches = np.float32(0.45 * radius + 1.2) * noise(max(0.9 * radius, 5.0)) + 0.9 * noise(3.0)
    return np.asarray(1.2 * np.maximum(wall, 0) + patches, dtype=np.float32)


def _grow_halo(
    focus: Focus,
    edge: Float32[np.ndarray, "X Y Z"],
    taken: Bool[np.ndarray, "X Y Z"],
    here: _Tissue,
    count: int,
    noise: Noise,
) -> Float32[np.ndarray, "X Y Z"]:
    """The halo by its distance to the lesion's `edge` in mm; it goes on unseen under what is `taken`."""
    cost = _halo_cost(focus, np.minimum(edge, 200), here, noise)
    cost[taken] = _FORBIDDEN
    level = _cheapest(cost, count)
    if level == float("-inf"):
        return np.zeros_like(cost)
    cost[cost >= _FORBIDDEN] = np.float32(level) - 2
    halo = _fade(cost, level, 1.6)
    halo *= here.inside & (here.ventricle > 0.3) & (here.csf < 0.7)
    if focus.smallest > 1:
        _drop_islands(halo, focus.smallest)
    return halo


def _grow(
    focus: Focus, here: _Tissue, centre: Float[np.ndarray, " 3"], brain_voxels: int
) -> dict[Part, Float32[np.ndarray, "X Y Z"]]:
    """The parts of one focus over its box, each 0 to 1 with its border at one half."""
    rng = np.random.default_rng(focus.seed)
    shape = here.inside.shape

    def noise(spacing: float) -> Float32[np.ndarray, "X Y Z"]:
        return smooth_noise(rng, shape, float(spacing))

    def voxels(percent: float) -> int:
        return round(percent / 100 * brain_voxels)

    outside = _FORBIDDEN * (~here.inside)
    away = _ellipsoid(focus, shape, centre)
    hollow = _radius(focus.cavity, brain_voxels)
    wall = away + np.float32(0.3 * hollow) * noise(max(0.8 * hollow, 4.0)) + 0.4 * noise(3.5) + outside
    wall -= np.float32(max(_cheapest(wall, voxels(focus.cavity)), -1e3))
    cavity = _fade(wall, 0.0, 0.5) if focus.cavity else np.zeros_like(wall)
    radius = hollow if focus.cavity else _radius(focus.tumour, brain_voxels)
    solid = _solid_cost(focus, away, wall, radius, noise)
    fluid = 0 if focus.kind == "meningioma" else 12 * np.clip(here.csf - 0.3, 0, 1)
    cost = solid + fluid + outside + 30 * np.clip(1 - here.ventricle, 0, 1) + _FORBIDDEN * (cavity >= 0.5)
    level = _cheapest(cost, voxels(focus.tumour))
    tumour = _fade(cost, level, 0.6)
    depth = np.float32(max(level, -1e3)) - cost
    rim, cyst = _split(focus, depth, tumour >= 0.5, noise)
    edge = wall if focus.cavity else solid
    if focus.tumour:
        edge = np.minimum(edge, -depth) if focus.cavity else -depth
    taken = (tumour >= 0.5) | (cavity >= 0.5)
    return {
        Part.HALO: _grow_halo(focus, edge, taken, here, voxels(focus.halo), noise),
        Part.CORE: tumour * (1 - rim) * (1 - cyst),
        Part.CYST: tumour * (1 - rim) * cyst,
        Part.RIM: tumour * rim,
        Part.CAVITY: cavity,
    }


_TOUCHING = np.ones((3, 3, 3), dtype=bool)


def _drop_islands(soft: Float32[np.ndarray, "X Y Z"], smallest: int) -> None:
    """Fade out what lies apart from the rest and is smaller than `smallest` voxels."""
    labels, _ = ndimage.label(soft >= 0.5, structure=_TOUCHING)
    sizes = np.bincount(labels.ravel())
    small = sizes < smallest
    small[sizes[1:].argmax() + 1 if len(sizes) > 1 else 0] = small[0] = False
    soft[small[labels]] = 0.3


def _decide(soft: dict[Part, Float32[np.ndarray, "X Y Z"]]) -> UInt8[np.ndarray, "X Y Z"]:
    """The part that each voxel of one focus is counted to."""
    solid = np.stack([soft[part] for part in (Part.CORE, Part.CYST, Part.RIM)])
    parts = np.where(soft[Part.HALO] >= 0.5, np.uint8(Part.HALO), np.uint8(0))
    strongest = solid.argmax(axis=0).astype(np.uint8) + np.uint8(Part.CORE)
    parts = np.where(solid.sum(axis=0) >= 0.5, strongest, parts)
    return np.where(soft[Part.CAVITY] >= 0.5, np.uint8(Part.CAVITY), parts).astype(np.uint8)


def _reach(focus: Focus, brain_voxels: int) -> float:
    solid = _radius(focus.tumour + focus.cavity, brain_voxels)
    total = _radius(focus.tumour + focus.cavity + 1.5 * focus.halo, brain_voxels)
    margin = 8 + (14 if focus.halo > 0.3 else 0)
    return max(1.7 * solid * max(focus.axes), 1.6 * total) + margin + 25 * focus.hugging


def grow_lesions(foci: tuple[Focus, ...], brain: Brain, anatomy: AnatomyParameters, values: dict[Part, int]) -> Lesions:
    """Grow all foci. Parts without a label in `values` grow too, but for the cavity."""
    tissue = _Tissue(
        brain.volume(brain.inside),
        brain.volume(brain.csf, 1.0),
        brain.volume(brain.grey),
        brain.volume(brain.deep),
        brain.volume(brain.ventricle, 60.0),
    )
    brain_voxels = int(brain.inside.sum())
    parts = np.zeros(brain.shape, dtype=np.uint8)
    soft = {part: np.zeros(brain.shape, dtype=np.float32) for part in Part}
    centres = []
    for focus in foci:
        centre = _settled(brain, tissue, mni_to_world(anatomy, focus.centre_mni), focus.kind)
        centres.append(brain.world(centre.tolist()))
        if not values[Part.CAVITY]:
            focus = replace(focus, cavity=0.0)
        box, corner = _box(centre, _reach(focus, brain_voxels), brain.shape)
        grown = _grow(focus, tissue.cut(box), centre - corner, brain_voxels)
        np.maximum(parts[box], _decide(grown), out=parts[box])
        for part, values_here in grown.items():
            np.maximum(soft[part][box], values_here, out=soft[part][box])
    flat = {part: field.reshape(-1)[brain.index] for part, field in soft.items()}
    return Lesions(parts.reshape(-1)[brain.index], flat, tuple(centres))

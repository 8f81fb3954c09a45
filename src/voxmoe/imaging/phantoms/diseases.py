"""Which lesions the patients of each release have."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from voxmoe.imaging.phantoms.draws import Rng, chance, lognormal, uniform
from voxmoe.imaging.phantoms.foci import MENINGIOMA, Focus, draw_focus, draw_near, draw_satellites, draw_site
from voxmoe.vocabulary import Profile

Mix = tuple[tuple[float, Callable[[Rng], list[Focus]]], ...]
"""How often each disease is drawn."""


def _change_elsewhere(rng: Rng, main: Focus, halo: float) -> Focus:
    """White matter that changed far from the tumour, half of it at the mirrored place."""
    anywhere = draw_site(rng, "white matter")
    x, y, z = main.centre_mni
    mirrored = draw_near(rng, (-x, y, z), 10.0)
    return draw_focus(
        rng,
        "white matter change",
        mirrored if chance(rng, 0.5) else anywhere,
        halo=halo,
        hugging=uniform(rng, 0.2, 0.8),
        grain=main.grain,
        fingers=main.fingers,
        smallest=main.smallest,
    )


def _treated_glioma(rng: Rng) -> list[Focus]:
    """After surgery and radiotherapy: a cavity, tissue along its wall, a broad halo, changes elsewhere."""
    cavity = lognormal(rng, 0.4, 1.2, 0.003, 4.0) if chance(rng, 0.77) else 0.0
    rim = lognormal(rng, 0.16, 1.6, 0.003, 4.0) if chance(rng, 0.7) else 0.0
    core = lognormal(rng, 0.08, 1.7, 0.002, 2.0) if chance(rng, 0.42) else 0.0
    halo = lognormal(rng, 3.4, 0.75, 0.2, 11.0) if chance(rng, 0.985) else 0.0
    elsewhere = uniform(rng, 0.05, 0.45) * halo if chance(rng, 0.4) else 0.0
    main = draw_focus(
        rng,
        "treated glioma",
        draw_site(rng, "white matter"),
        cavity=cavity,
        tumour=rim + core,
        enhancing=rim / (rim + core) if rim + core else 0.0,
        patchiness=uniform(rng, 2.0, 7.0),
        grain=uniform(rng, 0.1, 0.8),
        fingers=uniform(rng, 3.0, 7.0),
        smallest=round(lognormal(rng, 25.0, 1.5, 1.0, 400.0)),
        halo=halo - elsewhere,
        hugging=float(rng.choice((0.0, 0.35, 0.6), p=(0.6, 0.2, 0.2))),
        push=uniform(rng, -0.15, 0.1),
    )
    foci = [main, *draw_satellites(rng, main, 3)]
    return [*foci, _change_elsewhere(rng, main, elsewhere)] if elsewhere else foci


def _glioblastoma(rng: Rng) -> list[Focus]:
    tumour = lognormal(rng, 3.0, 0.9, 0.06, 13.0)
    main = draw_focus(
        rng,
        "glioblastoma",
        draw_site(rng, "deep" if chance(rng, 0.1) else "white matter"),
        tumour=tumour,
        enhancing=float(np.clip(rng.beta(1.8, 1.8), 0.08, 0.97)),
        halo=lognormal(rng, 2.8, 0.8, 0.3, 11.0),
        cyst=uniform(rng, 0.1, 0.6) if chance(rng, 0.2) else 0.0,
        push=uniform(rng, 0.0, 0.3) if tumour > 0.5 else 0.0,
    )
    foci = [main, *draw_satellites(rng, main, 3)]
    if chance(rng, 0.15):
        centre = draw_site(rng, "white matter") if chance(rng, 0.5) else draw_near(rng, main.centre_mni, 32.0)
        share = uniform(rng, 0.05, 0.6)
        foci.append(
            draw_focus(rng, "second focus", centre, tumour=share * tumour, halo=share * main.halo, enhancing=0.7)
        )
    return foci


def _low_grade(rng: Rng) -> list[Focus]:
    main = draw_focus(
        rng,
        "low-grade glioma",
        draw_site(rng, "white matter"),
        tumour=lognormal(rng, 2.6, 0.9, 0.02, 9.0),
        enhancing=uniform(rng, 0.003, 0.08) if chance(rng, 0.35) else 0.0,
        patchiness=8.0,
        halo=lognormal(rng, 1.8, 0.8, 0.1, 8.0),
        cyst=uniform(rng, 0.1, 0.8) if chance(rng, 0.2) else 0.0,
        push=uniform(rng, 0.0, 0.3),
    )
    return [main, *draw_satellites(rng, main, 2)]


def _infiltrating(rng: Rng) -> list[Focus]:
    """Mostly halo, with a small enhancing or necrotic spot."""
    spot = lognormal(rng, 0.12, 0.9, 0.01, 0.6)
    main = draw_focus(
        rng,
        "infiltrating glioma",
        draw_site(rng, "white matter"),
        tumour=spot,
        enhancing=uniform(rng, 0.3, 1.0),
        halo=lognormal(rng, 2.2, 0.6, 0.4, 7.0),
    )
    return [main, *draw_satellites(rng, main, 2)]


def _metastasis(rng: Rng, smallest: float) -> Focus:
    tumour = lognormal(rng, 0.035, 1.4, smallest, 2.2)
    large = tumour > 0.1
    site = rng.choice(("junction", "cerebellum", "white matter", "brainstem"), p=(0.66, 0.2, 0.11, 0.03))
    swollen = chance(rng, 0.85 if large else 0.35)
    return draw_focus(
        rng,
        "metastasis",
        draw_site(rng, str(site)),
        tumour=tumour,
        enhancing=uniform(rng, 0.3, 0.95) if large and chance(rng, 0.75) else 1.0,
        patchiness=uniform(rng, 0.2, 1.2),
        roughness=uniform(rng, 0.03, 0.18),
        grain=uniform(rng, 0.1, 0.6),
        halo=lognormal(rng, 3.0, 0.9, 0.3, 25.0) * min(tumour, 0.3) if swollen else 0.0,
        push=uniform(rng, 0.0, 0.25) if large else 0.0,
    )


def _metastases(rng: Rng) -> list[Focus]:
    count = int(np.clip(rng.geometric(0.28), 1, 15))
    return [_metastasis(rng, 0.05 if index == 0 else 0.0008) for index in range(count)]


def _treated_metastases(rng: Rng) -> list[Focus]:
    foci = _metastases(rng)
    if chance(rng, 0.35):
        first = foci[0]
        foci[0] = replace(
            first,
            kind="treated metastasis",
            cavity=lognormal(rng, 0.3, 0.9, 0.02, 2.0),
            halo=max(first.halo, 0.4),
        )
    return foci


def _meningioma(rng: Rng) -> list[Focus]:
    count = 2 if chance(rng, 0.1) else 1
    return [
        draw_focus(
            rng,
            MENINGIOMA,
            draw_site(rng, "surface"),
            tumour=lognormal(rng, 1.3 if index == 0 else 0.1, 1.0, 0.02, 8.0),
            enhancing=1.0 if chance(rng, 0.45) else uniform(rng, 0.8, 0.995),
            patchiness=5.0,
            roughness=uniform(rng, 0.05, 0.18),
            grain=uniform(rng, 0.2, 0.6),
            halo=lognormal(rng, 1.2, 1.1, 0.02, 8.0) if chance(rng, 0.6) else 0.0,
            push=uniform(rng, 0.0, 0.3),
        )
        for index in range(count)
    ]


def _paediatric(rng: Rng) -> list[Focus]:
    site = str(rng.choice(("brainstem", "cerebellum", "deep", "white matter"), p=(0.4, 0.3, 0.15, 0.15)))
    main = draw_focus(
        rng,
        f"paediatric tumour, {site}",
        draw_site(rng, site),
        tumour=lognormal(rng, 2.0, 0.7, 0.15, 8.0),
        enhancing=float(rng.beta(1.1, 2.2)) if chance(rng, 0.65) else 0.0,
        patchiness=uniform(rng, 3.0, 9.0),
        cyst=uniform(rng, 0.05, 0.6) if chance(rng, 0.45) else 0.0,
        roughness=uniform(rng, 0.08, 0.25),
        halo=lognormal(rng, 0.5, 1.1, 0.02, 4.0) if chance(rng, 0.45) else 0.0,
        push=uniform(rng, 0.0, 0.25),
    )
    return [main, *draw_satellites(rng, main, 1)]


def _nothing_left(_: Rng) -> list[Focus]:
    return []


_GLIOMAS: Mix = ((0.68, _glioblastoma), (0.17, _low_grade), (0.15, _infiltrating))
_ALL_TUMOURS: Mix = (
    (0.4, _glioblastoma),
    (0.1, _low_grade),
    (0.1, _infiltrating),
    (0.2, _metastases),
    (0.1, _meningioma),
    (0.1, _paediatric),
)
_DISEASES: Mapping[str, Mix] = MappingProxyType(
    {
        "gli-2024": ((0.99, _treated_glioma), (0.01, _nothing_left)),
        "met-2024": ((1.0, _metastases),),
        "met-2025": ((0.99, _treated_metastases), (0.01, _nothing_left)),
        "goat-2024": _ALL_TUMOURS,
        "ped-2023": ((1.0, _paediatric),),
        "ped-2024": ((1.0, _paediatric),),
        "men-2023": ((1.0, _meningioma),),
        "men-rt-2024": ((1.0, _meningioma),),
    }
)
"""What each profile shows, and how often; the others are gliomas before surgery."""


_IN_VENTRICLES = frozenset({"goat-2024", "ped-2023", "ped-2024"})
"""Profiles whose patients are children, some of them at least: only their tumours begin within the ventricles often."""


def grows_in_ventricles(profile: Profile) -> bool:
    """Whether a profile shows tumours that lie in a ventricle and nowhere else."""
    return profile.name in _IN_VENTRICLES


def draw_foci(rng: Rng, profile: Profile) -> tuple[Focus, ...]:
    diseases = _DISEASES.get(profile.name, _GLIOMAS)
    chosen = rng.choice(len(diseases), p=[weight for weight, _ in diseases])
    return tuple(diseases[chosen][1](rng))

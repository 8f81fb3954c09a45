"""Everything that is drawn of a study, as a function of its profile, seed and index."""

import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from voxmoe.imaging.phantoms.anatomy import Anatomy, draw_anatomy
from voxmoe.imaging.phantoms.contrasts import Contrast, draw_contrasts
from voxmoe.imaging.phantoms.diseases import draw_foci
from voxmoe.imaging.phantoms.draws import draw_seed, uniform
from voxmoe.imaging.phantoms.foci import Focus
from voxmoe.imaging.phantoms.masks import Masks
from voxmoe.imaging.phantoms.placement import Placement, draw_placement
from voxmoe.vocabulary import Modality, Profile


@dataclass(frozen=True)
class Parameters:
    """What a study is made from."""

    anatomy: Anatomy
    foci: tuple[Focus, ...]
    caps: float
    """Strength of bright caps along the ventricles that are no lesion, 0 to 1."""
    spots: float
    """The share of the deep white matter that small bright spots cover which are no lesion."""
    dura: float
    seed: int
    modalities: Mapping[Modality, Contrast]
    placement: Placement | None = None
    """How a real mask shapes the lesions, of which no focus is drawn then."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """What each lesion is that has a centre of its own."""
        return ("from a mask",) if self.placement else tuple(focus.kind for focus in self.foci)

    def to_json(self) -> Any:
        """Plain JSON values, as they come back from a file; of a placement only where there is one."""
        said = {name: value for name, value in asdict(self).items() if name != "placement" or value is not None}
        return json.loads(json.dumps(said))


def draw_parameters(profile: Profile, seed: int, index: int, take: int = 0, masks: Masks | None = None) -> Parameters:
    """All parameters of study `index`; a pure function of its arguments.

    Another `take` is the same patient on another scanner: only the modalities differ. With `masks` one of them shapes
    the lesions; all else that is drawn stays as it is without.
    """
    # the profile counts too: cohorts of two profiles must not share their brains
    own = [seed, index, zlib.crc32(profile.name.encode())]
    rng = np.random.default_rng(np.random.SeedSequence(own))
    scanner = np.random.default_rng(np.random.SeedSequence([*own, take]))
    drawn = Parameters(
        anatomy=draw_anatomy(rng),
        foci=draw_foci(rng, profile),
        caps=float(rng.beta(1.2, 1.8)),
        spots=float(np.clip(rng.exponential(0.006), 0, 0.04)),
        dura=uniform(rng, 0.0, 0.9),
        seed=draw_seed(rng),
        modalities=draw_contrasts(scanner),
    )
    if masks is None:
        return drawn
    placing = np.random.default_rng(np.random.SeedSequence([*own, 0, 1]))
    return replace(drawn, foci=(), placement=draw_placement(placing, masks))

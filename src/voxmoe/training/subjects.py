"""Phantoms without end, drawn while an eye learns from them.

Which subject a sample shows, how it was scanned and what is drawn for it depends on seed and number alone. Subjects are
seen from a window that moves on: each by several scanners, and then never again.
"""

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float16

from voxmoe.imaging.grid import GridShape, bounding_box, resample, to_grid
from voxmoe.imaging.layouts import profile_named
from voxmoe.imaging.parts import Part
from voxmoe.imaging.phantoms import Masks, Subject, draw_subject, read_masks
from voxmoe.training.eye import Sample
from voxmoe.training.recipe import SubjectSettings

_APART = 1 << 32
"""Keeps these subjects apart from those of cohorts, on which models are tested, whatever the seeds."""


class Subjects:
    """Samples by number, on a grid: each an image of a subject with what each part fills of every voxel."""

    def __init__(self, settings: SubjectSettings, grid: GridShape, seed: int, masks: Masks | None = None) -> None:
        """`masks` are those that the settings name, where they were read before."""
        if masks is None and settings.masks is not None:
            masks = read_masks(settings.masks, settings.masks_profile)
        self.masks = masks
        self.settings = settings
        self.grid = grid
        self.seed = seed
        self._subject = lru_cache(maxsize=2 * settings.kept)(self._draw)

    def _draw(self, number: int) -> tuple[Subject, Float16[np.ndarray, "P D H W"]]:
        """A subject, with what each part fills of each voxel of the grid."""
        names, shares = zip(*sorted(self.settings.profiles.items()), strict=True)
        name = np.random.default_rng([self.seed, number]).choice(names, p=np.array(shares) / sum(shares))
        profile, spacing = profile_named(str(name)), self.settings.spacing
        subject = draw_subject(profile, _APART + self.seed, number, spacing, self.masks)
        brain, parts = subject.scene.brain, subject.part_fractions()
        box = bounding_box(brain.voxels.on_grid(brain.inside))
        cropped = [resample(parts[part][box.slices], self.grid) for part in Part]
        return subject, np.stack(cropped).astype(np.float16)

    def __getitem__(self, number: int) -> Sample:
        within = np.random.default_rng([self.seed, number, 1]).integers(self.settings.kept)
        return self.sample(number // self.settings.takes + int(within), take=number)

    def sample(self, subject: int, take: int = 0) -> Sample:
        """An image of one subject."""
        drawn, fractions = self._subject(subject)
        seen = to_grid(drawn.study(take), self.grid)
        images, present = torch.from_numpy(seen.images), torch.from_numpy(seen.present)
        return Sample(images, present, torch.from_numpy(fractions).float())

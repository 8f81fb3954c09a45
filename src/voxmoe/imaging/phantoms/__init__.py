"""Synthetic multiparametric brain MRI with known truth, in the layout of any BraTS release.

(profile, seed, index) -> parameters -> a brain, lesions in it, their signal -> four modalities and a mask. Lesions are
grown from foci, or shaped by the masks of real studies where there are any (`masks.py`). The parameters are drawn first
and recorded; everything after is a pure function of them (and of the mask), so a study's bytes depend on nothing else.
World coordinates are mm in RAS; `mni` marks those of the template, all others are the SRI24 grid's.
"""

from voxmoe.imaging.phantoms.cohort import write_cohort
from voxmoe.imaging.phantoms.masks import Masks, read_masks
from voxmoe.imaging.phantoms.phantom import Phantom, Subject, draw_phantom, draw_subject

__all__ = ["Masks", "Phantom", "Subject", "draw_phantom", "draw_subject", "read_masks", "write_cohort"]

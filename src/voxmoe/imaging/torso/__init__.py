"""CT phantoms of chest and upper abdomen with known truth.

(seed, index) -> a plan of findings, a body's size and warp, HU of its tissues -> organs painted one over the other,
findings painted into them -> HU as a scanner stores them, a label for each voxel, and what is true of both.
"""

from voxmoe.imaging.torso.cohort import mask_path, read_truths, volume_path, write_torsos
from voxmoe.imaging.torso.labels import LABELS
from voxmoe.imaging.torso.phantom import Torso, draw_torso
from voxmoe.imaging.torso.truth import Lesion, TorsoTruth

__all__ = [
    "LABELS",
    "Lesion",
    "Torso",
    "TorsoTruth",
    "draw_torso",
    "mask_path",
    "read_truths",
    "volume_path",
    "write_torsos",
]

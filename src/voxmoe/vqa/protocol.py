"""The rules that turn numbers into findings: thresholds and bins of mpLLM's Appendix A, as data.

`paper-v2` is the paper as printed, `code-v3` what the authors' public code does where it differs, and `robust` our own:
`paper-v2` without what small fragments and the mesh of a few voxels do to it. What the paper leaves open is decided
here once: bins of volume are closed below and open above (exactly 1 % is `1-5%`), and anything from 75 % up stays in
the last bin.
"""

from bisect import bisect_right
from pathlib import Path
from typing import Literal

from voxmoe.errors import LabelError
from voxmoe.settings import Settings, read_yaml
from voxmoe.vocabulary import ABSENT, VOLUME_BINS

_BIN_EDGES = (1.0, 5.0, 10.0, 25.0, 50.0)


class Protocol(Settings):
    """One set of rules. Lengths in mm, volumes in mm3."""

    name: str
    connectivity: Literal[6, 18, 26]
    """How voxels join to components: by faces (6), also edges (18), also corners (26)."""
    core_fraction: float
    """From this share of the volume in the largest component on, it is a core with satellite lesions."""
    focus_mm3: float
    """Below this total volume the shape is a focus."""
    round_sphericity: float
    round_elongation: float
    oval_sphericity: float
    oval_elongation: float
    """Up to this elongation a lesion can be oval; above it is elongated."""
    volume_scale: float
    """Relative volume = scale x mask voxels / brain voxels."""
    volume_decimals: int | None = None
    """Decimals that the relative volume is rounded to, None for no rounding."""
    volume_floor: float = 0.0
    """A relative volume below this counts as absent."""
    brain_threshold: float | None = None
    """Brain voxels are those of the T1 image above this value; None for those that are not zero."""
    fragment_mm3: float = 0.0
    """Components below this volume count neither in spread nor in shape; if all are below, the largest counts alone."""
    solid_voxels: bool = False
    """Shape numbers take each voxel as the box it is, not as a point, and hold what a solid body can have: specks and
    lines have an elongation too, sphericity and solidity are at most 1."""
    atlas: str = "default"

    def volume_category(self, relative: float) -> str:
        """The bin of a relative volume in the protocol's percent."""
        if relative < self.volume_floor:
            return ABSENT
        return VOLUME_BINS[bisect_right(_BIN_EDGES, relative)]

    def relative_volume(self, voxels: int, brain_voxels: int) -> float:
        relative = self.volume_scale * voxels / brain_voxels
        return relative if self.volume_decimals is None else round(relative, self.volume_decimals)

    def spread_category(self, components: int, core_fraction: float) -> str:
        if components == 1:
            return "single lesion"
        return "core with satellite lesions" if core_fraction >= self.core_fraction else "scattered lesions"

    def shape_category(self, volume_mm3: float, sphericity: float, elongation: float) -> str:
        if volume_mm3 < self.focus_mm3:
            return "focus"
        if sphericity >= self.round_sphericity and elongation <= self.round_elongation:
            return "round"
        if (
            self.oval_sphericity <= sphericity < self.round_sphericity
            and self.round_elongation < elongation <= self.oval_elongation
        ):
            return "oval"
        return "elongated" if elongation > self.oval_elongation else "irregular"


PAPER_V2 = Protocol(
    name="paper-v2",
    connectivity=26,
    core_fraction=0.70,
    focus_mm3=100.0,
    round_sphericity=0.85,
    round_elongation=1.3,
    oval_sphericity=0.60,
    oval_elongation=2.5,
    volume_scale=100.0,
)
CODE_V3 = Protocol(
    name="code-v3",
    connectivity=6,
    core_fraction=0.85,
    focus_mm3=100.0,
    round_sphericity=0.80,
    round_elongation=1.4,
    oval_sphericity=0.50,
    oval_elongation=3.0,
    volume_scale=250.0,
    volume_decimals=2,
    volume_floor=0.005,
    brain_threshold=1e-6,
    atlas="aal",
)
ROBUST = PAPER_V2.model_copy(update={"name": "robust", "fragment_mm3": 10.0, "solid_voxels": True})
PROTOCOLS = {protocol.name: protocol for protocol in (PAPER_V2, CODE_V3, ROBUST)}


def protocol_named(name: str) -> Protocol:
    """A preset by its name, or a protocol of one's own from a YAML file.

    Raises `LabelError` if there is no such preset or file, `RecipeError` if the file does not hold a protocol.
    """
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    path = Path(name)
    if not path.is_file():
        raise LabelError(
            f"no protocol is called {name!r}; there are {', '.join(PROTOCOLS)}, or give a YAML file with the keys "
            f"{', '.join(Protocol.model_fields)}"
        )
    return read_yaml(Protocol, path, "a protocol")

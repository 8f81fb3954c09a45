"""What is left out of TGH-MoE, each by itself, as data: the runs that a variation is made of, one after the other.

The source prints two ablations in words alone (its review); which parts are taken away here is this project's choice.
"""

from collections.abc import Mapping
from dataclasses import dataclass

TISSUES, TEXTS, SLICES, SHARED, EXPERTS = "tissues", "texts", "slices", "shared", "experts"
"""The recipes of a scale that runs are changes of."""


@dataclass(frozen=True)
class Run:
    """One run: its name, which recipe of the scale it changes, how, and the run whose weights it begins with."""

    name: str
    recipe: str
    changes: tuple[str, ...] = ()
    start: "Run | None" = None
    as_long_as: tuple[str, ...] = ()
    """Recipes that it takes as many steps as all together; none: as its own says."""


PRETRAINED = Run("slices-2d", SLICES, (), Run("texts", TEXTS, (), Run("tissues-2d", TISSUES)))
"""The 2D model that all but one start from."""


def _stages(name: str, changes: tuple[str, ...] = (), start: Run | None = PRETRAINED) -> Run:
    """Both stages with the same changes."""
    return Run(f"{name}-experts", EXPERTS, changes, Run(f"{name}-shared", SHARED, changes, start))


_FIRST = Run("tgh-moe-shared", SHARED, (), PRETRAINED)
_NO_EXPERTS = ("stage=shared", "model.experts=null")
"""A second stage of the same length and shares, in which the shared parts learn on."""

FULL = Run("tgh-moe-experts", EXPERTS, (), _FIRST)
BLIND = Run(
    "text-only-experts",
    EXPERTS,
    (*_NO_EXPERTS, "model.blind=true"),
    Run("text-only-shared", SHARED, ("model.blind=true",), PRETRAINED),
)
"""It learns from the same exchanges, without the volumes; the language model begins as the slices left it."""

VARIATIONS: Mapping[str, Run] = {
    "2D-pretrained + 3D + TGH-MoE": FULL,
    "no rotation over slices": _stages("no-rope", ("model.adaptation.rope=null",)),
    "all layers 2D": _stages("all-2d", ("model.adaptation.layers=none",)),
    "all layers 3D": _stages("all-3d", ("model.adaptation.layers=all",)),
    "no task experts": Run("no-experts-experts", EXPERTS, _NO_EXPERTS, _FIRST),
    "soft task router": Run("soft-experts", EXPERTS, ("model.experts.soft=true",), _FIRST),
    "one stage": Run("one-stage", EXPERTS, ("stage=together",), PRETRAINED, as_long_as=(SHARED, EXPERTS)),
    "from scratch": Run("scratch-experts", EXPERTS, (), Run("scratch-shared", SHARED, ("stage=whole",), None)),
}
TABLES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "ct-main": ("TGH-MoE on CT, beside its baselines", (next(iter(VARIATIONS)),)),
    "ct-ablation": ("TGH-MoE on CT, each part left out", tuple(VARIATIONS)),
}
"""Name -> title and variations."""

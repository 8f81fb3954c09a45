"""What can be said of one slice of a torso, from its labels: what is visible, on which side, in one sentence."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from voxmoe.imaging.torso.labels import LABELS, SIDES, Side
from voxmoe.imaging.torso.truth import TorsoTruth
from voxmoe.vqa.ct.facts import DELAYED, NO, PHASES, YES, Fact
from voxmoe.vqa.ct.prose import Rng, listed, pick, sentence

ORGAN_MM2, FINDING_MM2, BRIGHT_MM2 = 300.0, 40.0, 15.0
"""What covers less of a slice (calcium: the last) is said neither to be visible nor to be absent, unless there is none
of it."""
_BRIGHT = ("coronary calcification", "aortic calcification", "kidney stone")
ORGANS = {
    "lung": "lungs",
    "airway": "central airways",
    "heart": "heart",
    "aorta": "aorta",
    "liver": "liver",
    "spleen": "spleen",
    "kidney": "kidneys",
    "stomach": "stomach",
}
_ASKED = tuple(name for name in ORGANS if name != "aorta")
"""The aorta runs through nearly every slice: where it were offered it would be the answer."""
FINDINGS = {
    "nodule": ("a pulmonary nodule", "lung"),
    "effusion": ("a pleural effusion", "lung"),
    "consolidation": ("consolidation", "lung"),
    "emphysema": ("emphysema", "lung"),
    "coronary calcification": ("coronary calcification", "heart"),
    "aortic calcification": ("aortic calcification", "aorta"),
    "liver cyst": ("a liver cyst", "liver"),
    "liver metastasis": ("a liver metastasis", "liver"),
    "fatty liver": ("a fatty liver", "liver"),
    "kidney stone": ("a kidney stone", "kidney"),
    "kidney cyst": ("a kidney cyst", "kidney"),
}
"""What a slice can show, and the organ that has to be visible for it to be asked about."""
_ABSENT_WEIGHTS = {
    "nodule": 2.5,
    "effusion": 9.0,
    "consolidation": 0.8,
    "emphysema": 3.5,
    "coronary calcification": 1.6,
    "aortic calcification": 1.6,
    "liver cyst": 2.5,
    "liver metastasis": 1.8,
    "fatty liver": 3.0,
    "kidney stone": 0.7,
    "kidney cyst": 1.5,
}
"""How often each is asked for where it is not, so that this is as often as where it is."""
NOTHING = "no abnormality"
SLICE_PROMPTS = ("Describe this slice in one sentence.", "What does this slice show?", "Give a caption of this slice.")


@dataclass(frozen=True)
class Seen:
    """The contents of a slice."""

    organs: tuple[str, ...]
    """Visible ones, by name."""
    organs_absent: tuple[str, ...]
    findings: tuple[str, ...]
    findings_absent: tuple[str, ...]
    """Those of visible organs of which this slice holds nothing."""
    sides: dict[str, tuple[Side, ...]]
    """On which sides visible findings that have one lie."""
    whole: bool
    """Whether nothing is too small to be told."""


def _least(finding: str) -> float:
    return BRIGHT_MM2 if finding in _BRIGHT else FINDING_MM2


def seen_in(truth: TorsoTruth, labels: UInt8[np.ndarray, "X Y Z"], slice: int) -> Seen:
    """What the slice `slice`, counted from inferior, shows."""
    pixel = truth.spacing_mm[0] * truth.spacing_mm[1]
    counts = np.bincount(labels[:, :, slice].ravel(), minlength=256) * pixel
    area = {(label.name, label.side): float(counts[label.value]) for label in LABELS}

    def total(name: str) -> float:
        return sum(covered for (other, _), covered in area.items() if other == name)

    organs = tuple(name for name in ORGANS if total(name) >= ORGAN_MM2)
    covered = {name: total(name) for name in FINDINGS if name != "fatty liver"}
    if "liver" in organs:
        covered["fatty liver"] = FINDING_MM2 if truth.fatty_liver else 0.0
    visible = tuple(name for name in FINDINGS if covered.get(name, 0) >= _least(name))
    return Seen(
        organs=organs,
        organs_absent=tuple(name for name in ORGANS if total(name) == 0),
        findings=visible,
        findings_absent=tuple(name for name, host in FINDINGS.items() if host[1] in organs and covered[name] == 0),
        sides={
            name: tuple(side for side in SIDES if area[name, side] >= _least(name))
            for name in visible
            if (name, "right") in area
        },
        whole=not any(0 < share < _least(name) for (name, _), share in area.items() if name in FINDINGS)
        and not (truth.fatty_liver and 0 < total("liver") < ORGAN_MM2),
    )


def chosen_slices(truth: TorsoTruth, labels: UInt8[np.ndarray, "X Y Z"], count: int, rng: Rng) -> list[int]:
    """Slices that differ, half of them with something to be found as far as there is anything; ascending.

    Each lesion is as likely as any other, however many slices it reaches.
    """
    reached = []
    for lesion in truth.lesions:
        ours = [label.value for label in LABELS if (label.name, label.side) == (lesion.name, lesion.side)]
        low, high = lesion.slices
        area = np.isin(labels[:, :, low : high + 1], ours).sum(axis=(0, 1))
        reached.append(low + int(rng.choice(len(area), p=area / area.sum())))
    wanted = list(dict.fromkeys(int(z) for z in rng.permutation(reached)))
    chosen = wanted[: (count + 1) // 2]
    rest = [int(z) for z in rng.permutation(truth.shape[2]) if z not in chosen]
    return sorted([*chosen, *rest][:count])


def _phase(truth: TorsoTruth, seen: Seen) -> Iterator[Fact]:
    if "aorta" in seen.organs or "heart" in seen.organs:
        wordings = ("Which contrast phase does this slice show?", "In which phase was this slice taken?")
        yield Fact("phase", "phase", wordings, (*PHASES.values(), DELAYED), PHASES[truth.phase])


def _organ(seen: Seen, rng: Rng) -> Iterator[Fact]:
    visible = [name for name in seen.organs if name in _ASKED]
    absent = [name for name in seen.organs_absent if name in _ASKED]
    if visible and len(absent) >= 3:
        answer = pick(rng, *visible)
        # above the liver the lungs are often all there is
        shares = {ORGANS[answer]: 1.0, "rarest": 0.4} if answer == "lung" else None
        others = [absent[int(at)] for at in rng.permutation(len(absent))[:3]]
        choices = tuple(ORGANS[name] for name in (answer, *others))
        wordings = ("Which of these organs is visible in this slice?", "Which of these organs does this slice cut?")
        yield Fact("organ", "organ", wordings, choices, ORGANS[answer], shares, twin=False)


def _abnormality(seen: Seen, rng: Rng) -> Iterator[Fact]:
    if not seen.whole or len(seen.findings) > 1 or len(seen.findings_absent) < 3:
        return
    absent = [FINDINGS[seen.findings_absent[int(at)]][0] for at in rng.permutation(len(seen.findings_absent))[:3]]
    answer = FINDINGS[seen.findings[0]][0] if seen.findings else NOTHING
    choices = (answer, *absent) if answer == NOTHING else (answer, NOTHING, *absent[:2])
    shares = {answer: 1.0, "rarest": 0.35} if answer == NOTHING else None
    wordings = ("Which abnormality is visible in this slice?", "What abnormality does this slice show?")
    yield Fact("abnormality", "abnormality", wordings, choices, answer, shares, twin=False)


def _presence(seen: Seen, rng: Rng) -> Iterator[Fact]:
    wanted = YES if rng.random() < 0.5 else NO
    names = seen.findings if wanted == YES else seen.findings_absent
    if names:
        weights = np.array([1.0 if wanted == YES else _ABSENT_WEIGHTS[name] for name in names])
        name = names[int(rng.choice(len(names), p=weights / weights.sum()))]
        told = FINDINGS[name][0]
        wordings = (f"Is there {told} in this slice?", f"Does this slice show {told}?")
        yield Fact("presence", name, wordings, (YES, NO), wanted)


def _location(seen: Seen) -> Iterator[Fact]:
    for name, sides in seen.sides.items():
        if len(sides) == 1 and name != "emphysema":
            told = FINDINGS[name][0].removeprefix("a ")
            wordings = (f"On which side is the {told} in this slice?", f"Which side shows {FINDINGS[name][0]}?")
            yield Fact("location", name, wordings, ("the right side", "the left side"), f"the {sides[0]} side")


def slice_facts(truth: TorsoTruth, seen: Seen, rng: Rng) -> Iterator[Fact]:
    """What may be asked about a slice with choices; distractors are drawn where a kind has more than fit."""
    yield from _phase(truth, seen)
    yield from _organ(seen, rng)
    yield from _abnormality(seen, rng)
    yield from _location(seen)
    yield from _presence(seen, rng)


def open_facts(seen: Seen) -> Iterator[Fact]:
    """What may be asked about a slice without choices only: lists of what is visible."""
    if seen.organs:
        names = listed([ORGANS[name] for name in seen.organs])
        wordings = ("Which organs are visible in this slice?", "Name the organs in this slice.")
        yield Fact("organ", "organs", wordings, (), names)
    if seen.whole:
        names = listed([FINDINGS[name][0] for name in seen.findings]) if seen.findings else NOTHING
        yield Fact("abnormality", "abnormalities", ("Which abnormalities are visible in this slice?",), (), names)


def _told(seen: Seen, name: str) -> str:
    told, sides = FINDINGS[name][0], seen.sides.get(name, ())
    return f"{told} on the {sides[0]}" if len(sides) == 1 else f"{told} on both sides" if len(sides) == 2 else told


def _level(seen: Seen) -> str:
    chest = "lung" in seen.organs
    abdomen = any(name in seen.organs for name in ("liver", "spleen", "kidney", "stomach"))
    if chest and abdomen:
        return "the lower chest and upper abdomen"
    return "the chest" if chest else "the upper abdomen" if abdomen else "the trunk"


def caption(truth: TorsoTruth, seen: Seen, rng: Rng) -> str:
    """A slice in one sentence: phase, level, organs, what is found."""
    phase, level = PHASES[truth.phase], _level(seen)
    start = pick(rng, f"{phase} CT slice through {level}", f"CT slice through {level}, {phase}")
    organs = [ORGANS[name] for name in seen.organs]
    shown = pick(rng, f", showing the {listed(organs)}", f" with the {listed(organs)}") if organs else ""
    if seen.findings:
        found = listed([_told(seen, name) for name in seen.findings])
        return sentence(f"{start}{shown}; {pick(rng, 'there is', 'it shows')} {found}")
    nothing = pick(rng, "; no abnormality is visible", "; no abnormality") if seen.whole else ""
    return sentence(start + shown + nothing)

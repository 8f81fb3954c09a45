"""What can be asked about a torso's truth: questions with all of their possible answers and the true one.

The answers of a question are a closed set, the same for every patient, so that nothing is told by which of them are
offered. `shares` says how often each is true among phantoms; `asking` keeps questions by it, so that no answer can be
guessed from its question.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from voxmoe.imaging.torso.labels import SIDES, Side
from voxmoe.imaging.torso.plan import CHANCES, HEALTHY, NODULE_COUNTS, Phase
from voxmoe.imaging.torso.truth import Lesion, TorsoTruth

YES, NO = "yes", "no"
_RARE = 0.1
"""Answers rarer than this are not waited for: too little would be asked."""
PHASES = {
    Phase.NONE: "non-contrast",
    Phase.ARTERIAL: "arterial phase",
    Phase.VENOUS: "portal venous phase",
}
DELAYED = "delayed phase"
"""Offered, never true."""
SIZES_MM: dict[str, tuple[tuple[str, float], ...]] = {
    "nodule": (("less than 14 mm", 14), ("14 to 19 mm", 19), ("19 to 24 mm", 24), ("24 mm or more", 1e9)),
    "liver": (("less than 24 mm", 24), ("24 to 32 mm", 32), ("32 to 40 mm", 40), ("40 mm or more", 1e9)),
}
"""Names of sizes and where each ends, of the largest nodule and the largest liver lesion."""
_SIZE_SHARES = {"nodule": (0.11, 0.15, 0.26, 0.48), "liver": (0.12, 0.16, 0.32, 0.4)}
"""How often each is that of the largest, counted in 120 phantoms."""


@dataclass(frozen=True)
class Fact:
    """Something to be asked and its answer."""

    kind: str
    topic: str
    wordings: tuple[str, ...]
    choices: tuple[str, ...]
    answer: str
    shares: Mapping[str, float] | None = None
    """How often each choice is true; None: about alike."""
    twin: bool = True
    """Whether it can be answered without its choices."""

    @property
    def keep(self) -> float:
        """The chance of asking it that makes all answers alike often, but for those that are rare."""
        if self.shares is None:
            return 1.0
        return min(1.0, max(min(self.shares.values()), _RARE) / self.shares[self.answer])


SICK = 1 - HEALTHY


def _either_side(name: str) -> float:
    return 1 - (1 - CHANCES[name]) ** 2


PREVALENCE = {
    name: SICK * share
    for name, share in {
        **CHANCES,
        "nodule": 1 - NODULE_COUNTS[0],
        "effusion": _either_side("effusion"),
        "kidney stone": _either_side("kidney stone"),
        "kidney cyst": _either_side("kidney cyst"),
    }.items()
}
"""How many phantoms have each finding; those that find no room make it a little less."""
NAMES = {
    "nodule": "a pulmonary nodule",
    "effusion": "a pleural effusion",
    "consolidation": "a consolidation of the lung",
    "emphysema": "emphysema",
    "cardiomegaly": "cardiomegaly",
    "coronary calcification": "coronary calcification",
    "aortic calcification": "calcification of the aorta",
    "liver cyst": "a liver cyst",
    "liver metastasis": "a liver metastasis",
    "fatty liver": "fatty infiltration of the liver",
    "splenomegaly": "an enlarged spleen",
    "kidney stone": "a kidney stone",
    "kidney cyst": "a kidney cyst",
}
"""Findings as they are asked for."""


def _pair_shares(names: tuple[str, str, str, str], p: float, q: float) -> dict[str, float]:
    """Of one, the other, both, neither, in patients that have findings by chance and in healthy ones."""
    one, other, both, neither = names
    return {
        one: SICK * p * (1 - q),
        other: SICK * q * (1 - p),
        both: SICK * p * q,
        neither: SICK * (1 - p) * (1 - q) + HEALTHY,
    }


def _of_two(names: tuple[str, str, str, str], one: bool, other: bool) -> str:
    return names[2] if one and other else names[0] if one else names[1] if other else names[3]


def _pair(
    kind: str,
    topic: str,
    wordings: tuple[str, ...],
    names: tuple[str, str, str, str],
    true: tuple[bool, bool],
    chances: tuple[float, float],
) -> Fact:
    return Fact(kind, topic, wordings, names, _of_two(names, *true), _pair_shares(names, *chances))


def _phase(truth: TorsoTruth) -> Iterator[Fact]:
    wordings = (
        "In which phase of contrast was this scan taken?",
        "Which contrast phase does this CT show?",
        "What is the phase of this scan?",
    )
    yield Fact("phase", "phase", wordings, (*PHASES.values(), DELAYED), PHASES[truth.phase])


def _organ(truth: TorsoTruth) -> Iterator[Fact]:
    def found(*names: str) -> tuple[bool, bool]:
        return truth.present(names[0]), truth.present(names[1])

    yield _pair(
        "organ",
        "enlargement",
        ("Which organ is enlarged?", "Which of heart and spleen is enlarged?", "Is any organ enlarged, and which?"),
        ("the heart", "the spleen", "both heart and spleen", "neither heart nor spleen"),
        found("cardiomegaly", "splenomegaly"),
        (CHANCES["cardiomegaly"], CHANCES["splenomegaly"]),
    )
    yield _pair(
        "organ",
        "cysts",
        ("Which organ contains a cyst?", "In which organ is there a cyst?", "Where are cysts seen?"),
        ("the liver", "a kidney", "both liver and kidney", "neither liver nor kidney"),
        found("liver cyst", "kidney cyst"),
        (CHANCES["liver cyst"], _either_side("kidney cyst")),
    )
    yield _pair(
        "organ",
        "calcified vessels",
        ("Which vessels are calcified?", "Where is vascular calcification seen?", "Which arteries contain calcium?"),
        ("the coronary arteries", "the aorta", "both coronary arteries and aorta", "neither"),
        found("coronary calcification", "aortic calcification"),
        (CHANCES["coronary calcification"], CHANCES["aortic calcification"]),
    )


def _only(truth: TorsoTruth, names: dict[str, str], nothing: str) -> str | None:
    """The one finding of several that is there, or that none is; None if there is more than one."""
    there = [text for name, text in names.items() if truth.present(name)]
    return None if len(there) > 1 else there[0] if there else nothing


def _only_shares(names: dict[str, str], nothing: str, chances: Mapping[str, float]) -> dict[str, float]:
    none = 1.0
    for name in names:
        none *= 1 - chances[name]
    shares = {text: SICK * none * chances[name] / (1 - chances[name]) for name, text in names.items()}
    return shares | {nothing: SICK * none + HEALTHY}


def _abnormality(truth: TorsoTruth) -> Iterator[Fact]:
    nothing = "no abnormality"
    lungs = {"nodule": "a nodule", "consolidation": "consolidation", "emphysema": "emphysema"}
    liver = {"liver cyst": "a cyst", "liver metastasis": "a metastasis", "fatty liver": "fatty infiltration"}
    chances = {**CHANCES, "nodule": 1 - NODULE_COUNTS[0]}
    for organ, names in (("lungs", lungs), ("liver", liver)):
        if answer := _only(truth, names, nothing):
            wordings = (
                f"Which abnormality of the {organ} is seen?",
                f"What is abnormal in the {organ}?",
                f"What do the {organ} show?" if organ == "lungs" else f"What does the {organ} show?",
            )
            shares = _only_shares(names, nothing, chances)
            yield Fact("abnormality", organ, wordings, (*names.values(), nothing), answer, shares)
    yield _pair(
        "abnormality",
        "heart",
        ("What is abnormal about the heart?", "Which abnormality does the heart show?", "What does the heart show?"),
        ("enlargement", "coronary calcification", "enlargement and coronary calcification", nothing),
        (truth.cardiomegaly, truth.present("coronary calcification")),
        (CHANCES["cardiomegaly"], CHANCES["coronary calcification"]),
    )
    yield _pair(
        "abnormality",
        "kidneys",
        ("What is abnormal in the kidneys?", "Which abnormality do the kidneys show?", "What do the kidneys show?"),
        ("a stone", "a cyst", "a stone and a cyst", nothing),
        (truth.present("kidney stone"), truth.present("kidney cyst")),
        (_either_side("kidney stone"), _either_side("kidney cyst")),
    )


def largest(lesions: tuple[Lesion, ...], by: float = 1.1) -> Lesion | None:
    """The round lesion of the largest diameter, if it is `by` times that of the next."""
    ordered = sorted(lesions, key=lambda each: -(each.diameter_mm or 0))
    first, second = (each.diameter_mm or 0.0 for each in (ordered * 2)[:2]) if ordered else (0.0, 0.0)
    if not ordered or (len(ordered) > 1 and first < by * second):
        return None
    return ordered[0]


def place(lesion: Lesion) -> str:
    """ "right upper lung", of what lies in a lung."""
    return f"{lesion.side} {lesion.zone} lung"


PLACES = tuple(f"{side} {zone} lung" for side in SIDES for zone in ("upper", "lower"))


def _location(truth: TorsoTruth) -> Iterator[Fact]:
    nodule = largest(truth.of("nodule"))
    if nodule:
        only = len(truth.of("nodule")) == 1
        name = "nodule" if only else "largest nodule"
        wordings = (f"Where is the {name}?", f"In which part of the lungs does the {name} lie?", f"Locate the {name}.")
        yield Fact("location", "nodule", wordings, PLACES, place(nodule))
    for lesion in truth.of("consolidation"):
        wordings = (
            "Where is the consolidation?",
            "Which part of the lungs is consolidated?",
            "In which part of the lungs does the consolidation lie?",
        )
        yield Fact("location", "consolidation", wordings, PLACES, place(lesion))
    sides = ("the right side", "the left side", "both sides", "neither side")
    for name, told in (
        ("effusion", "pleural effusion"),
        ("kidney stone", "kidney stone"),
        ("kidney cyst", "renal cyst"),
    ):
        there: dict[Side, bool] = {side: bool(truth.of(name, side)) for side in SIDES}
        wordings = (
            f"On which side is there a {told}?",
            f"Which side shows a {told}?",
            f"On which side is a {told} seen?",
        )
        chances = (CHANCES[name], CHANCES[name])
        yield _pair("location", name, wordings, sides, (there["right"], there["left"]), chances)


def size_name(topic: str, diameter: float) -> str:
    """Of a diameter in mm, by the whole millimetres that a report tells."""
    return next(name for name, end in SIZES_MM[topic] if round(diameter) < end)


def _size(truth: TorsoTruth) -> Iterator[Fact]:
    for topic, lesions, told in (
        ("nodule", truth.of("nodule"), "pulmonary nodule"),
        ("liver", truth.of("liver cyst") + truth.of("liver metastasis"), "liver lesion"),
    ):
        diameter = max((each.diameter_mm or 0.0 for each in lesions), default=0.0)
        if lesions:
            wordings = (
                f"How large is the largest {told}?",
                f"What is the diameter of the largest {told}?",
                f"What diameter does the largest {told} have?",
            )
            choices = tuple(name for name, _ in SIZES_MM[topic])
            shares = dict(zip(choices, _SIZE_SHARES[topic], strict=True))
            yield Fact("size", topic, wordings, choices, size_name(topic, diameter), shares)
    grades = ("small", "moderate", "large", "none present")
    sick = SICK * CHANCES["effusion"]
    graded = dict.fromkeys(grades[:3], sick / 3) | {grades[3]: 1 - sick}
    for side in SIDES:
        wordings = (
            f"How large is the pleural effusion on the {side}?",
            f"What is the size of the {side} pleural effusion?",
            f"How much pleural fluid is there on the {side}?",
        )
        effusions = truth.of("effusion", side)
        answer = effusions[0].grade if effusions else grades[3]
        yield Fact("size", f"{side} effusion", wordings, grades, answer, graded)


def _count_shares(topic: str) -> dict[str, float]:
    if topic == "nodule":
        sick = np.array(NODULE_COUNTS)
    else:
        cysts, metastases = (
            [1 - chance, *[chance / 3] * 3] for chance in (CHANCES["liver cyst"], CHANCES["liver metastasis"])
        )
        sick = np.convolve(cysts, metastases)
    return {str(n): float(SICK * share + HEALTHY * (n == 0)) for n, share in enumerate(sick)}


def _count(truth: TorsoTruth) -> Iterator[Fact]:
    liver = len(truth.of("liver cyst")) + len(truth.of("liver metastasis"))
    for topic, count, told in (
        ("nodule", len(truth.of("nodule")), "pulmonary nodules"),
        ("liver", liver, "focal liver lesions"),
    ):
        wordings = (f"How many {told} are there?", f"What is the number of {told}?", f"Count the {told}.")
        shares = _count_shares(topic)
        yield Fact("count", topic, wordings, tuple(shares), str(count), shares)


def _presence(truth: TorsoTruth) -> Iterator[Fact]:
    for name, told in NAMES.items():
        wordings = (f"Is there {told}?", f"Does this scan show {told}?", f"Is {told} present?")
        shares = {YES: PREVALENCE[name], NO: 1 - PREVALENCE[name]}
        yield Fact("presence", name, wordings, (YES, NO), YES if truth.present(name) else NO, shares)


KINDS = {
    "phase": _phase,
    "organ": _organ,
    "abnormality": _abnormality,
    "location": _location,
    "size": _size,
    "count": _count,
    "presence": _presence,
}
"""Kinds of questions about a volume, in the manner of M3D-VQA's, and their facts."""


def facts_of(truth: TorsoTruth) -> Iterator[Fact]:
    """Everything that may be asked about a torso."""
    for facts in KINDS.values():
        yield from facts(truth)

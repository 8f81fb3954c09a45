"""A structured findings report of one study: every label, every task, how sure, and what is not covered.

Two sources: a mask, whose findings are exact, or a model, which is asked for all four tasks of each label of its
profile and whose categories come with probabilities. This is the open question that mpLLM's section 5 ends with.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from voxmoe.answering import Answerer, Drawn, Terms
from voxmoe.imaging.study import Study
from voxmoe.vocabulary import ABSENT, EXCLUSIVE_TASKS, NO_REGION, Label, Modality, Profile, Task
from voxmoe.vqa.findings import Findings, LabelFindings
from voxmoe.vqa.sampling import listed
from voxmoe.vqa.wordings.seeds import seed_question

NOT_COVERED = (
    "Covered: volume, region, shape and spread of each label. Not covered: diagnosis, grade, genetics, prognosis, "
    "treatment, and comparison with other examinations."
)
NOT_A_DEVICE = "Research software, not a medical device."
_STRANGE = 0.5
"""From which chance on a question counts as out of scope."""


@dataclass(frozen=True)
class Term:
    """One term of the report; `probability` is the model's, None where the term was measured."""

    name: str
    probability: float | None = None

    def __str__(self) -> str:
        return self.name if self.probability is None else f"{self.name} ({self.probability:.0%})"


@dataclass(frozen=True)
class ReportedLabel:
    """What is reported of one label. Terms are empty where the label is absent or a task cannot be answered."""

    label: Label
    present: bool | None
    """None where the model answered nothing about it."""
    terms: Mapping[Task, tuple[Term, ...]]
    measured: Mapping[str, Any] | None
    """Volume in mm3 and in percent of the brain, sides of each region, components, core fraction; by a model those of
    the mask that it draws, or None."""
    notes: tuple[str, ...]
    """Why something is missing, where the model's heads contradict each other, or what it takes to be out of scope."""
    out_of_scope: Mapping[Task, float] = field(default_factory=dict)
    """The model's probability that the question about a task asks for something that it does not answer."""


@dataclass(frozen=True)
class Report:
    """The report of a study; `by` is the protocol (of a mask) or the model."""

    study: str
    source: Literal["mask", "model"]
    by: str
    modalities: tuple[Modality, ...]
    labels: tuple[ReportedLabel, ...]
    profile: str
    """The release whose labels these are."""
    weighed: bool = False
    """Whether a model's answers are weighed with what is measured in the mask that it draws."""

    @property
    def missing(self) -> tuple[Modality, ...]:
        return tuple(modality for modality in Modality if modality not in self.modalities)

    def to_json(self) -> dict[str, Any]:
        return {
            "study": self.study,
            "source": self.source,
            "by": self.by,
            "profile": self.profile,
            "weighed": self.weighed,
            "modalities": [str(modality) for modality in self.modalities],
            "missing": [str(modality) for modality in self.missing],
            "labels": {reported.label.key: _label_json(reported) for reported in self.labels},
            "not_covered": NOT_COVERED,
            "text": self.to_text(),
        }

    def to_text(self) -> str:
        seen = [reported for reported in self.labels if reported.present]
        regions = sorted({term.name for reported in seen for term in reported.terms.get(Task.REGION, ())} - {NO_REGION})
        answered = [reported for reported in self.labels if reported.present is not None]
        summary = [f"{len(seen)} of {len(answered)} labels seen{_keys(seen)}"] if answered else []
        if regions:
            summary.append(f"regions touched: {listed(tuple(regions))}")
        if unanswered := [reported for reported in self.labels if reported.present is None]:
            summary.append(f"{len(unanswered)} not answered{_keys(unanswered)}")
        technique = listed(self.modalities) if self.modalities else "none (a mask alone)"
        if self.modalities and self.missing:
            technique += f"; missing: {listed(self.missing)}"
        source = "a segmentation mask, protocol" if self.source == "mask" else "the model"
        weighed = ", weighed with the mask that it draws, whose mL, sides and components these are" * self.weighed
        return "\n".join(
            (
                f"STUDY      {self.study}",
                f"IMAGES     {technique}",
                f"SOURCE     {source} {self.by}{weighed}",
                f"LABELS     those of {self.profile}",
                "FINDINGS",
                *(f"  {line}" for reported in self.labels for line in _lines(reported)),
                f"SUMMARY    {'; '.join(summary)}.",
                f"LIMITS     {NOT_COVERED} {NOT_A_DEVICE}",
            )
        )


def _keys(labels: list[ReportedLabel]) -> str:
    return f" ({', '.join(reported.label.key for reported in labels)})" if labels else ""


def _label_json(reported: ReportedLabel) -> dict[str, Any]:
    def terms(task: Task) -> list[dict[str, Any]]:
        return [{"term": term.name, "probability": term.probability} for term in reported.terms.get(task, ())]

    return {
        "name": reported.label.name,
        "present": reported.present,
        **{str(task): terms(task) for task in Task},
        "out_of_scope": {str(task): chance for task, chance in reported.out_of_scope.items()},
        "measured": reported.measured,
        "notes": list(reported.notes),
    }


def _sided(region: Term, sides: Mapping[str, list[str]] | None) -> str:
    side = " and ".join(sides.get(region.name, ())) if sides else ""
    return f"{side} {region}".strip()


def _lines(reported: ReportedLabel) -> list[str]:
    """The label's sentence, and its notes."""
    label, measured = reported.label, reported.measured or {}
    head = f"{label.name} ({label.key})" if label.name != label.key else label.key
    notes = [f"  note: {note}" for note in reported.notes]
    if reported.present is None:
        return [f"{head}: not answered.", *notes]
    if not reported.present:
        sure = next((f" ({t.probability:.0%})" for t in reported.terms.get(Task.VOLUME, ()) if t.probability), "")
        return [f"{head}: not seen{sure}.", *notes]
    said = []
    volume = reported.terms.get(Task.VOLUME, ())
    if volume:
        said.append(f"{volume[0]} of the brain")
    if "volume_mm3" in measured:
        said.append(f"{measured['volume_mm3'] / 1000:.1f} mL")
    said += [str(term) for term in reported.terms.get(Task.SHAPE, ())]
    spread = [str(term) for term in reported.terms.get(Task.SPREAD, ())]
    if spread and (measured.get("components") or 1) > 1:
        spread[0] += f" ({measured['components']} components, the largest {measured['core_fraction']:.0%})"
    said += spread
    regions = reported.terms.get(Task.REGION, ())
    if regions:
        said.append("regions: " + listed(tuple(_sided(term, measured.get("sides")) for term in regions)))
    return [f"{head}: {'; '.join(said)}.", *notes]


def _measured_label(label: Label, found: LabelFindings) -> ReportedLabel:
    terms = {task: tuple(map(Term, found.answer(task))) for task in Task} if found.present else {}
    measured = {
        "volume_mm3": found.volume_mm3,
        "percent": found.relative_volume,
        "sides": {region: list(sides) for region, sides in (found.regions or {}).items()},
        "components": found.components,
        "core_fraction": found.core_fraction,
    }
    notes = tuple(f"no {field}: {reason}" for field, reason in found.reasons.items()) if found.present else ()
    return ReportedLabel(label, found.present, terms, measured if found.present else None, notes)


def report_of_mask(study: str, profile: Profile, findings: Findings, modalities: tuple[Modality, ...] = ()) -> Report:
    """The report of measured findings, which are about the labels of `profile`."""
    labels = tuple(_measured_label(label, findings.labels[label.key]) for label in profile.labels)
    return Report(study, "mask", findings.protocol, modalities, labels, profile.name)


def _answered_label(
    label: Label, said: Terms, heads: Terms, drawn: LabelFindings | None, out_of_scope: Mapping[Task, float]
) -> ReportedLabel:
    """`heads` is what the heads say by themselves, `drawn` what is measured in the mask that the model draws."""
    terms: dict[Task, tuple[Term, ...]] = {
        task: (Term(category.name, category.probability),) if said.named(task) else ()
        for task, category in said.categories.items()
    }
    terms[Task.REGION] = tuple(Term(region.name, region.probability) for region in said.regions)
    absent = [task for task in Task if ABSENT in heads.named(task)]
    decisive = terms[Task.VOLUME] or tuple(term for task in Task for term in terms[task])
    present = any(term.name != ABSENT for term in decisive) if decisive else None
    contrary = [task for task in Task if (task in absent) == present and heads.named(task)]
    notes = []
    if contrary:
        otherwise = "absent" if present else "present"
        notes.append(
            f"the head{'s' * (len(contrary) > 1)} for {listed(tuple(map(str, contrary)))} took it to be {otherwise}"
        )
    if unanswered := [task for task in Task if not terms[task]]:
        notes.append(f"nothing was answered about {listed(tuple(map(str, unanswered)))}")
    if strange := [f"{task} ({chance:.0%})" for task, chance in out_of_scope.items() if chance > _STRANGE]:
        notes.append(f"taken to be out of scope: the question about {listed(tuple(strange))}")
    unsaid = [task for task in Task if present and ABSENT in said.named(task)]
    terms |= dict.fromkeys(unsaid if present else set(Task) - {Task.VOLUME}, ())  # nothing denies what is reported
    if outvoted := [task for task in unsaid if task not in contrary]:
        notes.append(
            f"left out: what the mask makes of {listed(tuple(map(str, outvoted)))}, which would be that it is absent"
        )
    measured = None if drawn is None else _measured_label(label, drawn).measured
    if measured is not None and drawn is not None:
        if not present:
            notes.append(f"the mask that it draws has {drawn.volume_mm3 / 1000:.1f} mL of it")
        elif drawn.volume is not None and drawn.volume not in {term.name for term in terms[Task.VOLUME]}:
            notes.append(f"measured in the mask that it draws: {drawn.volume} of the brain")
        if drawn.spread not in {term.name for term in terms[Task.SPREAD]}:
            measured = {**measured, "components": None, "core_fraction": None}  # they would contradict what is said
    return ReportedLabel(label, present, terms, measured if present else None, tuple(notes), out_of_scope)


def _joined(terms: Mapping[Task, Terms]) -> Terms:
    """One answer to all tasks out of one to each."""
    return Terms({task: terms[task].categories[task] for task in EXCLUSIVE_TASKS}, terms[Task.REGION].regions)


def report_by_model(
    answerer: Answerer, study: Study, profile: Profile | None = None, drawn: Drawn | None = None
) -> Report:
    """The report of what a model says to one question a task about each label of a profile (`Answerer.profile`), or of
    that of `drawn`: what is measured in the mask that it draws, which it weighs in if it has learnt how, and which is
    left out if it has not."""
    if answerer.consensus is None:
        drawn = None
    labels = []
    asked_about = answerer.profile(profile) if drawn is None else drawn.profile
    for label in asked_about.labels:
        questions = {task: seed_question((task,)).question.format(label=label.name) for task in Task}
        answers = {task: answerer.ask(study, asked, say=False, drawn=drawn) for task, asked in questions.items()}
        said = _joined({task: answer.terms for task, answer in answers.items()})
        heads = _joined({task: answer.by_heads for task, answer in answers.items()})
        found = None if drawn is None else drawn.findings.labels[label.key]
        strange = {task: answer.out_of_scope for task, answer in answers.items()}
        labels.append(_answered_label(label, said, heads, found, strange))
    weighed = drawn is not None
    return Report(study.id, "model", answerer.name, study.modalities, tuple(labels), asked_about.name, weighed)

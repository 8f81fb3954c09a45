"""What stands behind an answer: the protocol's findings of a mask, whether they agree with it, and where to look.

With a mask that is given the findings are exact; with the mask that the model's decoder draws they are as good as that
mask. Either way they are measured, not said.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool

from voxmoe.answering import Answer, Answerer, Drawn, Terms, labels_named
from voxmoe.errors import LabelError
from voxmoe.imaging.study import Study, check_same_grid, load_mask
from voxmoe.imaging.volume import Volume, where_label
from voxmoe.pictures import new_figure, save_figure
from voxmoe.vocabulary import Label, Modality, Profile, Task
from voxmoe.vqa.findings import Findings, to_json
from voxmoe.vqa.measure import findings_of
from voxmoe.vqa.protocol import PAPER_V2, Protocol

Source = Literal["given mask", "predicted mask"]
_SHOWN_ON = {
    "SNFH": Modality.FLAIR,
    "ED": Modality.FLAIR,
    "ET": Modality.T1GD,
    "NETC": Modality.T1GD,
    "NCR": Modality.T1GD,
    "RC": Modality.T1,
}
"""The modality on which each label is looked for first; others on FLAIR."""


@dataclass(frozen=True, eq=False)
class Measured:
    """A study that was measured, once for all that is said about it."""

    source: Source
    study: Study
    """With the mask that was measured."""
    profile: Profile
    findings: Findings

    @property
    def drawn(self) -> Drawn | None:
        """What a model can weigh into its answers: what is measured in a mask that it has drawn; None of another."""
        return Drawn(self.profile, self.findings) if self.source == "predicted mask" else None

    def behind(self, answer: Answer) -> "Evidence":
        """The evidence for an answer: the findings of the labels that its question names, of all if it names none.

        It is held against a label only if its question names a single one: of several it tells no one's.
        """
        named = labels_named(answer.question, self.profile)
        held = named if len(named) == 1 else ()
        weighed = None if answer.heads is None else _agreement(answer.terms, self.findings, held)
        return Evidence(self, named or self.profile.labels, _agreement(answer.by_heads, self.findings, held), weighed)


@dataclass(frozen=True, eq=False)
class Evidence:
    """What was measured behind one answer."""

    measured: Measured
    labels: tuple[Label, ...]
    agreement: Mapping[str, Mapping[Task, bool]]
    """Label key -> for each task that was answered, whether what the heads say is what was measured."""
    weighed: Mapping[str, Mapping[Task, bool]] | None = None
    """The same of the answer in which the measurement was weighed; None where it was not."""
    picture: Path | None = None
    """Where it was drawn."""

    def to_json(self) -> dict[str, Any]:
        findings = self.measured.findings
        told = to_json(findings)["labels"]
        return {
            "source": self.measured.source,
            "protocol": findings.protocol,
            "profile": findings.profile,
            "labels": {label.key: told[label.key] for label in self.labels},
            "agreement": _told(self.agreement),
            "agreement_weighed": None if self.weighed is None else _told(self.weighed),
            "picture": str(self.picture) if self.picture else None,
        }


def _told(agreement: Mapping[str, Mapping[Task, bool]]) -> dict[str, dict[str, bool]]:
    return {key: {str(task): agrees for task, agrees in tasks.items()} for key, tasks in agreement.items()}


def _agreement(terms: Terms, findings: Findings, labels: tuple[Label, ...]) -> dict[str, dict[Task, bool]]:
    found: dict[str, dict[Task, bool]] = {}
    for label in labels:
        measured = {task: frozenset(findings.labels[label.key].answer(task)) for task in Task}
        said = {task: terms.named(task) for task in Task}
        found[label.key] = {task: said[task] == measured[task] for task in Task if said[task] and measured[task]}
    return found


def mask_of(answerer: Answerer, study: Study, profile: Profile, given: Path | None = None) -> tuple[Volume, Source]:
    """The mask to measure: the one given, else the one that the model's decoder draws.

    Raises `WeightsError` if there is neither, `LabelError` for a given mask with values that the profile does not know
    and `StudyError` for one on another grid.
    """
    if given is not None:
        mask = load_mask(given, profile)
        check_same_grid(study.reference, mask)
        return mask, "given mask"
    return answerer.segment(study, profile), "predicted mask"


def measure_mask(
    study: Study,
    mask: Volume,
    source: Source,
    profile: Profile,
    protocol: Protocol = PAPER_V2,
    space: str | None = None,
) -> Measured:
    """Measure a mask on the study's grid.

    Raises `LabelError` for a value that the profile does not know and `StudyError` for a mask on another grid.
    """
    check_same_grid(study.reference, mask)
    findings = findings_of(mask, study.images, profile, protocol, space=space)
    return Measured(source, replace(study, mask=mask), profile, findings)


def measure_study(
    answerer: Answerer, study: Study, profile: Profile, given: Path | None = None, space: str | None = None
) -> Measured:
    """Measure a study in the mask that is given, else in the one that the model's decoder draws.

    Raises as `mask_of` does.
    """
    mask, source = mask_of(answerer, study, profile, given)
    return measure_mask(study, mask, source, profile, space=space)


def drawn_by(answerer: Answerer, study: Study, profile: Profile, space: str | None = None) -> Drawn | None:
    """What a model weighs into its answers about a profile's labels: what is measured in the mask that it draws; None
    where it has not learnt to weigh, or draws none of these labels."""
    if answerer.consensus is None:
        return None
    try:
        return measure_study(answerer, study, profile, space=space).drawn
    except LabelError:
        return None


def ask_all(
    answerer: Answerer,
    study: Study,
    questions: Sequence[str],
    *,
    profile: Profile | None = None,
    given: Path | None = None,
    evidence: bool = False,
    heads_alone: bool = False,
    space: str | None = None,
    report: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> tuple[list[Answer], Measured | None]:
    """Answer questions about a study as `voxmoe ask` does, and tell what was measured, for `evidence` or in a `given`
    mask.

    Where the model has learnt to, it weighs in what is measured in the mask that it draws, by the study's `profile`,
    or where that is not known by its own; not with `heads_alone`, and not what a given mask holds. `space` is that of a
    study whose grid does not say it. Raises as `measure_study` and `Answerer.ask` do.
    """
    measured = None
    if evidence or given is not None:
        report("measuring", 0, 1)
        measured = measure_study(answerer, study, profile or answerer.profile(), given, space)
    masks = {} if measured is None else {measured.profile.name: measured.drawn}
    answers = []
    for number, question in enumerate(questions):
        weighed_by = None if heads_alone else answerer.measured_by(question, profile)
        if weighed_by is not None and weighed_by.name not in masks:
            report("measuring", 0, 1)
            masks[weighed_by.name] = drawn_by(answerer, study, weighed_by, space)
        report("answering", number, len(questions))
        answers.append(answerer.ask(study, question, drawn=None if weighed_by is None else masks[weighed_by.name]))
    return answers, measured


def gather(measured: Measured, answers: Sequence[Answer], picture: Path | None = None) -> list[Evidence]:
    """The evidence for each answer about a study that was measured, with a picture of each where one is wanted."""
    found = [measured.behind(answer) for answer in answers]
    if picture is None:
        return found
    places = [numbered(picture, number, len(found)) for number in range(len(found))]
    for place, evidence in zip(places, found, strict=True):
        draw(place, evidence)
    return [replace(evidence, picture=place) for place, evidence in zip(places, found, strict=True)]


# --------------------------------------------------------------------------------------------------------- the picture


def numbered(path: Path, number: int, count: int) -> Path:
    """The file of one of several pictures: OUT-1.png, OUT-2.png; OUT.png if there is one."""
    return path if count == 1 else path.with_stem(f"{path.stem}-{number + 1}")


def _planes(where: Bool[np.ndarray, "X Y Z"]) -> tuple[int, int, int]:
    """Along each axis the plane that shows most of what is marked; the middle one if nothing is."""
    if not where.any():
        x, y, z = (size // 2 for size in where.shape)
        return x, y, z
    x, y, z = (int(where.sum(axis=tuple({0, 1, 2} - {axis})).argmax()) for axis in range(3))
    return x, y, z


def draw(path: Path, evidence: Evidence) -> None:
    """Three planes through the lesion with its contours, to a PNG, PDF or SVG file.

    Axial and coronal planes are seen as radiologists do, the patient's right on the left. Raises `ImageError` for
    another kind of file and `MissingPackageError` without matplotlib.
    """
    study, labels = evidence.measured.study, evidence.labels
    assert study.mask is not None
    marks = {label.key: where_label(study.mask.data, label.values) for label in labels}
    at = _planes(np.any(list(marks.values()), axis=0))
    wanted = _SHOWN_ON.get(labels[0].key, Modality.FLAIR)
    modality = wanted if wanted in study.images else study.modalities[0]
    image = study.images[modality]
    window = _window(image)
    figure = new_figure(path, 11, 4.2)
    for axes, (axis, name, edges) in zip(figure.subplots(1, 3), _VIEWS, strict=True):
        _draw_plane(axes, image, window, marks, axis, at[axis])
        axes.set_title(f"{name} {at[axis]}", fontsize=9)
        for place, text in zip(((0.02, 0.5), (0.94, 0.5)), edges, strict=True):
            axes.text(*place, text, color="white", transform=axes.transAxes, fontsize=9)
    handles = [
        figure.axes[0].plot([], [], color=_COLOURS[i % len(_COLOURS)], label=key)[0] for i, key in enumerate(marks)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(marks), fontsize=8, frameon=False)
    source = evidence.measured.source
    figure.suptitle(f"{study.id}: {modality}, {source}. Research software, not a medical device.", fontsize=9)
    save_figure(path, figure, dpi=130)


_VIEWS = ((2, "axial", ("R", "L")), (1, "coronal", ("R", "L")), (0, "sagittal", ("A", "P")))
"""Axis across the plane, its name, and what lies at its left and right edge."""
_COLOURS = ("#e69f00", "#56b4e9", "#cc79a7", "#009e73", "#f0e442")
"""That readers who see no difference between red and green can tell apart."""


def _window(image: Volume) -> tuple[float, float]:
    """The intensities that are drawn black and white: of what is not background, all but the outermost half percent."""
    seen = image.data[image.data != 0]
    low, high = np.percentile(seen, (0.5, 99.5)) if seen.size else (0, 1)
    return min(float(low), 0.0), float(high)


def _draw_plane(
    axes: Any,
    image: Volume,
    window: tuple[float, float],
    marks: Mapping[str, Bool[np.ndarray, "X Y Z"]],
    axis: int,
    at: int,
) -> None:
    """One plane of RAS voxels with the first of its axes running to the left and the second upwards."""

    def turned(data: np.ndarray) -> np.ndarray:
        plane: np.ndarray = np.take(data, at, axis=axis)
        return plane.T[::-1, ::-1]

    first, second = (size for along, size in enumerate(image.spacing) if along != axis)
    low, high = window
    axes.imshow(turned(image.data), cmap="gray", vmin=low, vmax=high, aspect=second / first, interpolation="nearest")
    for number, mark in enumerate(marks.values()):
        here = turned(mark)
        if here.any():
            axes.contour(here, levels=[0.5], colors=_COLOURS[number % len(_COLOURS)], linewidths=1.2)
    axes.set_axis_off()

"""What each study contributes to a dataset, kept on disk from the moment it is done until the dataset is whole."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree
from typing import Any

from voxmoe import __version__
from voxmoe.errors import DatasetError, VoxmoeError
from voxmoe.files import write_bytes
from voxmoe.imaging.layouts import require_profile
from voxmoe.imaging.places import Place, below, digests, file_of
from voxmoe.imaging.study import Study, StudyFiles, load_study
from voxmoe.vocabulary import NOT_ASKED, Profile, Task
from voxmoe.vqa.encoding import encode
from voxmoe.vqa.findings import Findings, to_json
from voxmoe.vqa.measure import findings_of
from voxmoe.vqa.protocol import Protocol
from voxmoe.vqa.sampling import Question, apply_draw, draw_questions
from voxmoe.vqa.type_weights import UNIFORM, TypeWeights
from voxmoe.vqa.wordings.file import wordings_from


@dataclass(frozen=True)
class Terms:
    """All that decides, with its files, what a study contributes."""

    root: Path
    """The cohort's folder; rows name their files below it."""
    profile: str | None
    protocol: Protocol
    atlas: str
    seed: int
    source: str
    """The name of the source of wordings."""
    wordings: Path | None = None
    """Its file, None for the grammar."""
    type_weights: TypeWeights = UNIFORM
    space: str | None = None
    """The space of studies whose grid does not say it; None for what the layout says."""


@dataclass(frozen=True)
class StudyRecord:
    """What a study contributes: its rows, its findings and the hashes of its files; or why it contributes nothing."""

    study: str
    patient: str
    rows: list[dict[str, Any]]
    findings: dict[str, Any] | None
    hashes: dict[str, str]
    error: str | None = None
    labels: dict[str, list[int]] = field(default_factory=dict)
    """Label key -> its values in the mask."""


def study_findings(
    study: Study, profile: Profile, protocol: Protocol, atlas: str | None = None, space: str | None = None
) -> Findings:
    """Findings of a loaded study with a mask; the brain is measured on T1, or on the first modality there is."""
    if study.mask is None:
        raise DatasetError(f"{study.id}: has no mask, so nothing can be measured")
    return findings_of(study.mask, study.images, profile, protocol, atlas, space, required=True)


def _lies(files: StudyFiles, root: Path) -> dict[str, Any]:
    """Where a study's files lie below the cohort, as each of its rows says."""
    images = {str(modality): below(place, root) for modality, place in files.images.items()}
    return {"images": images, "mask": below(files.mask, root) if files.mask else None}


def _row(
    files: StudyFiles,
    lies: dict[str, Any],
    profile: Profile,
    number: int,
    question: Question,
    findings: Findings,
    terms: Terms,
) -> dict[str, Any]:
    draw = question.draw
    label = findings.labels[draw.label]
    answers = {task: label.answer(task) for task in draw.tasks}
    exclusive = {
        str(task): answers[task][0] if task in answers else NOT_ASKED for task in (Task.VOLUME, Task.SHAPE, Task.SPREAD)
    }
    return {
        "id": f"{files.id}#{number:02d}",
        "study": files.id,
        "patient": files.patient,
        "label": draw.label,
        "label_name": next(known.name for known in profile.labels if known.key == draw.label),
        "kind": str(draw.kind),
        "topic": question.topic,
        "tasks": [str(task) for task in draw.tasks],
        "question": question.text,
        "answer": question.answer,
        **exclusive,
        "region": list(answers.get(Task.REGION, ())),
        "targets": encode(draw.kind, answers),
        **lies,
        "draw": {"seed": terms.seed, "source": terms.source, "question": draw.question, "answer": draw.answer},
    }


def study_record(files: StudyFiles, terms: Terms) -> StudyRecord:
    """Everything that one study contributes. A study that cannot be used is returned with its error, not raised."""
    try:
        files = require_profile(files, terms.profile)
        profile = files.profile
        assert profile is not None
        study = load_study(files, with_mask=True, scan=True)
        findings = study_findings(study, profile, terms.protocol, terms.atlas, terms.space or files.space)
        wordings = wordings_from(terms.wordings, terms.source)
        draws = draw_questions(files.id, profile, terms.seed, wordings, terms.type_weights)
        questions = [apply_draw(draw, profile, findings.labels, wordings) for draw in draws]
    except VoxmoeError as error:
        return StudyRecord(files.id, files.patient, [], None, {}, str(error))
    lies = _lies(files, terms.root)
    rows = [_row(files, lies, profile, number, question, findings, terms) for number, question in enumerate(questions)]
    parts = _parts(files)
    digest_of = digests(parts.values())
    hashes = {role: digest_of[place] for role, place in parts.items()}
    labels = {label.key: list(label.values) for label in profile.labels}
    return StudyRecord(files.id, files.patient, rows, to_json(findings), hashes, labels=labels)


def _parts(files: StudyFiles) -> dict[str, Place]:
    mask = {"mask": files.mask} if files.mask is not None else {}
    return {**{str(modality): place for modality, place in files.images.items()}, **mask}


def _state(path: Path) -> list[int] | None:
    """Size and time of change of a file, which tell it from what it was before; None if it cannot be reached."""
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]


def _key(files: StudyFiles, terms: Terms) -> dict[str, Any]:
    return {
        "voxmoe": __version__,
        "files": {role: [below(part, terms.root), _state(file_of(part))] for role, part in _parts(files).items()},
        "patient": files.patient,
        "profile": [terms.profile, repr(files.profile)],
        "space": terms.space or files.space,
        "protocol": terms.protocol.model_dump(mode="json"),
        "atlas": [terms.atlas, _state(Path(terms.atlas))],
        "seed": terms.seed,
        "wordings": terms.source,
        "type_weights": terms.type_weights.model_dump(mode="json"),
    }


class KeptRecords:
    """The records of a build that has not ended, one file a study, each used again as long as its key is the same.

    The key is what decided the record. It is taken before a study is read, so that a file which changes in between
    is read again by the next run. Studies that could not be used are not kept: what was amiss may be mended.
    """

    def __init__(self, folder: Path, studies: list[StudyFiles], terms: Terms) -> None:
        self.folder = folder
        self.keys: Mapping[str, Any] = {files.id: _key(files, terms) for files in studies}

    def get(self, study: str) -> StudyRecord | None:
        try:
            kept = json.loads((self.folder / f"{study}.json").read_text())
        except (OSError, ValueError):
            return None
        return StudyRecord(**kept["record"]) if kept["key"] == self.keys[study] else None

    def put(self, record: StudyRecord) -> None:
        if record.error is None:
            content = json.dumps({"key": self.keys[record.study], "record": vars(record)}, ensure_ascii=False)
            write_bytes(self.folder / f"{record.study}.json", content.encode())

    def clear(self) -> None:
        rmtree(self.folder, ignore_errors=True)

"""`ask` and `report` where the model reads CT, and what is refused beside a model of either kind."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxmoe.any_model import system_of
from voxmoe.cli import show
from voxmoe.errors import ImageError, QuestionError, StudyError
from voxmoe.vocabulary import TGH_MOE

if TYPE_CHECKING:
    from voxmoe.imaging.volume import Volume
    from voxmoe.scan_answering import ScanAnswerer


def reads_ct(model: Path) -> bool:
    """Whether the model in a folder reads CT; otherwise it reads brain MRI."""
    return system_of(model) == TGH_MOE


def refuse_beside_ct(model: Path, options: Mapping[str, Any]) -> None:
    """Raise `StudyError` for options, by their names, that were given and mean nothing to a model that reads CT."""
    if given := [name for name, value in options.items() if value]:
        raise StudyError(
            f"{', '.join(given)}: for brain MRI, and {model} reads CT; leave it out and name one CT, or choose a model "
            "that reads brain MRI, e.g. --model pocket"
        )


def check_study(place: str | None, model: Path) -> None:
    """Raise `ImageError` if what is given to a model that reads brain MRI is no folder of a study but a file or a
    DICOM series."""
    from voxmoe.imaging.dicom import is_dicom

    path = None if place is None else Path(place)
    if path is None:
        return
    mend = "name a study's folder, or its files with --t1, --t1gd, --t2, --flair; a CT needs a model that reads CT"
    if path.is_file():
        raise ImageError(f"{path}: is one file; {model} reads studies of brain MRI: {mend} (--model FOLDER)")
    if path.is_dir() and any(is_dicom(one) for one in path.iterdir() if one.is_file()):
        raise ImageError(
            f"{path}: is a folder of DICOM files; {model} reads brain MRI as NIfTI: {mend} (--model FOLDER)"
        )


def refuse_choices(model: Path, choices: Sequence[str]) -> None:
    """Raise `QuestionError` if choices are given to a model that reads brain MRI."""
    if choices:
        raise QuestionError(f"--choice: for models that read CT, and {model} reads brain MRI; ask without choices")


def _opened(progress: show.Progress, model: Path, scan: str) -> "tuple[ScanAnswerer, Volume]":
    progress.report("loading the model", 0, 1)
    from voxmoe.scan_answering import ScanAnswerer

    answerer = ScanAnswerer.from_pretrained(model)
    progress.report("reading the CT", 0, 1)
    return answerer, answerer.read(scan)


def ask(model: Path, scan: str, questions: Sequence[str], choices: Sequence[str], json: bool) -> None:
    """Ask questions about one CT and print the answers."""
    if choices and len(questions) > 1:
        raise QuestionError(f"--choice: belongs to one question, and {len(questions)} were asked; ask them one by one")
    answers = []
    with show.Progress() as progress:
        answerer, volume = _opened(progress, model, scan)
        for number, question in enumerate(questions):
            progress.report("answering", number, len(questions))
            answers.append(answerer.ask(volume, question, choices).to_json())
    show.result(answers if len(answers) > 1 else answers[0], show.scan_answers, json)


def report(model: Path, scan: str, json: bool) -> None:
    """Print what the model finds in one CT."""
    with show.Progress() as progress:
        answerer, volume = _opened(progress, model, scan)
        progress.report("writing the report", 0, 1)
        found = answerer.report(volume)
    show.result(found.to_report(), show.scan_report, json)

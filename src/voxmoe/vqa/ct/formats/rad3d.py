"""3D-RAD: closed and open questions about CT-RATE's volumes (CSV, one a subtask, or a folder of them).

Its split `test` is made of CT-RATE's validation volumes: test_1_a_2.nii.gz here is valid_1_a_2.nii.gz there.

Its temporal tasks ask what became of a finding since earlier scans. Rows of task 5 do not say what these showed: one
volume alone cannot answer them. Rows of task 6 bring the history in words, in the question. Both have kinds of their
own.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from voxmoe.errors import DatasetError
from voxmoe.vocabulary import CTTask
from voxmoe.vqa.ct.exchange import Exchange
from voxmoe.vqa.ct.formats.closed import chosen, present
from voxmoe.vqa.ct.formats.ct_rate_names import VolumeName, volume_name
from voxmoe.vqa.ct.formats.form import Format, Terms
from voxmoe.vqa.ct.formats.m3d_vqa import CHOICES
from voxmoe.vqa.ct.formats.tables import Row, read_csv, tables_in

NAME = "3d-rad"
COLUMNS = ("Task", "Subtask", "VolumeName", "Question", "Answer", "QuestionType", "AnswerChoice", *CHOICES)
KINDS = {
    "1": "image-observation",
    "2": "anomaly-detection",
    "3": "medical-computation",
    "4": "existence-detection",
    "5": "static-temporal-diagnosis",
    "6": "longitudinal-temporal-diagnosis",
}
TASKS = {"open": CTTask.OPEN, "close": CTTask.CLOSED, "closed": CTTask.CLOSED}


def _volume(written: str) -> VolumeName:
    """The volume under CT-RATE's own name, with the split that it is of here."""
    named = volume_name(written)
    if named.split != "test":
        return named
    return replace(volume_name(f"valid_{written.removeprefix('test_')}"), split=named.split)


def rows(place: Path) -> Iterator[Row]:
    for table in tables_in(place):
        for row in read_csv(table, COLUMNS, place):
            try:
                yield row if row.broken else replace(row, split=_volume(row.cells["VolumeName"]).split)
            except DatasetError as error:
                yield replace(row, broken=str(error))


def exchanges(row: Row, terms: Terms) -> Iterator[Exchange]:
    cells = row.cells
    kind, task = KINDS.get(cells["Task"]), TASKS.get(cells["QuestionType"].lower())
    if kind is None:
        raise DatasetError(f"its task is {cells['Task'] or 'empty'}; there are {', '.join(KINDS)}")
    if task is None:
        raise DatasetError(f"its question type is {cells['QuestionType'] or 'empty'}; there are Open and Close")
    closed = task is CTTask.CLOSED
    choices = present([cells[column] for column in CHOICES]) if closed else ()
    answer = chosen(choices, cells["AnswerChoice"], cells["Answer"]) if closed else cells["Answer"]
    volume = _volume(cells["VolumeName"])
    yield Exchange(
        f"{NAME}/{row.id}",
        NAME,
        terms.place(*volume.places),
        volume.patient,
        task,
        kind,
        cells["Question"],
        answer,
        choices,
        rescale=terms.rescale(volume.file),
    )


RAD3D = Format(NAME, "3D-RAD's questions (CSV, or a folder)", rows, exchanges, stored_values=True)

"""3D-RAD: closed and open questions about CT-RATE's volumes (CSV, one a subtask, or a folder of them).

Its temporal tasks ask what became of a finding since earlier scans, which rows do not name: one volume alone cannot
answer them. They are kept under kinds of their own.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from voxmoe.errors import DatasetError
from voxmoe.vocabulary import CTTask
from voxmoe.vqa.ct.exchange import Exchange
from voxmoe.vqa.ct.formats.closed import chosen, present
from voxmoe.vqa.ct.formats.ct_rate_names import volume_name
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


def rows(place: Path) -> Iterator[Row]:
    for table in tables_in(place):
        for row in read_csv(table, COLUMNS):
            try:
                yield row if row.broken else replace(row, split=volume_name(row.cells["VolumeName"]).split)
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
    volume = volume_name(cells["VolumeName"])
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

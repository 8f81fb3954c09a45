"""M3D-VQA: one CSV a split. Each row gives a closed question and, without its choices, an open one."""

from collections.abc import Iterator
from functools import partial
from pathlib import PurePosixPath

from voxmoe.errors import DatasetError
from voxmoe.vocabulary import CTTask
from voxmoe.vqa.ct.exchange import Exchange
from voxmoe.vqa.ct.formats.closed import chosen, present
from voxmoe.vqa.ct.formats.form import Format, Terms
from voxmoe.vqa.ct.formats.tables import Row, read_csv

NAME = "m3d-vqa"
CHOICES = ("Choice A", "Choice B", "Choice C", "Choice D")
COLUMNS = ("Image Path", "Question Type", "Question", *CHOICES, "Answer", "Answer Choice")
KINDS = {"1": "plane", "2": "phase", "3": "organ", "4": "abnormality", "5": "location"}


def case_of(image: str) -> str:
    """The case that an M3D image belongs to, e.g. ct_case/006402: M3D names no patients."""
    parts = PurePosixPath(image).parent.parts
    return "/".join(parts[-2:]) or PurePosixPath(image).stem


def exchanges(row: Row, terms: Terms) -> Iterator[Exchange]:
    cells = row.cells
    kind = KINDS.get(cells["Question Type"])
    if kind is None:
        told = ", ".join(f"{number} {name}" for number, name in KINDS.items())
        raise DatasetError(f"its question type is {cells['Question Type'] or 'empty'}; there are {told}")
    choices = present([cells[column] for column in CHOICES])
    answer = chosen(choices, cells["Answer Choice"], cells["Answer"])
    image = terms.place(cells["Image Path"])
    yield Exchange(
        f"{NAME}/{row.id}/closed", NAME, image, case_of(image), CTTask.CLOSED, kind, cells["Question"], answer, choices
    )
    yield Exchange(f"{NAME}/{row.id}/open", NAME, image, case_of(image), CTTask.OPEN, kind, cells["Question"], answer)


M3D_VQA = Format(
    NAME, "closed and open questions about M3D's arrays (CSV)", partial(read_csv, needed=COLUMNS), exchanges
)

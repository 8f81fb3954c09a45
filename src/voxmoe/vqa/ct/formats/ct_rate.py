"""CT-RATE: reports from its findings and impressions, and closed questions from its table of 18 labels (CSV).

A table has reports, labels, or both. A volume's values may still be stored ones (the first version): then slope and
intercept come from the table of metadata.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from voxmoe.errors import DatasetError
from voxmoe.vocabulary import CTTask
from voxmoe.vqa.ct.exchange import REPORT_PROMPT, Exchange
from voxmoe.vqa.ct.formats.ct_rate_names import volume_name
from voxmoe.vqa.ct.formats.form import Format, Terms
from voxmoe.vqa.ct.formats.tables import Row, read_csv

NAME = "ct-rate"
NAMES = ("VolumeName", "AccessionNo")
REPORTS = ("Findings_EN", "Impressions_EN", "report_text")
LABELS = (
    "Medical material",
    "Arterial wall calcification",
    "Cardiomegaly",
    "Pericardial effusion",
    "Coronary artery wall calcification",
    "Hiatal hernia",
    "Lymphadenopathy",
    "Emphysema",
    "Atelectasis",
    "Lung nodule",
    "Lung opacity",
    "Pulmonary fibrotic sequela",
    "Pleural effusion",
    "Mosaic attenuation pattern",
    "Peribronchial thickening",
    "Consolidation",
    "Bronchiectasis",
    "Interlobular septal thickening",
)
_NOTHING = frozenset({"", "nan", "Not given."})
_LABEL_VALUES = {"1": "Yes", "1.0": "Yes", "0": "No", "0.0": "No"}


def rows(path: Path) -> Iterator[Row]:
    for row in read_csv(path, ("|".join(NAMES), "|".join((*REPORTS, *LABELS)))):
        try:
            yield replace(row, split=None if row.broken else volume_name(_name(row)).split)
        except DatasetError as error:
            yield replace(row, broken=str(error))


def _name(row: Row) -> str:
    return str(next(row.cells[column] for column in NAMES if column in row.cells))


def _report(row: Row) -> str:
    texts = [row.cells[column] for column in REPORTS if column in row.cells]
    return " ".join(text for text in texts if text not in _NOTHING)


def exchanges(row: Row, terms: Terms) -> Iterator[Exchange]:
    volume = volume_name(_name(row))
    labels = [label for label in LABELS if label in row.cells]
    report = _report(row)
    if not report and not labels:
        raise DatasetError("has neither findings nor an impression")
    wrong = [f"{label} {row.cells[label] or 'empty'}" for label in labels if row.cells[label] not in _LABEL_VALUES]
    if wrong:
        raise DatasetError(f"its labels have to be 0 or 1; not so: {', '.join(wrong)}")
    image, rescale = terms.place(*volume.places), terms.rescale(volume.file)
    start = f"{NAME}/{row.id}"
    if report:
        yield Exchange(
            f"{start}/report",
            NAME,
            image,
            volume.patient,
            CTTask.REPORT,
            "report",
            REPORT_PROMPT,
            report,
            rescale=rescale,
        )
    for label in labels:
        yield Exchange(
            f"{start}/{label.lower().replace(' ', '-')}",
            NAME,
            image,
            volume.patient,
            CTTask.CLOSED,
            label.lower(),
            f"Is there any sign of {label.lower()} in this CT scan?",
            _LABEL_VALUES[row.cells[label]],
            ("Yes", "No"),
            rescale=rescale,
        )


CT_RATE = Format(NAME, "reports and labels of CT-RATE (CSV)", rows, exchanges, stored_values=True)

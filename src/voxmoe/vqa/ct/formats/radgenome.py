"""RadGenome-ChestCT: its tables presence, abnormality, location, size and disorders (CSV), or a folder of them.

Its rows hold no questions. They are worded by the templates that are published with them (KIND_template.json, if it
lies beside the table), one drawn for each row by its place, or else by one wording of ours.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from zlib import crc32

from voxmoe.errors import DatasetError
from voxmoe.vocabulary import CTTask
from voxmoe.vqa.ct.exchange import Exchange
from voxmoe.vqa.ct.formats.ct_rate_names import volume_name
from voxmoe.vqa.ct.formats.form import Format, Terms
from voxmoe.vqa.ct.formats.tables import Row, name_of, read_csv, read_json, tables_in

NAME = "radgenome"
WORDINGS = {
    "presence": "Does the {region} show {abnormality}?",
    "abnormality": "Which abnormalities does the {region} show?",
    "location": "Where does the scan show {abnormality}?",
    "size": "How large is the {abnormality} in the {region}?",
    "disorders": "Which disorders does the scan show?",
}
COLUMNS = {
    "presence": ("Volumename", "Anatomy", "Finding", "Presence"),
    "abnormality": ("Volumename", "Anatomy", "Abnormality"),
    "location": ("Volumename", "Anatomy", "Abnormality"),
    "size": ("Volumename", "Anatomy", "Abnormality", "Size"),
    "disorders": ("Volumename", "Disorders"),
}
_YES_NO = {"yes": "Yes", "no": "No"}


def _kind(table: Path) -> str | None:
    """By the name of the file, as abnormality and location have the same columns; None if that says none, or two."""
    found = [kind for kind in COLUMNS if kind in table.stem.lower()]
    return found[0] if len(found) == 1 else None


def _templates(table: Path, kind: str) -> list[str]:
    path = table.parent / f"{kind}_template.json"
    if not path.is_file():
        return [WORDINGS[kind]]
    content = read_json(path)
    templates = content.get(kind) if isinstance(content, Mapping) else None
    if not templates or not all(isinstance(template, str) for template in templates):
        raise DatasetError(f"{path}: holds no list of templates under {kind}; mend it or take it away")
    return list(templates)


def rows(place: Path) -> Iterator[Row]:
    """With two more cells: what kind of table it is, and the wording of the question.

    A table of no kind is one broken row in a folder (the reports lie there too), and an error if it is given itself.
    """
    for table in tables_in(place):
        kind = _kind(table)
        if kind is None:
            said = f"its name has to say which table it is: one of {', '.join(COLUMNS)}"
            if table == place:
                raise DatasetError(f"{table}: {said}")
            name = name_of(table, place)
            yield Row(name, name, {}, broken=f"is left out as a whole; {said}")
            continue
        templates = _templates(table, kind)
        for row in read_csv(table, COLUMNS[kind], place):
            template = templates[crc32(row.id.encode()) % len(templates)]
            row = replace(row, cells={**row.cells, "kind": kind, "template": template})
            try:
                yield row if row.broken else replace(row, split=volume_name(row.cells["Volumename"]).split)
            except DatasetError as error:
                yield replace(row, broken=str(error))


def _answer(kind: str, cells: Mapping[str, str], region: str) -> str:
    if kind == "presence":
        answer = _YES_NO.get(cells["Presence"].rstrip(". ").lower())
        if answer is None:
            raise DatasetError(f"its presence is {cells['Presence'] or 'empty'}; Yes or No is needed")
        return answer
    if kind == "location":
        return region
    return cells[{"abnormality": "Abnormality", "size": "Size", "disorders": "Disorders"}[kind]]


def exchanges(row: Row, terms: Terms) -> Iterator[Exchange]:
    cells, kind = row.cells, row.cells["kind"]
    region = cells.get("Anatomy", "").rpartition("/")[2]
    abnormality = cells.get("Finding") or cells.get("Abnormality") or ""
    needed = {"region": region, "abnormality": abnormality} if kind != "disorders" else {}
    for name, value in needed.items():
        if not value:
            raise DatasetError(f"its {name} is empty")
    question = cells["template"].replace("{region}", region).replace("{abnormality}", abnormality)
    volume = volume_name(cells["Volumename"])
    yield Exchange(
        f"{NAME}/{row.id}",
        NAME,
        terms.place(*volume.places),
        volume.patient,
        CTTask.CLOSED if kind == "presence" else CTTask.OPEN,
        kind,
        question,
        _answer(kind, cells, region),
        ("Yes", "No") if kind == "presence" else (),
        rescale=terms.rescale(volume.file),
    )


RADGENOME = Format(
    NAME, "RadGenome-ChestCT's questions by region (CSV, or a folder)", rows, exchanges, stored_values=True
)

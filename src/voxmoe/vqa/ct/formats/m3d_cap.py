"""M3D-Cap: a JSON file, split -> list of {"image", "text"}; a text is there, or is the path of a text file."""

from collections.abc import Iterator
from pathlib import Path

from voxmoe.errors import DatasetError
from voxmoe.files import inside
from voxmoe.vocabulary import CTTask
from voxmoe.vqa.ct.exchange import REPORT_PROMPT, Exchange
from voxmoe.vqa.ct.formats.form import Format, Terms
from voxmoe.vqa.ct.formats.m3d_vqa import case_of
from voxmoe.vqa.ct.formats.tables import Row, read_json

NAME = "m3d-cap"
SPLITS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
"""As the file calls them -> as we do."""


def rows(path: Path) -> Iterator[Row]:
    content = read_json(path)
    found = [name for name in SPLITS if isinstance(content, dict) and isinstance(content.get(name), list)]
    if not found:
        told = f"the keys {', '.join(content)}" if isinstance(content, dict) else f"a {type(content).__name__}"
        raise DatasetError(f"{path}: holds {told}; lists under some of {', '.join(SPLITS)} are needed")
    for name in [name for name in content if name not in SPLITS]:
        yield Row(f"{path.name}:{name}", name, {}, broken=f"is no split; those are {', '.join(SPLITS)}")
    for name in found:
        for number, entry in enumerate(content[name]):
            place, id = f"{path.name}:{name}[{number}]", f"{path.stem}/{name}/{number}"
            whole = isinstance(entry, dict) and all(isinstance(entry.get(key), str) for key in ("image", "text"))
            broken = None if whole else "has no image and text"
            yield Row(place, id, entry if whole else {}, SPLITS[name], broken)


def _text(cell: str, images: Path) -> str:
    if not cell.endswith(".txt"):
        return cell.strip()
    path = inside(images, cell)
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise DatasetError(f"{cell}: no such file in {images}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{cell}: cannot be read as text ({error})") from None


def exchanges(row: Row, terms: Terms) -> Iterator[Exchange]:
    image = terms.place(row.cells["image"])
    text = _text(row.cells["text"], terms.images)
    yield Exchange(f"{NAME}/{row.id}", NAME, image, case_of(image), CTTask.REPORT, "report", REPORT_PROMPT, text)


M3D_CAP = Format(NAME, "reports about M3D's arrays (JSON)", rows, exchanges)

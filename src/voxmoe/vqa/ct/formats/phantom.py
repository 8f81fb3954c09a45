"""CT phantoms as `voxmoe phantom OUT --ct` writes them: truth.jsonl, with the volumes and masks beside it.

Patients are named by seed and number, so that those of two cohorts are not taken for one.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from voxmoe.imaging.torso.cohort import mask_path, read_truths, volume_path
from voxmoe.imaging.volume import read_mask
from voxmoe.vqa.ct.asking import exchanges_of, slice_exchanges
from voxmoe.vqa.ct.exchange import Exchange
from voxmoe.vqa.ct.formats.form import Format, Terms
from voxmoe.vqa.ct.formats.tables import Row

SLICES = 16
"""Slices of a volume that are asked about by themselves."""
_SEED = 0
"""Of wordings and choices; volumes differ by their own seeds."""


def rows(path: Path) -> Iterator[Row]:
    folder = path.parent if path.is_file() else path
    for number, truth in enumerate(read_truths(folder), 1):
        yield Row(f"{path.name}, line {number}", truth.id, {"truth": truth, "folder": folder})


def _placed(row: Row, terms: Terms) -> tuple[str, str]:
    """The image of a phantom, and its patient."""
    truth = row.cells["truth"]
    return terms.place(Path(volume_path(truth.id)).name), f"phantom-{truth.seed}-{truth.index:05d}"


def about_volumes(row: Row, terms: Terms) -> Iterator[Exchange]:
    yield from exchanges_of(row.cells["truth"], *_placed(row, terms), seed=_SEED)


def about_slices(row: Row, terms: Terms) -> Iterator[Exchange]:
    truth = row.cells["truth"]
    labels = read_mask(row.cells["folder"] / mask_path(truth.id)).data
    yield from slice_exchanges(truth, labels, *_placed(row, terms), seed=_SEED, per_volume=SLICES)


def _form(name: str, summary: str, said: Callable[[Row, Terms], Iterator[Exchange]]) -> Format:
    return Format(name, summary, rows, said)


PHANTOM = _form("phantom", "questions and reports about CT phantoms (truth.jsonl)", about_volumes)
PHANTOM_SLICES = _form("phantom-slices", "the same about single slices, to pretrain a 2D model", about_slices)

"""BIDS datasets -> the files of each study: one a subject and session.

sub-XX[/ses-YY]/anat/sub-XX[_ses-YY][_KEY-VALUE..]_{T1w,T2w,FLAIR}.nii.gz are its images, a T1w with `ce-` the T1Gd.
Masks are *_dseg.nii.gz, or *_label-lesion_mask.nii.gz, in the same folders or in those of derivatives/PIPELINE; the
dseg.tsv that goes with a mask, by BIDS's principle of inheritance, says what its values mean.
"""

import csv
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from voxmoe.errors import LabelError, StudyError
from voxmoe.imaging.label_tables import Table, table_profile
from voxmoe.imaging.namings import ROLES
from voxmoe.imaging.places import Place, claim
from voxmoe.imaging.spaces import MNI152
from voxmoe.imaging.study import StudyFiles
from voxmoe.vocabulary import Modality, Profile

_NAME = re.compile(r"(?P<entities>sub-[a-z0-9]+(_[a-z]+-[a-z0-9+]+)*)_(?P<suffix>[a-z0-9]+)\.nii(\.gz)?", re.IGNORECASE)
_SUBJECT = re.compile(r"sub-[a-z0-9]+", re.IGNORECASE)
_OF_A_SUBJECT = re.compile(r"sub-.+|ses-.+|anat", re.IGNORECASE)
_ANAT = ("sub-*/anat", "sub-*/ses-*/anat")
_DERIVATIVES = "derivatives"
_TABLE = "dseg.tsv"


@dataclass(frozen=True)
class _File:
    """An image or a mask: the entities of its name, {"sub": "01", "ce": "gadolinium"}, and its suffix."""

    path: Path
    entities: dict[str, str]
    suffix: str

    @property
    def study(self) -> str:
        """sub-XX, or sub-XX_ses-YY."""
        return "_".join(f"{key}-{self.entities[key]}" for key in ("sub", "ses") if key in self.entities)

    @property
    def space(self) -> str | None:
        return self.entities.get("space")

    @property
    def modality(self) -> Modality | None:
        modality = ROLES.get(self.suffix.lower())
        return Modality.T1GD if modality is Modality.T1 and "ce" in self.entities else modality

    @property
    def is_lesion(self) -> bool:
        return self.suffix == "mask" and self.entities.get("label", "").lower() == "lesion"

    @property
    def is_mask(self) -> bool:
        return self.suffix == "dseg" or self.is_lesion


def _parse(path: Path) -> _File | None:
    match = _NAME.fullmatch(path.name)
    if match is None:
        return None
    entities = dict(part.split("-", 1) for part in match["entities"].split("_"))
    return _File(path, entities, match["suffix"])


def is_bids(folder: Path) -> bool:
    return any(True for pattern in _ANAT for _ in folder.glob(pattern))


def dataset_around(folder: Path) -> Path | None:
    """The dataset that a folder sub-XX, or one below it, is part of."""
    for part in (folder, *folder.parents):
        if _SUBJECT.fullmatch(part.name) and is_bids(part.parent):
            return part.parent
        if not _OF_A_SUBJECT.fullmatch(part.name):
            break
    return None


def _files(dataset: Path) -> Iterator[_File]:
    for folder in sorted(folder for pattern in _ANAT for folder in dataset.glob(pattern)):
        yield from filter(None, map(_parse, sorted(folder.iterdir())))


def _mask_roots(dataset: Path) -> list[Path]:
    """Where the masks of a dataset can lie; those of a derivative also beside it, in other derivatives."""
    own = sorted(dataset.glob(f"{_DERIVATIVES}/*"))
    beside = sorted(dataset.parent.iterdir()) if dataset.parent.name == _DERIVATIVES else []
    return [dataset, *own, *(folder for folder in beside if folder != dataset)]


def _mask_of(study: str, masks: list[_File], images: list[_File]) -> Path | None:
    """The one mask of a study: of several, the one in the space of the images."""
    spaces = {image.space for image in images}
    fitting = [mask for mask in masks if mask.space in spaces] or masks
    if len(fitting) > 1:
        names = " and ".join(str(mask.path) for mask in fitting)
        raise StudyError(f"{names} both claim to be the mask of {study}; keep one of them")
    return fitting[0].path if fitting else None


def _standard_space(images: list[_File]) -> str | None:
    """MNI152 where the names of all images say so (MNI152NLin6Asym, MNI152NLin2009cAsym)."""
    return MNI152.name if all((image.space or "").startswith(MNI152.name) for image in images) else None


def _table_folders(mask: Path) -> Iterator[Path]:
    """The folders whose tables a mask inherits: its own, its subject's, its dataset's."""
    for folder in mask.absolute().parents:
        yield folder
        if not _OF_A_SUBJECT.fullmatch(folder.name):
            return


def _table_file(mask: Path) -> Path | None:
    """The nearest dseg.tsv whose name says nothing that the mask's does not; of several, the one that says most."""
    said = set(mask.name.split("_"))
    for folder in _table_folders(mask):
        fitting = [path for path in folder.glob(f"*{_TABLE}") if {*path.name.split("_")[:-1]} <= said]
        if fitting:
            return max(fitting, key=lambda path: (len(path.name), path.name))
    return None


def _read_table(path: Path) -> Table:
    table: dict[str, tuple[int, ...]] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = csv.DictReader(stream, delimiter="\t")
            columns = rows.fieldnames or []
            if not {"index", "name"} <= set(columns):
                raise LabelError(f"{path}: has the columns {', '.join(columns) or 'none'}; index and name are needed")
            for row in rows:
                name, index = str(row["name"] or f"label {row['index']}"), int(row["index"])
                table[name] = (*table.get(name, ()), index)
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise LabelError(f"{path}: is no table of label values (index, a whole number) and names: {error}") from None
    return table


def labels_of(mask: Path) -> Profile | None:
    """What the values of a mask mean, None if nothing says it; raises `LabelError` if its table is broken."""
    *_, root = _table_folders(mask)
    name = f"bids:{root.parent.parent.name if root.parent.name == _DERIVATIVES else root.name}"
    if (parsed := _parse(mask)) and parsed.is_lesion:
        return table_profile(name, {"lesion": (1,)}, mask)
    table = _table_file(mask)
    return table_profile(name, _read_table(table), table) if table else None


def _study(name: str, images: list[_File], masks: list[_File], chosen: Profile | None) -> StudyFiles:
    places: dict[Modality, Place] = {}
    for image in images:
        assert image.modality is not None
        claim(places, image.modality, image.path, f"the {image.modality} image of {name}")
    mask = _mask_of(name, masks, images)
    profile = chosen or (labels_of(mask) if mask else None)
    patient = f"sub-{images[0].entities['sub']}"
    return StudyFiles(name, patient, places, mask, profile, space=_standard_space(images))


def studies_of(dataset: Path, chosen: Profile | None) -> list[StudyFiles]:
    """The studies of a BIDS dataset. Without a `chosen` profile the tables of its masks say what their labels mean.

    Raises `StudyError` if two files claim one role, `LabelError` for a table that is none.
    """
    images, masks = defaultdict(list), defaultdict(list)
    for file in _files(dataset):
        if file.modality is not None:
            images[file.study].append(file)
    for root in _mask_roots(dataset):
        for file in _files(root):
            if file.is_mask:
                masks[file.study].append(file)
    return [_study(name, own, masks[name], chosen) for name, own in images.items()]

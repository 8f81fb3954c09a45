"""The formats of CT questions and reports, by name: published ones, own data, phantoms. Each is one entry here."""

from types import MappingProxyType

from voxmoe.errors import DatasetError
from voxmoe.vqa.ct.formats.ct_rate import CT_RATE
from voxmoe.vqa.ct.formats.form import Format
from voxmoe.vqa.ct.formats.m3d_cap import M3D_CAP
from voxmoe.vqa.ct.formats.m3d_vqa import M3D_VQA
from voxmoe.vqa.ct.formats.own import OWN
from voxmoe.vqa.ct.formats.phantom import PHANTOM, PHANTOM_SLICES
from voxmoe.vqa.ct.formats.rad3d import RAD3D
from voxmoe.vqa.ct.formats.radgenome import RADGENOME

_ALL = (M3D_VQA, M3D_CAP, CT_RATE, RADGENOME, RAD3D, OWN, PHANTOM, PHANTOM_SLICES)
FORMATS = MappingProxyType({form.name: form for form in _ALL})


def format_named(name: str) -> Format:
    """Raises `DatasetError` for a name that is none."""
    if name not in FORMATS:
        raise DatasetError(f"no format is called {name!r}; there are {', '.join(FORMATS)}")
    return FORMATS[name]

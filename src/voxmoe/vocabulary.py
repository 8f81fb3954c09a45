"""Modalities, label schemas, tasks and answer categories: the one source that everything else reads.

Pure data. Class 0 of every encoding means "not asked" (mpLLM, section 3.2.1 and Tables 6-8).
"""

from dataclasses import dataclass, field
from enum import StrEnum
from itertools import combinations
from types import MappingProxyType


class Modality(StrEnum):
    """The image modalities of multiparametric brain MRI, in the order of every array's modality axis."""

    T1 = "T1"
    T1GD = "T1Gd"
    T2 = "T2"
    FLAIR = "FLAIR"


class Task(StrEnum):
    """What can be asked about a label, in the order in which the paper lists the tasks."""

    VOLUME = "volume"
    REGION = "region"
    SHAPE = "shape"
    SPREAD = "spread"


MPLLM, TGH_MOE = "mpllm", "tgh-moe"
"""The two systems, as recipes and the configurations of models name them."""


class CTTask(StrEnum):
    """What a model is asked for about a CT: the groups between which TGH-MoE's task router chooses."""

    REPORT = "report"
    CLOSED = "closed"
    OPEN = "open"


class Kind(StrEnum):
    """How a question relates to what the model can answer."""

    IN_SCOPE = "in-scope"
    PARTIAL = "partially-out-of-scope"
    OUT_OF_SCOPE = "out-of-scope"


NOT_ASKED = "not asked"
ABSENT = "N/A"
NO_REGION = "no labelled region"

VOLUME_BINS = ("<1%", "1-5%", "5-10%", "10-25%", "25-50%", "50-75%")
REGIONS = (
    "frontal",
    "parietal",
    "occipital",
    "temporal",
    "limbic",
    "insula",
    "subcortical",
    "cerebellum",
    "brainstem",
)
SHAPES = ("focus", "round", "oval", "elongated", "irregular")
SPREADS = ("single lesion", "core with satellite lesions", "scattered lesions")

CLASSES = MappingProxyType(
    {
        Task.VOLUME: (NOT_ASKED, ABSENT, *VOLUME_BINS),
        Task.REGION: (*REGIONS, ABSENT, NOT_ASKED),
        Task.SHAPE: (NOT_ASKED, ABSENT, *SHAPES),
        Task.SPREAD: (NOT_ASKED, ABSENT, *SPREADS),
    }
)
"""The classes of each head. Volume, shape and spread are exclusive; the entries of region are independent."""

EXCLUSIVE_TASKS = (Task.VOLUME, Task.SHAPE, Task.SPREAD)
TASK_COMBINATIONS = tuple(
    combination for size in range(1, len(Task) + 1) for combination in combinations(tuple(Task), size)
)
"""The 15 non-empty subsets of the four tasks, in the order of the paper's Appendix A."""


@dataclass(frozen=True)
class Label:
    """One label of a segmentation mask: its value in the file, its short key and its name in questions."""

    value: int
    key: str
    name: str
    also: tuple[int, ...] = ()
    """Further values that it covers, where a dataset counts several to one label: such labels can overlap."""

    @property
    def values(self) -> tuple[int, ...]:
        return (self.value, *self.also)


@dataclass(frozen=True)
class Profile:
    """What one release of a dataset calls things: its labels, its modalities and its other names."""

    name: str
    summary: str
    labels: tuple[Label, ...]
    modalities: tuple[Modality, ...] = tuple(Modality)
    aliases: tuple[str, ...] = ()
    labels_from: str | None = None
    """The file in which each dataset of this kind says what its label values mean; None: the release says it."""
    by_value: MappingProxyType[int, Label] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_value = {value: label for label in self.labels for value in label.values}
        object.__setattr__(self, "by_value", MappingProxyType(by_value))

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(label.key for label in self.labels)


_TUMOUR_4 = (
    Label(1, "NCR", "Necrotic and Non-Enhancing Tumor Core"),
    Label(2, "ED", "Peritumoral Edema"),
    Label(4, "ET", "Enhancing Tumor"),
)
_TUMOUR_3 = (*_TUMOUR_4[:2], Label(3, "ET", "Enhancing Tumor"))
_TREATED = (
    Label(1, "NETC", "Non-Enhancing Tumor"),
    Label(2, "SNFH", "Surrounding Non-enhancing FLAIR hyperintensity"),
    Label(3, "ET", "Enhancing Tissue"),
    Label(4, "RC", "Resection Cavity"),
)

PROFILES = (
    Profile("gli-2024", "BraTS 2024 adult glioma, post-treatment", _TREATED, aliases=("gli",)),
    Profile("met-2024", "BraTS 2023/2024 brain metastases", _TREATED[:3], aliases=("met", "met-2023")),
    Profile(
        "goat-2024",
        "BraTS 2024 generalisability across tumours",
        (
            Label(1, "NCR", "Necrosis"),
            Label(2, "ED", "Edema/Invaded Tissue"),
            Label(3, "ET", "Enhancing Tumor"),
        ),
        aliases=("goat",),
    ),
    Profile("brats-2018", "BraTS 2017/2018 pre-operative glioma", _TUMOUR_4, aliases=("brats-2017",)),
    Profile("brats-2019", "BraTS 2019 pre-operative glioma", _TUMOUR_4),
    Profile("brats-2020", "BraTS 2020 pre-operative glioma", _TUMOUR_4),
    Profile("brats-2021", "BraTS 2021 pre-operative glioma", _TUMOUR_4),
    Profile("gli-2023", "BraTS 2023 adult glioma, pre-operative", _TUMOUR_3),
    Profile("met-2025", "BraTS 2025 brain metastases, before and after treatment", _TREATED),
    Profile(
        "ped-2023",
        "BraTS 2023 paediatric tumours",
        (
            Label(1, "NC", "Non-Enhancing Component"),
            Label(2, "ED", "Peritumoral Edema"),
            Label(3, "ET", "Enhancing Tumor"),
        ),
    ),
    Profile(
        "ped-2024",
        "BraTS 2024/2025 paediatric tumours",
        (
            Label(1, "ET", "Enhancing Tumor"),
            Label(2, "NET", "Non-Enhancing Tumor"),
            Label(3, "CC", "Cystic Component"),
            Label(4, "ED", "Peritumoral Edema"),
        ),
        aliases=("ped-2025",),
    ),
    Profile("ssa-2023", "BraTS 2023/2024 Sub-Saharan Africa glioma", _TUMOUR_3, aliases=("ssa-2024",)),
    Profile("men-2023", "BraTS 2023 meningioma, pre-operative", _TUMOUR_3),
    Profile(
        "men-rt-2024",
        "BraTS 2024 meningioma radiotherapy",
        (Label(1, "GTV", "Gross Tumor Volume"),),
        modalities=(Modality.T1GD,),
    ),
    Profile(
        "msd-task01",
        "Medical Segmentation Decathlon, Task01 brain tumour",
        (
            Label(1, "ED", "Edema"),
            Label(2, "NET", "Non-Enhancing Tumor"),
            Label(3, "ET", "Enhancing Tumor"),
        ),
    ),
    Profile(
        "nnunet",
        "nnU-Net raw data; these labels are those of its phantoms",
        (
            Label(1, "ED", "Peritumoral Edema"),
            Label(2, "NCR", "Necrotic and Non-Enhancing Tumor Core"),
            Label(3, "ET", "Enhancing Tumor"),
        ),
        labels_from="dataset.json",
    ),
    Profile(
        "bids",
        "a BIDS dataset; these labels are those of its phantoms",
        _TUMOUR_3,
        labels_from="dseg.tsv",
    ),
)
"""Every known profile. A value's meaning comes from the profile, never from the value: 4 is enhancing tumour in
`brats-2021`, the resection cavity in `gli-2024` and oedema in `ped-2024`."""

PROFILES_BY_NAME = MappingProxyType(
    {name: profile for profile in PROFILES for name in (profile.name, *profile.aliases)}
)

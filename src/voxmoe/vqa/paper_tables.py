"""What the paper says of its three datasets: its Table 1, its splits (section 4.1) and its Tables 6-8. Pure data.

Frequencies are in percent of all questions, as printed. A class that the paper does not list is not in here. The
paper's "Unspecified" is `NOT_ASKED`. Its N/A of region is higher than that of the other tasks of the same dataset, so
it seems to hold what is `NO_REGION` here; no row of its own is given for that. The shapes of MET add up to 111 % in
print. Where a table's row names slipped by a line ("Out-of-scope" beside "scattered lesions"), figures are kept with
their labels.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from voxmoe.vocabulary import ABSENT, NOT_ASKED

OUT_OF_SCOPE = "out of scope"
IN_SCOPE = "not out of scope"


@dataclass(frozen=True)
class PaperDataset:
    """One dataset of the paper: its counts, and the percentage frequency of each class of each task."""

    name: str
    table: int
    """The number of its table of frequencies."""
    questions: int
    studies: int
    unique_questions: int
    unique_answers: int
    splits: Mapping[str, int]
    frequencies: Mapping[str, Mapping[str, float]]


GLI = PaperDataset(
    name="GLI",
    table=6,
    questions=38_904,
    studies=1_621,
    unique_questions=38_023,
    unique_answers=36_773,
    splits={"train": 31_104, "validation": 4_176, "test": 3_624},
    frequencies={
        "volume": {NOT_ASKED: 52.4, ABSENT: 13.1, "<1%": 20.3, "1-5%": 11.9, "5-10%": 2.1, "10-25%": 0.2},
        "region": {
            NOT_ASKED: 53.2,
            ABSENT: 15.8,
            "frontal": 20.8,
            "parietal": 18.7,
            "occipital": 7.3,
            "temporal": 11.9,
            "limbic": 13.7,
            "insula": 5.8,
            "subcortical": 7.8,
            "cerebellum": 2.1,
            "brainstem": 4.2,
        },
        "shape": {
            NOT_ASKED: 52.4,
            ABSENT: 13.2,
            "focus": 0.1,
            "round": 2.5,
            "oval": 5.8,
            "elongated": 1.2,
            "irregular": 24.9,
        },
        "spread": {
            NOT_ASKED: 53.4,
            ABSENT: 13.0,
            "single lesion": 6.6,
            "core with satellite lesions": 23.2,
            "scattered lesions": 3.8,
        },
        OUT_OF_SCOPE: {IN_SCOPE: 66.6, OUT_OF_SCOPE: 33.3},
    },
)
MET = PaperDataset(
    name="MET",
    table=7,
    questions=11_718,
    studies=651,
    unique_questions=11_607,
    unique_answers=11_284,
    splits={"train": 9_090, "validation": 1_368, "test": 1_260},
    frequencies={
        "volume": {NOT_ASKED: 51.8, ABSENT: 10.2, "<1%": 28.5, "1-5%": 7.0, "5-10%": 2.1, "10-25%": 0.4},
        "region": {
            NOT_ASKED: 53.0,
            ABSENT: 18.0,
            "frontal": 19.1,
            "parietal": 15.8,
            "occipital": 14.2,
            "temporal": 14.3,
            "limbic": 9.1,
            "insula": 6.2,
            "subcortical": 7.2,
            "cerebellum": 12.5,
            "brainstem": 4.0,
        },
        "shape": {
            NOT_ASKED: 51.4,
            ABSENT: 10.0,
            "focus": 12.2,
            "round": 7.9,
            "oval": 4.9,
            "elongated": 0.4,
            "irregular": 24.2,
        },
        "spread": {
            NOT_ASKED: 53.1,
            ABSENT: 9.6,
            "single lesion": 6.4,
            "core with satellite lesions": 17.2,
            "scattered lesions": 13.7,
        },
        OUT_OF_SCOPE: {IN_SCOPE: 66.6, OUT_OF_SCOPE: 33.3},
    },
)
GOAT = PaperDataset(
    name="GoAT",
    table=8,
    questions=24_318,
    studies=1_351,
    unique_questions=23_859,
    unique_answers=23_223,
    splits={"train": 19_440, "validation": 2_430, "test": 2_448},
    frequencies={
        "volume": {NOT_ASKED: 52.2, ABSENT: 2.4, "<1%": 18.8, "1-5%": 21.2, "5-10%": 4.8, "10-25%": 0.6},
        "region": {
            NOT_ASKED: 52.9,
            ABSENT: 2.5,
            "frontal": 29.9,
            "parietal": 23.4,
            "occipital": 17.4,
            "temporal": 29.6,
            "limbic": 29.7,
            "insula": 25.8,
            "subcortical": 27.9,
            "cerebellum": 9.8,
            "brainstem": 8.0,
        },
        "shape": {
            NOT_ASKED: 51.9,
            ABSENT: 2.4,
            "focus": 0.3,
            "round": 3.2,
            "oval": 2.7,
            "elongated": 0.4,
            "irregular": 39.1,
        },
        "spread": {
            NOT_ASKED: 53.3,
            ABSENT: 2.2,
            "single lesion": 5.2,
            "core with satellite lesions": 35.6,
            "scattered lesions": 3.7,
        },
        OUT_OF_SCOPE: {IN_SCOPE: 66.6, OUT_OF_SCOPE: 33.3},
    },
)
PAPER_DATASETS = {"gli-2024": GLI, "met-2024": MET, "goat-2024": GOAT}
"""By the profile that each was built from."""

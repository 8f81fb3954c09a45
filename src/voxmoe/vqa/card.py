"""The README.md of a dataset: what a reader and the Hugging Face Hub need to know, every figure computed.

The front matter names the files of each split, so that `datasets.load_dataset` reads the folder as it is. The licence
is that of the source images, which only the user knows: it is left open, and the card says so.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import yaml

from voxmoe.files import write_bytes, write_json
from voxmoe.imaging.parcellations import LPBA40, PARCELLATIONS
from voxmoe.vocabulary import Task
from voxmoe.vqa.croissant import croissant
from voxmoe.vqa.dataset import SPLITS, Dataset
from voxmoe.vqa.statistics import statistics

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_COLUMNS = {
    "id": "the study's name and the question's number",
    "study, patient": "which examination, and whose; the split is by patient",
    "label, label_name": "the label that is asked about: its key in the release, its name in the question",
    "kind, topic": "whether it can be answered from the images; what the rest is about, if known",
    "tasks": "which of volume, region, shape and spread are asked",
    "question, answer": "the text",
    "volume, region, shape, spread": 'the answer in categories; "not asked" (an empty list of regions) where not asked',
    "targets": "the same as class numbers, 0 for not asked; region as zeros and ones",
    "images, mask": "paths of the source files below the folder of the cohort, null where there is none; `FILE#2` is "
    "channel 2 (from 0) of a 4D file",
    "draw": "seed, source of the wordings and numbers of the wording, from which the row can be rebuilt",
}


def _size(questions: int) -> str:
    return next((name for limit, name in _SIZES if questions < limit), "n>1M")


def _front_matter(dataset: Dataset, name: str, embedded: bool) -> dict[str, Any]:
    questions = dataset.manifest["questions"]
    places = {"default": "data/{}.parquet", **({"studies": "studies/{}-*.parquet"} if embedded else {})}
    configs = [
        {
            "config_name": config,
            "data_files": [{"split": split, "path": place.format(split)} for split in SPLITS if questions[split]],
        }
        for config, place in places.items()
    ]
    return {
        "pretty_name": name,
        "license": "other",
        "license_name": "as-the-source-images",
        "language": ["en"],
        "task_categories": ["visual-question-answering"],
        "tags": ["medical", "3d", "mri", "brain", "voxmoe", *dataset.manifest["profiles"]],
        "size_categories": [_size(sum(questions.values()))],
        "configs": configs,
    }


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def dataset_name(dataset: Dataset) -> str:
    return f"Brain MRI questions: {', '.join(dataset.manifest['profiles'])}"


def _examples(found: dict[str, dict[str, str]]) -> str:
    lines = []
    for kind, example in found.items():
        lines += [f"- {kind}", f"  - Q: {example['question']}", f"  - A: {example['answer']}"]
    return "\n".join(lines)


def _splits(figures: dict[str, Any]) -> str:
    columns = ("questions", "studies", "patients", "unique_questions", "unique_answers")
    rows = [(split, *(f"{own[column]:,}" for column in columns)) for split, own in figures["splits"].items()]
    rows.append(("all", *(f"{figures[column]:,}" for column in columns)))
    return _table(("split", *(column.replace("_", " ") for column in columns)), rows)


def _frequencies(figures: dict[str, Any], task: str) -> str:
    return ", ".join(f"{name} {percent:.1f}" for name, percent in figures["frequencies"][task].items() if percent)


def _rules(manifest: dict[str, Any]) -> str:
    """What decided the answers: the protocol's rules, and the atlases with their licences."""
    rules = [f"{name.replace('_', ' ')} {value}" for name, value in manifest["protocol"].items() if value is not None]
    licences = {known.name: known.licence for known in (*PARCELLATIONS.values(), LPBA40)}
    atlases = [f"- region atlas `{name}`: {licences[name]}" for name in manifest["atlas"]]
    return "\n".join([f"- protocol: {', '.join(rules)}", *atlases])


def _wordings(source: str) -> str:
    kind, _, digest = source.partition(":")
    if kind == "grammar":
        return f"wordings of VoxMoE's own grammar (edition {digest})"
    return "wordings from a file, meta/wordings.jsonl"


def dataset_card(dataset: Dataset, embedded: bool = False) -> str:
    """The text of README.md: YAML front matter, then what is in the dataset and how it was made.

    `embedded`: the images lie beside the questions, as `embedded.py` writes them.
    """
    manifest = dataset.manifest
    figures = statistics(dataset)
    name = dataset_name(dataset)
    front = yaml.safe_dump(_front_matter(dataset, name, embedded), sort_keys=False, allow_unicode=True)
    profiles, atlases = (", ".join(f"`{one}`" for one in manifest[key]) for key in ("profiles", "atlas"))
    left_out = f"; {manifest['skipped']} could not be used (meta/skipped.json)" if manifest["skipped"] else ""
    images = (
        'The images and masks are the configuration "studies", one row a study.'
        if embedded
        else "The images are not part of the dataset: its rows name them."
    )
    frequencies = "\n".join(f"- {task}: {_frequencies(figures, task)}" for task in map(str, Task))
    return f"""---
{front}---

# {name}

{figures["questions"]:,} questions with answers about {figures["studies"]:,} brain MRI studies of \
{figures["patients"]:,} patients. Volume, region, shape and spread of each label were measured on segmentation masks \
and put into words, after the protocol of mpLLM (Vepa et al., 2025, arXiv 2509.25889). A third of the questions ask, \
in part or only, for what cannot be told from the images, and are answered so. {images}

Not for clinical use: the answers are derived from masks by rules and were not read by a physician.

{_splits(figures)}

## Columns

{_table(("column", "meaning"), _COLUMNS.items()).replace("---:", "---")}

## Examples

{_examples(figures["examples"])}

## Answers

In percent of all questions; several regions can be named at once.

{frequencies}

## Rules

{_rules(manifest)}

## How it was made

`voxmoe build` {manifest["voxmoe"]}, seed {manifest["seed"]}, protocol `{manifest["protocol"]["name"]}`, region atlas \
{atlases}, labels of {profiles}, {_wordings(manifest["wordings"])}, question types by the weights \
`{manifest["type_weights"]["name"]}`. {manifest["studies"]:,} studies were used{left_out}. Splits are by patient. The \
same cohort, protocol, wordings, weights and seed give the same files. meta/studies.json holds each study's findings \
and the sha256 of its files; `voxmoe stats` prints these figures beside the paper's, `voxmoe audit` looks for leakage.

## Licence

The questions are derived from the masks, so the licence of the source images and masks applies. Name it here, and in \
`license` above, before you publish; keep to it when you share images.
"""


def write_card(dataset: Dataset) -> None:
    """Write README.md and croissant.json into the dataset's folder."""
    write_bytes(dataset.root / "README.md", dataset_card(dataset).encode())
    write_json(dataset.root / "croissant.json", croissant(dataset, dataset_name(dataset)))

"""Which versions, model and dataset an evaluation is of."""

import json
import platform
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers.utils import SAFE_WEIGHTS_NAME

from voxmoe import __version__
from voxmoe.evaluation.results import Record
from voxmoe.files import sha256
from voxmoe.model import consensus
from voxmoe.model.mpllm import MpLLM
from voxmoe.model.weights import find_beside
from voxmoe.vqa.dataset import Dataset

_MODEL_FILES = ("config.json", SAFE_WEIGHTS_NAME, consensus.FILE)
"""Of which the last is there only where heads and measurement were reconciled."""


def versions() -> Record:
    return {
        "voxmoe": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "numpy": np.__version__,
    }


def model_files(place: Path | str) -> dict[str, str]:
    """Hashes of the files that decide what a model says."""
    return {name: sha256(found) for name in _MODEL_FILES if (found := find_beside(place, name)) is not None}


def dataset_files(root: Path) -> dict[str, str]:
    """Hashes of a dataset's files."""
    return {path.name: sha256(path) for path in sorted((root / "data").glob("*.parquet"))}


def model_record(place: Path | str, model: MpLLM) -> Record:
    """Which model it is: hashes of its files, its parts, and the hashes of the datasets that it was trained on."""
    training = Path(place) / "manifest.json"
    return {
        "place": str(place),
        "sha256": model_files(place),
        "profiles": list(model.settings.profiles),
        "connector": None if model.settings.vision is None else model.settings.connector.model_dump(mode="json"),
        "language": model.settings.language.model_dump(mode="json"),
        "trained_on": json.loads(training.read_text()).get("datasets") if training.is_file() else None,
    }


def dataset_record(dataset: Dataset) -> Record:
    """Which dataset it is: hashes of its files, and how it was built."""
    manifest = dataset.manifest
    return {
        "place": str(dataset.root),
        "sha256": dataset_files(dataset.root),
        "profiles": manifest["profiles"],
        "protocol": manifest["protocol"]["name"],
        "atlas": manifest["atlas"],
        "seed": manifest["seed"],
        "voxmoe": manifest["voxmoe"],
    }

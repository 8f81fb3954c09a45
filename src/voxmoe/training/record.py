"""What a run is known again by, and what it leaves behind.

OUT/recipe.yaml      what was asked for
OUT/manifest.json    with which data, versions and seeds it was done; written last
OUT/checkpoints/     where a run that was interrupted goes on; removed at the end
"""

import json
import os
import platform
from pathlib import Path
from shutil import rmtree
from typing import Any

import torch
import transformers
import yaml
from pydantic import ValidationError
from torch import nn

from voxmoe import __version__
from voxmoe.default import model_at
from voxmoe.files import sha256, write_bytes, write_json
from voxmoe.model import consensus
from voxmoe.model.own_weights import weights_file
from voxmoe.model.weights import find_weights
from voxmoe.training import memory
from voxmoe.training.processes import Processes
from voxmoe.training.recipe import RunRecipe


def checkpoints(recipe: RunRecipe) -> Path:
    """The folder of a run's checkpoints."""
    return recipe.out / "checkpoints"


def _parts(recipe: RunRecipe) -> dict[str, str]:
    """The bytes of weights on this machine that parts of the model come with. Those of the hub are known by name."""
    model = getattr(recipe, "model", None)
    named = {part: getattr(getattr(model, part, None), "weights", None) for part in ("vision", "grounding")}
    found = {
        part: sha256(find_weights(weights))
        for part, weights in named.items()
        if weights is not None and model_at(Path(weights).expanduser()).exists()
    }
    base = getattr(model, "base", None)  # of a reader: a 2D model by name, or one around a language model
    models = {"language": getattr(model, "language", None), "base": getattr(base, "language", base)}
    for part, settings in models.items():
        if settings is not None and Path(settings.name).is_dir():
            files = sorted(Path(settings.name).glob("*.safetensors"))
            found |= {f"{part} {file.name}": sha256(file) for file in files}
    return found


def terms(recipe: RunRecipe) -> dict[str, Any]:
    """What a run is known again by: its recipe, the bytes of its datasets, and of the weights that it starts from, as a
    whole or in parts."""
    files = [sorted((data / "data").glob("*.parquet")) for data in recipe.data]
    datasets = [{file.name: sha256(file) for file in found} for found in files]
    found = {"recipe": recipe.model_dump(mode="json"), "datasets": datasets}
    if parts := _parts(recipe):
        found["parts"] = parts
    return found | ({"start": sha256(Path(weights_file(recipe.start)))} if recipe.start is not None else {})


def _is_known(path: Path, recipe: RunRecipe) -> bool:
    """Whether the terms in a file are those of a run, wherever things lie; a setting that came after they were written
    has its default in them."""
    if not path.is_file():
        return False
    record, wanted = json.loads(path.read_text()), terms(recipe)
    try:
        asked = type(recipe).model_validate(record.get("recipe"))
    except ValidationError:
        return False
    kept = {name: record.get(name) for name in wanted} | {"recipe": _decided(asked)}
    return bool(kept == wanted | {"recipe": _decided(recipe)})


def _decided(recipe: RunRecipe) -> dict[str, Any]:
    """What of a recipe decides a run. Where data, output and start lie does not, however it is spelled: what lies there
    is told by its bytes."""
    return recipe.model_dump(mode="json", exclude={"data", "out", "start"}) | {"starts": recipe.start is not None}


def is_finished(recipe: RunRecipe) -> bool:
    """Whether the recipe's run has ended with this very recipe and dataset."""
    return _is_known(recipe.out / "manifest.json", recipe)


def begin(recipe: RunRecipe, processes: Processes) -> None:
    """Keep what an interrupted run of the same recipe and dataset has left, and remove what another one has."""
    if processes.first:
        kept = checkpoints(recipe) / "run.json"
        if not _is_known(kept, recipe):
            rmtree(checkpoints(recipe), ignore_errors=True)
            (recipe.out / "manifest.json").unlink(missing_ok=True)  # what lies here now is not whole
            (recipe.out / consensus.FILE).unlink(missing_ok=True)  # it was learnt for other weights
            write_json(kept, terms(recipe))
    processes.wait()


def finish(recipe: RunRecipe, processes: Processes, model: nn.Module, steps: int, seconds: float, **more: Any) -> None:
    """Write recipe and manifest of a run whose model is saved, and remove its checkpoints; `more` is told, too."""
    dumped = recipe.model_dump(mode="json")
    write_bytes(recipe.out / "recipe.yaml", yaml.safe_dump(dumped, sort_keys=False).encode())
    write_json(
        recipe.out / "manifest.json",
        {
            "voxmoe": __version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
            "processes": processes.count,
            "threads": torch.get_num_threads(),
            "precision": "bf16" if recipe.fit.bf16 else "fp32",
            "cores": os.cpu_count(),
            **terms(recipe),
            "steps": steps,
            **more,
            "trained_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
            "seconds": round(seconds, 1),
            # While it was fitted, since it went on if it was interrupted, of the first process.
            "peak_bytes": {"machine": memory.peak(), "gpu": memory.gpu_peak()},
        },
    )
    rmtree(checkpoints(recipe))

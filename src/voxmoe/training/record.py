"""What a run is known again by, and what it leaves behind.

OUT/recipe.yaml      what was asked for
OUT/manifest.json    with which data, versions and seeds it was done; written last
OUT/checkpoints/     where a run that was interrupted goes on; removed at the end
"""

import json
import logging
import os
import platform
from collections.abc import Mapping
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

_log = logging.getLogger(__name__)
_BYTES = {
    "datasets": "what lies in data",
    "parts": "the weights that parts of the model come with",
    "start": "the weights in start",
}
"""Terms that are hashes of files, and how they are called."""
_INDIFFERENT = {"save_steps", "report_to"}
"""Settings of a fit that change no number."""


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


def _decided(recipe: RunRecipe) -> dict[str, Any]:
    """What of a recipe decides a run. Where data, output and start lie does not, however it is spelled: what lies there
    is told by its bytes. Nor does what changes no number: its name, and how often it is saved and where it is shown."""
    told = recipe.model_dump(mode="json", exclude={"name": True, "data": True, "out": True, "fit": _INDIFFERENT})
    return told | {"start": None if recipe.start is None else "given"}


def apart(before: Any, now: Any, name: str = "") -> list[str]:
    """Where two trees of settings differ: the dotted keys, below `name`, each with what it was and what it is."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = {key: f"{name}.{key}" if name else key for key in before | now}
        return [line for key, below in keys.items() for line in apart(before.get(key), now.get(key), below)]
    return [] if before == now else [f"{name} {json.dumps(before)} -> {json.dumps(now)}"]


def _differences(path: Path, recipe: RunRecipe) -> list[str]:
    """What sets the terms in a file apart from those of a run, wherever things lie; a setting that came after they were
    written has its default in them."""
    try:
        record = dict(json.loads(path.read_text()))
    except (ValueError, TypeError):
        return [f"its record, as {path} is damaged"]
    wanted = terms(recipe)
    try:
        asked = type(recipe).model_validate(record.get("recipe"))
    except ValidationError:
        return ["its recipe, which this version cannot read as one of this system"]
    files = [what for name, what in _BYTES.items() if name in wanted and record.get(name) != wanted[name]]
    return apart(_decided(asked), _decided(recipe)) + files


def _is_known(path: Path, recipe: RunRecipe) -> bool:
    """Whether the terms in a file are there and those of a run."""
    return path.is_file() and not _differences(path, recipe)


def is_finished(recipe: RunRecipe) -> bool:
    """Whether the recipe's run has ended, with all that decides it as it is in this recipe and dataset."""
    return _is_known(recipe.out / "manifest.json", recipe)


def _tell_removal(recipe: RunRecipe, records: Mapping[str, Path]) -> None:
    """Warn of what another run has left, by the file of its terms."""
    for what, path in records.items():
        if path.is_file() and (found := _differences(path, recipe)):
            _log.warning(
                "%s: this run replaces %s of another one, from which it differs in %s; give each run that is to be "
                "kept an out= of its own",
                recipe.out,
                what,
                ", ".join(found),
            )


def begin(recipe: RunRecipe, processes: Processes) -> None:
    """Keep what an interrupted run of the same recipe and dataset has left. Remove what another one has, and say in the
    log before that what sets it apart."""
    if processes.first:
        kept = checkpoints(recipe) / "run.json"
        if not _is_known(kept, recipe):
            _tell_removal(recipe, {"the checkpoints": kept, "the model": recipe.out / "manifest.json"})
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

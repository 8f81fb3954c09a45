"""A whole run of pretraining an eye on phantoms: from a recipe to a folder with the weights and their record.

    OUT/model.safetensors   the encoder (`encoder.`) and its decoder (`grounding.`)
    OUT/recipe.yaml         what was asked for
    OUT/manifest.json       versions, seed, time, and how the finished eye does on unseen phantoms
    OUT/training.jsonl      the loss of every step

A recipe of a model names OUT as `model.vision.weights` and `model.grounding.weights`.
"""

import hashlib
import json
import os
import platform
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import nn

from voxmoe import __version__
from voxmoe.files import sha256, write_bytes, write_json
from voxmoe.imaging.layouts import find_masks
from voxmoe.imaging.parts import Part
from voxmoe.imaging.phantoms import Masks
from voxmoe.model.devices import best_device
from voxmoe.model.encoder import start_encoder
from voxmoe.model.grounding import find_parts, start_grounding
from voxmoe.model.pyramid import PyramidEncoder
from voxmoe.training.eye import GroundedSight, Sample, Trainer
from voxmoe.training.log import TrainingLog
from voxmoe.training.recipe import EyeRecipe
from voxmoe.training.samples import seed_of
from voxmoe.training.studies import ahead
from voxmoe.training.subjects import Subjects
from voxmoe.training.tensors import is_intact, read_tensors, told, write_tensors

Report = Callable[[str, int, int], None]
_HELD_OUT = 1 << 20
"""What sets the seed of unseen phantoms apart from that of the training."""
CHECKPOINT = "checkpoint.safetensors"
WEIGHTS = "model.safetensors"


def _files_digest(folder: Path, profile: str | None) -> str:
    """What tells the masks of a folder, all together, from others, unread and wherever they lie."""
    digests = sorted(sha256(files.mask) for files in find_masks(folder, profile) if files.mask)
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def _terms(recipe: EyeRecipe) -> str:
    """What a run must have been made under to count, or to be gone on with."""
    decided = recipe.model_dump(mode="json", exclude={"name", "out", "held_out"})
    subjects, masks = decided["subjects"], recipe.subjects.masks
    # of masks their bytes count, not their place; without them nothing is said, so that older runs go on
    if masks is None:
        del subjects["masks"], subjects["masks_profile"]
    else:
        subjects["masks"] = _files_digest(masks, recipe.subjects.masks_profile)
    return json.dumps({"voxmoe": __version__, **decided}, sort_keys=True)


def is_pretrained(recipe: EyeRecipe) -> bool:
    """Whether the recipe's folder holds a finished eye of the same recipe."""
    weights, manifest = recipe.out / WEIGHTS, recipe.out / "manifest.json"
    return manifest.is_file() and is_intact(weights) and told(weights).get("terms") == _terms(recipe)


def _save(place: Path, trainer: Trainer, terms: str, losses: list[float]) -> None:
    tensors = {f"model.{name}": value for name, value in trainer.model.state_dict().items()}
    for name, weight in trainer.model.named_parameters():
        tensors |= {f"{kind}.{name}": value for kind, value in trainer.optimiser.state[weight].items()}
    tensors["losses"] = torch.tensor(losses, dtype=torch.float64)
    write_tensors(place, tensors, {"terms": terms})


def _resume(place: Path, trainer: Trainer, terms: str) -> list[float]:
    """Put a run back to its checkpoint, if there is one of the same terms; the losses until then."""
    if not is_intact(place) or told(place).get("terms") != terms:
        return []
    kept = read_tensors(place)
    losses: list[float] = kept.pop("losses").tolist()
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for name, value in kept.items():
        kind, _, own = name.partition(".")
        parts.setdefault(kind, {})[own] = value
    trainer.model.load_state_dict(parts.pop("model"))
    for name, weight in trainer.model.named_parameters():
        trainer.optimiser.state[weight] = {
            kind: values[name].to(weight.device, copy=True) for kind, values in parts.items() if name in values
        }
    trainer.go_on_from(len(losses))
    return losses


@torch.no_grad()
def _dice(model: GroundedSight, samples: list[Sample], report: Report) -> dict[str, float]:
    """Mean Dice over studies of any lesion and of each part, on the model's grid, where truth or guess has any."""
    dice: dict[str, list[float]] = {name: [] for name in ("lesion", *(part.name.lower() for part in Part))}
    for done, sample in enumerate(samples):
        report("measuring the eye", done, len(samples))
        _, found = find_parts(model.encoder, model.grounding, sample.images[None], sample.present[None])
        guess = found[0].argmax(dim=0)
        parts = sample.fractions
        truth = torch.cat([1 - parts.sum(dim=0, keepdim=True), parts]).argmax(dim=0)
        pairs = {"lesion": (guess > 0, truth > 0)}
        pairs |= {part.name.lower(): (guess == part, truth == part) for part in Part}
        for name, (ours, theirs) in pairs.items():
            total = int(ours.sum() + theirs.sum())
            if total:
                dice[name].append(2 * int((ours & theirs).sum()) / total)
    return {name: round(float(np.mean(values)), 4) for name, values in dice.items() if values}


def pretrain(
    recipe: EyeRecipe,
    report: Report = lambda stage, done, total: None,
    note: Callable[[str], object] = warnings.warn,
) -> Path:
    """Run a recipe and return the folder of the finished eye. An interrupted run goes on from its last checkpoint.

    `note` hears of each mask that cannot be used. Raises `TrainingError` if the run cannot go on, `StudyError` if
    there are masks to be used and none can be.
    """
    started = time.monotonic()
    subjects = Subjects(recipe.subjects, recipe.vision.grid, recipe.seed)
    for reason in subjects.masks.skipped if subjects.masks else ():
        note(f"left out: {reason}")
    terms = _terms(recipe)
    torch.manual_seed(recipe.seed)
    encoder, _ = start_encoder(recipe.vision)
    assert isinstance(encoder, PyramidEncoder)
    model = GroundedSight(encoder, start_grounding(recipe.grounding, recipe.vision)[0])
    device = best_device()
    fit = recipe.fit
    trainer = Trainer(model.to(device), fit, fit.steps)
    checkpoint = recipe.out / CHECKPOINT
    recipe.out.mkdir(parents=True, exist_ok=True)
    (recipe.out / "manifest.json").unlink(missing_ok=True)  # of another run: what lies here now is not whole
    losses = _resume(checkpoint, trainer, terms)
    log = TrainingLog(recipe.out / "training.jsonl")
    log.rewind({"eye": losses}, 0)
    drawn = ahead(subjects.__getitem__, range(len(losses) * fit.batch_size, fit.steps * fit.batch_size))
    for step in range(len(losses), fit.steps):
        batch = [next(drawn) for _ in range(fit.batch_size)]
        loss = trainer.step(batch, torch.Generator().manual_seed(seed_of(recipe.seed, step)))
        losses.append(loss)
        log.write(stage="eye", step=step + 1, loss=loss)
        report(f"training the eye (loss {np.mean(losses[-20:]):.3f})", step + 1, fit.steps)
        if (step + 1) % fit.save_steps == 0 or step + 1 == fit.steps:
            _save(checkpoint, trainer, terms, losses)
    unseen = Subjects(recipe.subjects, recipe.vision.grid, recipe.seed + _HELD_OUT, subjects.masks)
    model = model.cpu().eval()
    measured = _dice(model, list(ahead(unseen.sample, range(recipe.held_out))), report)
    _finish(recipe, terms, subjects.masks, model, measured, len(losses), time.monotonic() - started)
    checkpoint.unlink(missing_ok=True)
    return recipe.out


def _finish(
    recipe: EyeRecipe,
    terms: str,
    masks: Masks | None,
    model: nn.Module,
    dice: dict[str, float],
    steps: int,
    seconds: float,
) -> None:
    kept = {name: value for name, value in model.state_dict().items() if not name.startswith("tokens.")}
    write_tensors(recipe.out / WEIGHTS, kept, {"terms": terms})
    dumped = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)
    write_bytes(recipe.out / "recipe.yaml", dumped.encode())
    manifest: dict[str, Any] = {
        "voxmoe": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "precision": "bf16" if recipe.fit.bf16 else "fp32",
        "seed": recipe.seed,
        "steps": steps,
        "parameters": {
            name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children() if name != "tokens"
        },
        "held_out": {"studies": recipe.held_out, "dice": dice},
        "seconds": round(seconds, 1),
    }
    if masks is not None:
        manifest["masks"] = {"digest": masks.digest, "n": len(masks.kept), "left_out": len(masks.skipped)}
    write_json(recipe.out / "manifest.json", manifest)

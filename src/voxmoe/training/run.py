"""A training run from its recipe: read the studies, pretrain the eye, compute features once, fit on questions.

OUT/config.json, model.safetensors, processor files   the model, for `MpLLM.from_pretrained(OUT)`
OUT/recipe.yaml, training.jsonl                       what was done and how it went
OUT/manifest.json                                     with what; written last
"""

import json
import logging
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
import yaml
from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed

from voxmoe import __version__
from voxmoe.errors import DatasetError, TrainingError
from voxmoe.files import home, sha256, write_bytes, write_json
from voxmoe.model.language import load_tokenizer
from voxmoe.model.mpllm import MpLLM, MpLLMConfig
from voxmoe.model.processing import MpLLMProcessor
from voxmoe.training.eye import Sample, train_eye
from voxmoe.training.features import StudyFeatures, encode_studies
from voxmoe.training.recipe import FitSettings, Recipe
from voxmoe.training.samples import Collator, LengthSampler, Row, Rows
from voxmoe.training.studies import read_studies, study_files
from voxmoe.vqa.dataset import Dataset, open_dataset

CALIBRATION = 128
"""Training questions by which router and heads are calibrated."""
CALIBRATION_BATCH = 16

Report = Callable[[str, int, int], None]
"""Called with a stage, how much of it is done, and how much there is."""


def is_finished(recipe: Recipe) -> bool:
    """Whether the recipe's run has ended with this very recipe and dataset."""
    manifest = recipe.out / "manifest.json"
    if not manifest.is_file():
        return False
    record = json.loads(manifest.read_text())
    return bool(record["recipe"] == recipe.model_dump(mode="json") and record["dataset"] == _dataset_hash(recipe))


def make_default(model: Path) -> None:
    """Let `voxmoe ask` use this model where none is named."""
    write_bytes(home() / "default-model", f"{model.resolve()}\n".encode())


def _dataset_hash(recipe: Recipe) -> dict[str, str]:
    files = [*sorted((recipe.data / "data").glob("*.parquet"))]
    return {file.name: sha256(file) for file in files}


@dataclass(frozen=True)
class _Seen:
    """The features of the studies, and the losses of the eye's training."""

    features: dict[str, StudyFeatures] | None
    eye_losses: list[float]


def _see(model: MpLLM, recipe: Recipe, dataset: Dataset, rows: list[Row], report: Report) -> _Seen:
    vision = recipe.model.vision
    if vision is None:
        return _Seen(None, [])
    files = study_files(dataset, rows)
    studies = read_studies(
        files,
        vision.grid,
        lambda done, total: report("reading studies", done, total),
        vision.patches if recipe.eye else None,
        dataset.label_values,
    )
    losses = []
    if recipe.eye is not None:
        samples: list[Sample] = [(study, fractions) for study, fractions in studies.values() if fractions is not None]
        losses = train_eye(
            model.vision,
            samples,
            recipe.eye,
            recipe.seed,
            lambda step, steps, loss: report(f"training the eye (loss {loss:.4f})", step, steps),
        )
    model.vision.requires_grad_(False).eval()
    features = encode_studies(
        model,
        {name: study for name, (study, _) in studies.items()},
        lambda done, total: report("encoding studies", done, total),
    )
    return _Seen(features, losses)


class _Watch(TrainerCallback):
    """Report progress, keep a log of one line a step, stop on a loss that is not a number."""

    def __init__(self, report: Report, log: Path, eye_losses: list[float]) -> None:
        self.report = report
        self.log = log
        lines = [json.dumps({"stage": "eye", "step": step, "loss": loss}) for step, loss in enumerate(eye_losses, 1)]
        write_bytes(log, "".join(line + "\n" for line in lines).encode())

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        if not logs or "loss" not in logs:
            return
        with self.log.open("a") as stream:
            stream.write(json.dumps({"stage": "fit", "step": state.global_step, **logs}) + "\n")
        self.report(f"fitting (loss {logs['loss']:.3f})", state.global_step, state.max_steps)
        if not logs["loss"] < float("inf"):
            raise TrainingError(f"the loss became {logs['loss']} at step {state.global_step}; lower fit.learning_rate")


def _optimiser(model: MpLLM, fit: FitSettings) -> torch.optim.Optimizer:
    adapters = [p for name, p in model.named_parameters() if p.requires_grad and ".lora_" in name]
    others = [p for name, p in model.named_parameters() if p.requires_grad and ".lora_" not in name]
    return torch.optim.AdamW(
        [{"params": adapters, "lr": fit.learning_rate}, {"params": others, "lr": fit.expert_learning_rate}],
        weight_decay=0.0,
    )


def uses_bf16(fit: FitSettings) -> bool:
    """Whether matrix products run in bf16: as the recipe says, else where the hardware is made for it."""
    if fit.precision != "auto":
        return fit.precision == "bf16"
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def _lengths(rows: Sequence[Row]) -> list[int]:
    return [len(row["question"]) + len(row["answer"]) for row in rows]


class _Trainer(Trainer):
    """Trainer whose batches hold questions of about the same length, so that little is spent on padding."""

    def _get_train_sampler(self, train_dataset: Any = None) -> LengthSampler:
        batch = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps
        return LengthSampler(_lengths(self.train_dataset.rows), batch, self.args.seed)


def _calibrate(model: MpLLM, collate: Collator, rows: list[Row], recipe: Recipe, report: Report) -> None:
    """Let router and heads standardise what they read, by a sample of the training questions."""
    report("calibrating", 0, 1)
    order = list(LengthSampler(_lengths(rows), CALIBRATION_BATCH, recipe.seed))[:CALIBRATION]
    batches = [
        collate([rows[index] for index in order[start : start + CALIBRATION_BATCH]])
        for start in range(0, len(order), CALIBRATION_BATCH)
    ]
    with torch.autocast(model.device.type, torch.bfloat16, enabled=uses_bf16(recipe.fit)):
        model.eval().calibrate(batches)
    report("calibrating", 1, 1)


def _fit(model: MpLLM, processor: MpLLMProcessor, recipe: Recipe, rows: list[Row], seen: _Seen, report: Report) -> None:
    fit = recipe.fit
    collate = Collator(processor, seen.features, fit.modality_dropout, recipe.seed)
    _calibrate(model, collate, rows, recipe, report)
    steps_an_epoch = -(-len(rows) // (fit.batch_size * fit.accumulation))
    steps = fit.max_steps if fit.max_steps > 0 else int(fit.epochs * steps_an_epoch)
    arguments = TrainingArguments(
        output_dir=str(recipe.out / "checkpoints"),
        seed=recipe.seed,
        max_steps=steps,
        per_device_train_batch_size=fit.batch_size,
        gradient_accumulation_steps=fit.accumulation,
        lr_scheduler_type="cosine",
        warmup_steps=round(fit.warmup * steps),
        bf16=uses_bf16(recipe.fit),
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        remove_unused_columns=False,
        disable_tqdm=True,
        dataloader_pin_memory=False,
        use_cpu=not torch.cuda.is_available(),
    )
    optimiser = _optimiser(model, fit)
    trainer = _Trainer(
        model=model,
        args=arguments,
        train_dataset=Rows(rows),
        data_collator=collate,
        optimizers=(
            optimiser,
            transformers.get_cosine_schedule_with_warmup(optimiser, arguments.warmup_steps, steps),
        ),
        callbacks=[_Watch(report, recipe.out / "training.jsonl", seen.eye_losses)],
    )
    trainer.remove_callback(transformers.trainer_callback.PrinterCallback)
    trainer.train()


def train(recipe: Recipe, report: Report = lambda stage, done, total: None) -> Path:
    """Run a recipe and return the folder of the finished model.

    Raises `DatasetError` if the dataset cannot be used with the recipe and `TrainingError` if the loss stops being a
    number.
    """
    started = time.monotonic()
    dataset = open_dataset(recipe.data)
    rows = dataset.rows("train")
    if not rows:
        raise DatasetError(f"{recipe.data}: has no training questions; build it from more studies")
    set_seed(recipe.seed)
    recipe.out.mkdir(parents=True, exist_ok=True)
    settings = recipe.model.model_copy(update={"profile": dataset.manifest["profiles"][0]})
    report("loading the language model", 0, 1)
    model = MpLLM(MpLLMConfig.of(settings))
    processor = MpLLMProcessor(
        load_tokenizer(model.settings.language), grid=settings.vision.grid if settings.vision else None
    )
    report("loading the language model", 1, 1)
    seen = _see(model, recipe, dataset, rows, report)
    _fit(model, processor, recipe, rows, seen, report)
    model.eval().save_pretrained(recipe.out)
    processor.save_pretrained(recipe.out)
    write_bytes(recipe.out / "recipe.yaml", yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False).encode())
    write_json(
        recipe.out / "manifest.json",
        {
            "voxmoe": __version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
            "threads": torch.get_num_threads(),
            "precision": "bf16" if uses_bf16(recipe.fit) else "fp32",
            "cores": os.cpu_count(),
            "recipe": recipe.model_dump(mode="json"),
            "dataset": _dataset_hash(recipe),
            "language": model.settings.language.model_dump(mode="json"),
            "trained_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
            "seconds": round(time.monotonic() - started, 1),
        },
    )
    logging.getLogger(__name__).info("model written to %s", recipe.out)
    return recipe.out

"""A training run from its recipe: check, pretrain the eye, compute features once, warm up, fit on questions.

OUT/config.json, model.safetensors, processor files   the model, for `MpLLM.from_pretrained(OUT)`
OUT/recipe.yaml, training.jsonl                       what was done and how it went
OUT/manifest.json                                     with what; written last
OUT/checkpoints/                                      where a run that was interrupted goes on; removed at the end
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from accelerate.utils import send_to_device
from transformers import set_seed

from voxmoe.default import default_pointer
from voxmoe.errors import DatasetError
from voxmoe.files import write_bytes
from voxmoe.imaging.layouts import profile_named
from voxmoe.imaging.study import StudyFiles
from voxmoe.model.coarse_map import graded
from voxmoe.model.encoder import Encoder, make_encoder
from voxmoe.model.features import Encoded
from voxmoe.model.grounding import check_drawable
from voxmoe.model.language import load_tokenizer
from voxmoe.model.mpllm import MpLLM, MpLLMConfig
from voxmoe.model.processing import MpLLMProcessor
from voxmoe.training.cache import EYES, code_digest, key_of, place
from voxmoe.training.checks import training_rows
from voxmoe.training.eye import LinearSight, train_eye
from voxmoe.training.features import FeatureCache, ImageCache, KeptFeatures, ViewCache, own_code, weights_digest
from voxmoe.training.grids import sample_paths, samples_of
from voxmoe.training.log import TrainingLog
from voxmoe.training.memory import reset_peaks
from voxmoe.training.processes import Processes
from voxmoe.training.recipe import EyeSettings, Recipe
from voxmoe.training.record import begin, checkpoints, finish
from voxmoe.training.samples import Collator, Course, Row, Tokens, tokenised
from voxmoe.training.studies import study_files
from voxmoe.training.tensors import is_intact, read_tensors, write_tensors
from voxmoe.training.trainer import (
    ENCODER,
    FitTrainer,
    check_precision,
    check_reporters,
    last_checkpoint,
    learns_encoder,
    lighten,
    make_trainer,
    shared_accumulation,
)
from voxmoe.training.warm_up import state as warm_state
from voxmoe.training.warm_up import take, warm_up
from voxmoe.vqa.dataset import Dataset, open_dataset

CALIBRATION = 128
"""Training questions by which router and heads are calibrated."""
CALIBRATION_BATCH = 16
WARM = "warm-up.safetensors"
"""Among the checkpoints: what the warm-up has left."""

_log = logging.getLogger(__name__)
Report = Callable[[str, int, int], None]
"""Called with a stage, how much of it is done, and how much there is."""


def make_default(model: Path) -> None:
    """Let `voxmoe ask` use this model where none is named."""
    write_bytes(default_pointer(), f"{model.resolve()}\n".encode())


@dataclass(frozen=True)
class _Run:
    """What all stages of a run need."""

    recipe: Recipe
    datasets: Sequence[Dataset]
    rows: list[Row]
    files: dict[str, StudyFiles]
    """Of the studies; none for the text-only baseline."""
    processes: Processes
    report: Report


def _make_model(run: _Run) -> tuple[MpLLM, MpLLMProcessor]:
    run.report("loading the language model", 0, 1)
    profiles = dict.fromkeys(name for dataset in run.datasets for name in dataset.manifest["profiles"])
    language = run.recipe.model.language
    language = language.in_single() if run.recipe.fit.precision == "fp32" else language
    settings = run.recipe.model.model_copy(update={"profiles": tuple(profiles), "language": language})
    model = MpLLM(MpLLMConfig.of(settings))
    if run.recipe.start is not None:
        lacks = sorted({name.partition(".")[0] for name in model.start_from(run.recipe.start)})
        _log.info("starting from %s; it lacks %s", run.recipe.start, ", ".join(lacks) or "nothing")
    grid = settings.vision.grid if settings.vision is not None else None
    processor = MpLLMProcessor(load_tokenizer(model.settings.language), grid=grid)
    if run.recipe.fit.bf16:
        lighten(model)
    model.to(run.processes.device)
    run.report("loading the language model", 1, 1)
    return model, processor


def _kept_eye(encoder: Encoder, samples: Sequence[Path], eye: EyeSettings, seed: int) -> Path:
    """The file of what an encoder with its weights becomes on these samples, whose names say what they hold."""
    code = [LinearSight.__module__, graded.__module__, Encoded.__module__, *own_code(encoder)]
    key = key_of(
        # Which file the weights came from does not matter, they are in the key themselves.
        encoder=encoder.settings.model_dump(mode="json", exclude={"weights", "fingerprint"}),
        start=weights_digest(encoder),
        samples=[path.stem for path in samples],
        eye=eye.model_dump(mode="json"),
        seed=seed,
        code=code_digest(code),
    )
    return place(EYES, key, ".safetensors")


def _pretrain(model: MpLLM, run: _Run, eye: EyeSettings) -> list[float]:
    """Train the encoder, or take it as any run with the same encoder, images, masks and seed has left it; the losses of
    its steps.

    Without weights to start from, the encoder is drawn from the seed alone, so that models which differ elsewhere
    share it.
    """
    if model.vision.settings.weights is None:
        with torch.random.fork_rng():
            torch.manual_seed(run.recipe.seed)
            model.vision.load_state_dict(make_encoder(model.vision.settings).state_dict())
    shown = run.files, model.vision.settings, run.datasets[0].label_values, run.report
    if run.processes.first:
        sample_paths(*shown)
    run.processes.wait()  # what the first has read is known to all
    kept = _kept_eye(model.vision, sample_paths(*shown), eye, run.recipe.seed)
    if run.processes.first and not is_intact(kept):
        losses = train_eye(
            model.vision,
            samples_of(*shown),
            eye,
            run.recipe.seed,
            lambda step, steps, loss: run.report(f"training the eye (loss {loss:.4f})", step, steps),
        )
        write_tensors(kept, {**model.vision.state_dict(), "losses": torch.tensor(losses, dtype=torch.float64)})
    run.processes.wait()
    state = read_tensors(kept)
    found: list[float] = state.pop("losses").tolist()
    model.vision.load_state_dict(state)
    return found


def _see(model: MpLLM, run: _Run) -> tuple[KeptFeatures | None, list[float]]:
    """The features of all studies, or the images for an encoder that learns, and the losses of the eye's
    pretraining."""
    recipe = run.recipe
    if recipe.model.vision is None:
        return None, []
    losses = _pretrain(model, run, recipe.eye) if recipe.eye is not None else []
    tuned = recipe.fit.tune_encoder
    model.vision.requires_grad_(tuned).eval()
    cache: ViewCache = (
        ImageCache(recipe.model.vision.grid, recipe.features)
        if tuned
        else FeatureCache(model, recipe.features, with_parts=recipe.model.mapped)
    )
    return cache.of_all(run.files, run.report, recipe.augment, recipe.seed, run.processes), losses


def _calibrate(model: MpLLM, collate: Collator, run: _Run) -> None:
    """Let router and heads standardise what they read, by a sample of the training questions."""
    run.report("calibrating", 0, 1)
    course = Course([tokens.length for tokens in collate.tokens], CALIBRATION_BATCH, 1, run.recipe.seed)
    chosen = [course[place].row for place in range(min(CALIBRATION, len(run.rows)))]
    batches = [
        send_to_device(collate.plain(chosen[start : start + CALIBRATION_BATCH]), model.device)
        for start in range(0, len(chosen), CALIBRATION_BATCH)
    ]
    with torch.autocast(model.device.type, torch.bfloat16, enabled=run.recipe.fit.bf16):
        model.eval().calibrate(batches)
    run.report("calibrating", 1, 1)


def _warm(model: MpLLM, collate: Collator, run: _Run) -> list[float]:
    """Warm the model up, or put it to where this run has left it after doing so; the losses of the steps."""
    settings, fit = run.recipe.fit.warm_up, run.recipe.fit
    if settings is None:
        return []
    kept = checkpoints(run.recipe) / WARM
    if run.processes.first and not is_intact(kept):
        _calibrate(model, collate, run)
        losses = warm_up(
            model,
            collate,
            settings,
            run.recipe.seed,
            fit.bf16,
            lambda step, steps, loss: run.report(f"warming up (loss {loss:.3f})", step, steps),
        )
        write_tensors(kept, {**warm_state(model), "losses": torch.tensor(losses, dtype=torch.float64)})
    run.processes.wait()
    state = read_tensors(kept)
    found: list[float] = state.pop("losses").tolist()
    take(model, state)
    return found


def _course(run: _Run, tokens: list[Tokens]) -> Course:
    fit = run.recipe.fit
    step_size = fit.batch_size * fit.accumulation
    steps = fit.max_steps if fit.max_steps > 0 else max(1, round(fit.epochs * len(tokens) / step_size))
    return Course([one.length for one in tokens], step_size, steps, run.recipe.seed)


def _fit(model: MpLLM, processor: MpLLMProcessor, run: _Run) -> FitTrainer:
    recipe = run.recipe
    tokens = tokenised(run.rows, processor)
    features, eye_losses = _see(model, run)
    collate = Collator(
        processor,
        run.rows,
        tokens,
        features,
        modality_dropout=recipe.fit.modality_dropout,
        balance=recipe.fit.balance,
        seed=recipe.seed,
    )
    checkpoint = last_checkpoint(checkpoints(recipe))
    warm_losses = _warm(model, collate, run)
    if checkpoint is None:
        _calibrate(model, collate, run)
    log = TrainingLog(recipe.out / "training.jsonl")
    if run.processes.first:
        before = {"eye": eye_losses, "warm-up": warm_losses}
        log.rewind(before, int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0)
    course = _course(run, tokens)
    rates = {f".{ENCODER}": recipe.fit.encoder_learning_rate} if learns_encoder(recipe.fit) else {}
    trainer = make_trainer(model, recipe, course, collate, checkpoints(recipe), log, run.processes, run.report, rates)
    reset_peaks()
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return trainer


def _save(trainer: FitTrainer, model: MpLLM, processor: MpLLMProcessor, run: _Run, seconds: float) -> None:
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)  # of FSDP, all processes have a part
    if not run.processes.first:
        return
    out = run.recipe.out
    model.save_pretrained(out, state_dict=state)
    processor.save_pretrained(out)
    language = model.settings.language.model_dump(mode="json")
    finish(run.recipe, run.processes, model, trainer.state.global_step, seconds, language=language)


def _with_profile(dataset: Dataset, files: Mapping[str, StudyFiles]) -> dict[str, StudyFiles]:
    """With what the values of their masks mean; raises `DatasetError` or `LabelError` where that is no parts."""
    profile = profile_named(dataset.profile)
    check_drawable(profile)
    return {name: replace(study, profile=profile) for name, study in files.items()}


def _gather(datasets: Sequence[Dataset], recipe: Recipe) -> tuple[list[Row], dict[str, StudyFiles]]:
    """The questions of all datasets, and the files of the studies that they ask about."""
    rows: list[Row] = []
    files: dict[str, StudyFiles] = {}
    for dataset in datasets:
        own = training_rows(dataset, recipe)
        found = study_files(dataset, own, with_masks=recipe.eye is not None or recipe.model.mapped)
        if twice := sorted(files.keys() & found.keys()):
            raise DatasetError(
                f"{dataset.root}: has a study called {twice[0]}, and so has another of the recipe's datasets; studies "
                "are told apart by their names, so give one another name and build its dataset again"
            )
        rows += own
        files |= _with_profile(dataset, found) if recipe.model.mapped else found
    return rows, files if recipe.model.vision else {}


def train(recipe: Recipe, report: Report = lambda stage, done, total: None) -> Path:
    """Run a recipe and return the folder of the finished model.

    A run of the same recipe and dataset that was interrupted goes on from its last checkpoint. Raises `DatasetError` or
    `QuestionError` if the dataset cannot be used with the recipe and `TrainingError` if the run cannot go on.
    """
    started = time.monotonic()
    check_reporters(recipe.fit)
    check_precision(recipe.fit)
    processes = Processes()
    shared_accumulation(recipe.fit, processes)
    datasets = [open_dataset(place) for place in recipe.data]
    rows, files = _gather(datasets, recipe)
    run = _Run(recipe, datasets, rows, files, processes, report if processes.first else lambda *_: None)
    set_seed(recipe.seed)
    model, processor = _make_model(run)
    begin(recipe, processes)  # a recipe whose parts do not fit has replaced nothing
    trainer = _fit(model, processor, run)
    _save(trainer, model, processor, run, time.monotonic() - started)
    processes.wait()
    processes.end()
    return recipe.out

"""One stage of a volume reader's training, from its recipe: draw slices once, fit on exchanges.

OUT/config.json, model.safetensors, processor files   the reader, for `VolumeReader.from_pretrained(OUT)`
OUT/training.jsonl                                    how it went
OUT/recipe.yaml, manifest.json, checkpoints/          as `voxmoe.training.record` says
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accelerate.utils import send_to_device
from transformers import set_seed

from voxmoe.errors import DatasetError, RecipeError
from voxmoe.imaging.hounsfield import Rescale
from voxmoe.model.image_text import FreshBase
from voxmoe.model.own_weights import config_at
from voxmoe.model.reader import ReaderConfig, VolumeReader
from voxmoe.model.reading import ReaderProcessor
from voxmoe.training.exchanges import ReaderCollator, VolumeCourse, check_drawn_whole, check_prompts, check_slices
from voxmoe.training.log import TrainingLog
from voxmoe.training.memory import reset_peaks
from voxmoe.training.pictures import KeptPictures, PictureCache, Scan
from voxmoe.training.processes import Processes
from voxmoe.training.reader_recipe import ReaderRecipe
from voxmoe.training.record import apart, begin, checkpoints, finish
from voxmoe.training.trainer import (
    check_precision,
    check_reporters,
    gathers_weights,
    last_checkpoint,
    lighten,
    make_trainer,
    shared_accumulation,
)
from voxmoe.vqa.ct.dataset import CTDataset, open_ct_dataset
from voxmoe.vqa.ct.exchange import Exchange

CALIBRATION = 128
"""Training prompts by which the task router is calibrated."""

_log = logging.getLogger(__name__)
Report = Callable[[str, int, int], None]


def scans_of(dataset: CTDataset, exchanges: Sequence[Exchange], with_masks: bool = False) -> dict[str, Scan]:
    """The scans that exchanges are about, by the names of their images."""
    found: dict[str, Scan] = {}
    for exchange in exchanges:
        if exchange.image in found:
            continue
        mask = dataset.mask(exchange) if with_masks else None
        if with_masks and mask is None:
            raise DatasetError(f"{dataset.root}: has no mask of {exchange.image}, which dense training needs")
        rescale = None if exchange.rescale is None else Rescale(*exchange.rescale)
        found[exchange.image] = Scan(dataset.image(exchange), rescale, mask)
    return found


def _gather(recipe: ReaderRecipe) -> tuple[list[Exchange], dict[str, Scan]]:
    """The training exchanges of all datasets, and their scans."""
    exchanges: list[Exchange] = []
    scans: dict[str, Scan] = {}
    for data in recipe.data:
        dataset = open_ct_dataset(data)
        own = dataset.exchanges("train")
        if not recipe.model.blind:
            check_drawn_whole(own, recipe.model.pictures.depth)
        found = scans_of(dataset, own, bool(recipe.dense))
        if twice := sorted(name for name in found if name in scans and found[name] != scans[name]):
            raise DatasetError(f"{data}: has an image called {twice[0]}, and so has another of the recipe's datasets")
        exchanges += own
        scans |= found
    if not exchanges:
        raise DatasetError(f"{', '.join(map(str, recipe.data))}: no exchange to learn from in the split train")
    return exchanges, scans


def _pictures(
    recipe: ReaderRecipe, exchanges: Sequence[Exchange], scans: dict[str, Scan], report: Report
) -> KeptPictures | None:
    if recipe.model.blind:
        return None
    pictures, base = recipe.model.pictures, recipe.model.base
    cells = pictures.size // base.patch if isinstance(base, FreshBase) else 1
    kept = PictureCache(pictures, recipe.dense, cells).of_all(scans, report)
    check_slices(exchanges, kept)
    return kept


def train_reader(recipe: ReaderRecipe, report: Report = lambda stage, done, total: None) -> None:
    """Run a recipe; the finished reader lies in `recipe.out`.

    A run of the same recipe and dataset that was interrupted goes on from its last checkpoint. Raises `DatasetError` if
    the dataset cannot be used with the recipe, `RecipeError` if its start cannot, and `TrainingError` if the run cannot
    go on.
    """
    started = time.monotonic()
    check_reporters(recipe.fit)
    check_precision(recipe.fit)
    processes = Processes()
    report = report if processes.first else lambda *_: None
    shared_accumulation(recipe.fit, processes)
    exchanges, scans = _gather(recipe)
    set_seed(recipe.seed)
    report("loading the 2D model", 0, 1)
    base = recipe.model.base.in_single() if recipe.fit.precision == "fp32" else recipe.model.base
    reader = VolumeReader(ReaderConfig.of(recipe.model.model_copy(update={"base": base})))
    new = sorted(reader.own_state())
    if recipe.start is not None:
        _check_start(recipe, recipe.start, reader)
        new = reader.start_from(recipe.start)
        _log.info("starting from %s; new are %s", recipe.start, ", ".join(new) or "none")
    begin(recipe, processes)  # a recipe whose start does not fit has replaced nothing
    reader.learn(recipe.stage)
    reader.parted = not gathers_weights()
    if recipe.fit.bf16:
        lighten(reader)
    reader.to(processes.device)
    processor = ReaderProcessor.of(reader)
    check_prompts(processor, exchanges)
    pictures, answers = _pictures(recipe, exchanges, scans, report), recipe.stage != "tissues"
    collate = ReaderCollator(processor, exchanges, pictures, bool(recipe.dense), answers)
    checkpoint = last_checkpoint(checkpoints(recipe))
    log = TrainingLog(recipe.out / "training.jsonl")
    if processes.first:
        log.rewind({}, int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0)
    course = _course(recipe, exchanges)
    if checkpoint is None and any(".task_router." in name for name in new):
        _calibrate(reader, collate, course, exchanges)
    own = recipe.fit.projector_learning_rate
    rates = {} if own is None else {f".{reader.adaptation.family.projector}.": own}
    trainer = make_trainer(reader, recipe, course, collate, checkpoints(recipe), log, processes, report, rates)
    reset_peaks()
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)  # of FSDP, all processes have a part
    if processes.first:
        reader.save_pretrained(recipe.out, state_dict=state)
        processor.save_pretrained(recipe.out)
        slices = reader.settings.pictures.depth or 1
        cost = reader.expert_cost(slices)
        more = {
            "base": reader.settings.base.model_dump(mode="json"),
            "experts_add": None if cost is None else {"slices": slices, **asdict(cost)},
        }
        finish(recipe, processes, reader, trainer.state.global_step, time.monotonic() - started, **more)
    processes.wait()
    processes.end()


def _check_start(recipe: ReaderRecipe, start: Path, reader: VolumeReader) -> None:
    """Raise `RecipeError` for a stage of experts that would not begin with the very function of its start, and for any
    on another language model than the start's, whose weights it does not hold."""
    before, now = config_at(start, ReaderConfig).parsed.function, reader.settings.function
    if recipe.stage != "experts":
        before, now = ({"base": _words(told)} for told in (before, now))
    if found := apart(before, now, "model"):
        raise RecipeError(
            f"{start}: stage {recipe.stage} goes on with what it computes, and the recipe makes it another: "
            f"{', '.join(found)}; set these as they were, or choose another start"
        )


def _words(told: dict[str, Any]) -> dict[str, Any]:
    """What of a reader's settings says which language model it has."""
    base = told["base"]
    return {"kind": base["kind"], **{key: base[key] for key in ("fingerprint", "language") if key in base}}


def _calibrate(
    reader: VolumeReader, collate: ReaderCollator, course: VolumeCourse, exchanges: Sequence[Exchange]
) -> None:
    """By the first prompts of the run."""
    chosen = [exchanges[course[place].row] for place in range(min(CALIBRATION, len(course)))]
    reader.calibrate([send_to_device(collate.batch(chosen, answers=False, volumes=False), reader.device)])


def _course(recipe: ReaderRecipe, exchanges: Sequence[Exchange]) -> VolumeCourse:
    fit = recipe.fit
    step_size = fit.batch_size * fit.accumulation
    course = VolumeCourse(exchanges, recipe.shares, recipe.together, step_size, max(fit.max_steps, 1), recipe.seed)
    if fit.max_steps < 1:
        course.steps = max(1, round(fit.epochs * course.samples / step_size))
    return course

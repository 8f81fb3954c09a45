"""transformers' Trainer, fitted to this project: randomness by place, checkpoints that are whole or do not count, a log
of one line a step, and an early end where the numbers stop being numbers.

CHECKPOINTS/checkpoint-N/model.safetensors   what learns, the encoder only if it does, and what was calibrated
CHECKPOINTS/checkpoint-N/..                  the state of optimiser and schedule, as Trainer writes it
CHECKPOINTS/checkpoint-N/complete            written last, when all processes are done
"""

import contextlib
import math
import os
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, TypeGuard, runtime_checkable

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.integrations import TensorBoardCallback
from transformers.utils import SAFE_WEIGHTS_NAME

from voxmoe.errors import MissingPackageError, TrainingError
from voxmoe.files import write_bytes
from voxmoe.training.log import TrainingLog
from voxmoe.training.processes import PATIENCE, Processes
from voxmoe.training.recipe import FitSettings, QuestionFitSettings, RunRecipe
from voxmoe.training.samples import seed_of

Report = Callable[[str, int, int], None]
COMPLETE = "complete"
ENCODER = "vision."
"""What the names of the encoder's weights begin with."""
_LORA = ".lora_"
"""What stands in the names of adapters."""
_REST = "rest"
_KEPT = 2
"""Checkpoints at a time: the one before stays until the next is complete."""


@runtime_checkable
class Learner(Protocol):
    """A model that can be fitted: `MpLLM`, `VolumeReader`."""

    @property
    def language_model(self) -> Any: ...

    def own_state(self, state: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]: ...


@runtime_checkable
class Order(Protocol):
    """All samples of a run, in their order."""

    steps: int
    step_size: int
    """Samples that a step learns from."""

    @property
    def samples(self) -> int:
        """Of an epoch."""

    def __len__(self) -> int: ...


def lighten(model: Learner) -> None:
    """Keep the frozen linear maps in bf16, as which autocast would read them in every pass: the same products, in half
    the memory."""
    embeddings = model.language_model.get_input_embeddings().weight
    for name, module in model.language_model.named_modules():
        frozen = isinstance(module, nn.Linear) and not module.weight.requires_grad and module.weight is not embeddings
        if frozen and ".lora_" not in name:  # what was learnt is not rounded
            module.to(torch.bfloat16)


def learns_encoder(fit: FitSettings) -> TypeGuard[QuestionFitSettings]:
    """Whether fitting changes the encoder of mpLLM, too."""
    return isinstance(fit, QuestionFitSettings) and fit.tune_encoder


def fitted_state(
    model: Learner, state: Mapping[str, Tensor] | None = None, with_encoder: bool = False
) -> dict[str, Tensor]:
    """What fitting changes: all of the model's own weights but those of an encoder that stays frozen."""
    own = model.own_state(state)
    return {name: t.contiguous() for name, t in own.items() if with_encoder or not name.startswith(ENCODER)}


def last_checkpoint(folder: Path) -> Path | None:
    """The latest checkpoint that is complete."""
    complete = [path.parent for path in folder.glob(f"checkpoint-*/{COMPLETE}")]
    return max(complete, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


class _Watch(TrainerCallback):
    """Report progress, log each step, stop where loss or gradient is not a number, mark checkpoints as complete, as
    often as the recipe says now."""

    def __init__(self, report: Report, log: TrainingLog, processes: Processes, epochs_a_step: float) -> None:
        self.report = report
        self.log = log
        self.processes = processes
        self.epochs_a_step = epochs_a_step

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        state.save_steps = args.save_steps  # a checkpoint brings those of the run that wrote it

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        if not logs or "loss" not in logs:
            return
        for name, what in (("loss", "loss"), ("grad_norm", "norm of the gradient")):
            if not math.isfinite(logs[name]):
                raise TrainingError(
                    f"the {what} became {logs[name]} at step {state.global_step}; the last checkpoint stands. Lower "
                    "fit.learning_rate and fit.expert_learning_rate, or set fit.precision=fp32"
                )
        if self.processes.first:
            self.log.write(
                stage="fit",
                step=state.global_step,
                loss=logs["loss"],
                grad_norm=logs["grad_norm"],
                learning_rate=logs["learning_rate"],
                epoch=round(state.global_step * self.epochs_a_step, 4),
            )
        self.report(f"fitting (loss {logs['loss']:.3f})", state.global_step, state.max_steps)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.processes.wait()
        if self.processes.first:
            write_bytes(Path(args.output_dir) / f"checkpoint-{state.global_step}" / COMPLETE, b"")


class FitTrainer(Trainer):
    """Trainer with the samples' own order and randomness."""

    optimizer: torch.optim.Optimizer | None

    def __init__(self, *, fit: FitSettings, rates: Mapping[str, float], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.fit = fit
        self.rates = rates

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            learning = [(name, p) for name, p in (model or self.model).named_parameters() if p.requires_grad]
            rates = {_LORA: self.fit.learning_rate, _REST: self.fit.expert_learning_rate, **self.rates}
            own: dict[str, list[nn.Parameter]] = {part: [] for part in rates}
            for name, parameter in learning:
                own[self._part(name)].append(parameter)
            groups = [{"params": parameters, "lr": rates[part]} for part, parameters in own.items()]
            self.optimizer = torch.optim.AdamW(groups, weight_decay=0.0, fused=True)
        return self.optimizer

    def _part(self, name: str) -> str:
        """Which of the parts with rates of their own a parameter belongs to; wrappers of processes put words before its
        name."""
        return next((part for part in (_LORA, *self.rates) if part in f".{name}"), _REST)

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """One forward and backward pass. Its dropout depends on its place in the run alone."""
        torch.manual_seed(seed_of(self.args.seed, inputs.pop("place")))
        with self._attention():
            loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
        return loss

    def autocast_smart_context_manager(self, cache_enabled: bool | None = True) -> torch.autocast:
        """bf16 by autocast alone, whichever way the processes share their work."""
        # Of weights that FSDP gathers anew for every pass, a cast kept from the router's pass would get no gradient.
        kept = not self.is_fsdp_enabled
        return torch.autocast(self.args.device.type, torch.bfloat16, self.fit.bf16, kept)

    def _attention(self) -> contextlib.AbstractContextManager[None]:
        """On a CPU in bf16 the backward pass of fused attention takes longer than all of plain attention. Where that
        across the slices of volumes is long, it goes a way of its own (`voxmoe.model.slices`)."""
        return sdpa_kernel(SDPBackend.MATH) if self.args.device.type == "cpu" and self.fit.bf16 else _nothing()

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        if self.args.should_save:
            folder = Path(output_dir or self.args.output_dir)
            folder.mkdir(parents=True, exist_ok=True)
            save_file(fitted_state(self.model, state_dict, learns_encoder(self.fit)), folder / SAFE_WEIGHTS_NAME)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        frozen = {name: tensor for name, tensor in self.model.own_state().items() if name.startswith(ENCODER)}
        self.model.load_own_state(frozen | load_file(Path(resume_from_checkpoint) / SAFE_WEIGHTS_NAME))

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not counted: it would go through all parameters in every pass."""
        return 0


@contextlib.contextmanager
def _nothing() -> Any:
    yield


def check_reporters(fit: FitSettings) -> None:
    """Raise `MissingPackageError` if a package that `report_to` names is not there."""
    for name in fit.report_to:
        if find_spec(name) is None:
            raise MissingPackageError(
                f"fit.report_to names {name}, which is not installed: pip install {name}, or leave it out "
                "(training.jsonl is always written)"
            )


def shared_accumulation(fit: FitSettings, processes: Processes) -> int:
    """Forward passes of one process a step; raises `TrainingError` if they cannot be shared evenly."""
    if fit.accumulation % processes.count:
        raise TrainingError(
            f"{fit.accumulation} forward passes a step (fit.accumulation) cannot be shared evenly by {processes.count} "
            "processes; choose fit.accumulation as a multiple of their number, and fit.batch_size to match"
        )
    return fit.accumulation // processes.count


def gathers_weights() -> bool:
    """Whether `accelerate launch` asks for weights to be gathered from all processes whenever a module is called."""
    return _shared_out() or os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE") == "3"


def _shared_out() -> bool:
    """Whether `accelerate launch` asks for FSDP, which in bf16 would also round gathered weights, reduced gradients and
    the loss: there autocast alone makes it bf16, as for one process."""
    return os.environ.get("ACCELERATE_USE_FSDP") == "true"


def check_precision(fit: FitSettings) -> None:
    """Raise `TrainingError` where what launched the run would round the weights that learn."""
    if fit.bf16 and os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true":
        raise TrainingError(
            "by DeepSpeed, bf16 would also round the weights that learn: add fit.precision=fp32, or launch by "
            "recipes/accelerate/fsdp.yaml, which computes in bf16 and keeps them in float32"
        )


def make_trainer(
    model: Any,
    recipe: RunRecipe,
    course: Order,
    collate: Callable[[Any], dict[str, Any]],
    checkpoints: Path,
    log: TrainingLog,
    processes: Processes,
    report: Report,
    rates: Mapping[str, float],
) -> FitTrainer:
    """`rates` are learning rates of parts that have their own, by what stands in the names of their parameters."""
    fit = recipe.fit
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        seed=recipe.seed,
        max_steps=course.steps,
        per_device_train_batch_size=fit.batch_size,
        gradient_accumulation_steps=shared_accumulation(fit, processes),
        lr_scheduler_type="cosine",
        warmup_steps=round(fit.warmup * course.steps),
        bf16=fit.bf16 and not _shared_out(),
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=fit.save_steps,
        save_total_limit=_KEPT,
        report_to=[name for name in fit.report_to if name != "tensorboard"],
        project=recipe.name,
        remove_unused_columns=False,
        disable_tqdm=True,
        dataloader_pin_memory=False,
        use_cpu=processes.device.type == "cpu",
        ddp_find_unused_parameters=False,
        ddp_timeout=int(PATIENCE.total_seconds()),
    )
    trainer = FitTrainer(
        fit=fit,
        rates=rates,
        model=model,
        args=arguments,
        train_dataset=course,
        data_collator=collate,
        callbacks=[_Watch(report, log, processes, course.step_size / course.samples)],
    )
    trainer.remove_callback(transformers.trainer_callback.PrinterCallback)
    if "tensorboard" in fit.report_to:
        board = TensorBoardCallback()
        board.logging_dir = str(recipe.out / "tensorboard")
        trainer.add_callback(board)
    return trainer

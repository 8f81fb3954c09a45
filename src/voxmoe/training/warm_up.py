"""The warm-up: connector, gaze and heads learn from all questions before the language model joins.

The language model reads each question once, without an image, and is not touched. What its last state then asks for
is looked up in the fused tokens by the gaze (`voxmoe.model.gaze`). A step learns from a few studies with all of their
questions, so that a study goes through the experts once for all of them. The fit that follows starts from what was
learnt, as the language model's own reading of the images begins with no share in what the heads read, also where a
model that the run starts from had given it one.
"""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from voxmoe.errors import TrainingError
from voxmoe.model.features import VisionFeatures
from voxmoe.model.mpllm import MpLLM
from voxmoe.training.cache import HEARD, code_digest, key_of, place
from voxmoe.training.eye import RISE
from voxmoe.training.features import weights_digest
from voxmoe.training.recipe import WarmUpSettings
from voxmoe.training.samples import Collator, seed_of
from voxmoe.training.tensors import is_intact, read_tensors, write_tensors

PARTS = ("connector", "chart", "gaze", "heads", "coarse_map")
"""What learns in a warm-up, by the names of the model's parts."""
_LISTENING = 64
"""Questions that the language model reads in one pass."""
_CLIP = 1.0

Progress = Callable[[int, int, float], None]


@dataclass(frozen=True, eq=False)
class _Round:
    """A few studies with all questions about them: what is seen of each study, the numbers of the questions' rows, and
    for each the number of its study among these."""

    seen: dict[str, Tensor]
    rows: Int[Tensor, " Q"]
    owner: Int[Tensor, " Q"]


class _Rounds:
    """All studies of a cohort, a few at a time, in an order that seed and epoch decide."""

    def __init__(self, collate: Collator, size: int, seed: int) -> None:
        self.collate, self.size, self.seed = collate, size, seed
        self.asked: dict[str, list[int]] = {}
        for number, row in enumerate(collate.rows):
            self.asked.setdefault(row["study"], []).append(number)
        self.studies = sorted(self.asked)

    def __len__(self) -> int:
        """Rounds of an epoch."""
        return -(-len(self.studies) // self.size)

    def epoch(self, number: int) -> Iterator[_Round]:
        order = torch.randperm(len(self.studies), generator=torch.Generator().manual_seed(seed_of(self.seed, number)))
        for chosen in torch.split(order, self.size):
            names = [self.studies[place] for place in chosen.tolist()]
            generators = [
                torch.Generator().manual_seed(seed_of(self.seed, number, zlib.crc32(name.encode()))) for name in names
            ]
            rows = [self.asked[name] for name in names]
            owner = torch.arange(len(names)).repeat_interleave(torch.tensor([len(own) for own in rows]))
            seen = self.collate.seen(names, generators)
            yield _Round(seen, torch.tensor([row for own in rows for row in own]), owner)


def _parts(model: MpLLM) -> dict[str, nn.Module]:
    return {name: part for name, part in model.named_children() if name in PARTS}


def _heard(model: MpLLM, collate: Collator, bf16: bool) -> Float[Tensor, "Q O"]:
    """What the language model makes of every question, kept for other models that begin with the same one."""
    decided = {
        "language": weights_digest(model.language_model),
        "questions": [tokens.question for tokens in collate.tokens],
        "code": code_digest([MpLLM.__module__]),
        "bf16": bf16,
    }
    kept = place(HEARD, key_of(**decided), ".safetensors")
    if not is_intact(kept):
        with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
            write_tensors(kept, {"asked": _listen(model, collate)})
    return read_tensors(kept)["asked"]


@torch.no_grad()
def _listen(model: MpLLM, collate: Collator) -> Float[Tensor, "Q O"]:
    """What the language model makes of every question, without an image."""
    order = sorted(range(len(collate.rows)), key=lambda row: collate.tokens[row].length)
    asked = torch.zeros(len(order), model.language_model.config.hidden_size)
    for start in range(0, len(order), _LISTENING):
        rows = order[start : start + _LISTENING]
        texts = collate.texts(rows)
        heard = model.listen(texts["question_ids"].to(model.device), texts["question_mask"].to(model.device))
        asked[rows] = heard["prompt"].float().cpu()
    return asked


def _loss(model: MpLLM, collate: Collator, asked: Float[Tensor, "Q O"], one: _Round) -> Tensor:
    """The heads' share of equation (2), and that of a coarse map."""
    device = model.device
    seen = {name: tensor.to(device) for name, tensor in one.seen.items()}
    filled = seen.pop("filled", None)
    wanted, weights = collate.wanted(one.rows.tolist())
    moved = None if weights is None else {name: tensor.to(device) for name, tensor in weights.items()}
    targets = {name: tensor.to(device) for name, tensor in wanted.items()}
    loss: Tensor = model.losses_at_sight(
        VisionFeatures(**seen), one.owner.to(device), asked[one.rows].to(device), targets, moved, filled
    )
    return loss


def warm_up(
    model: MpLLM, collate: Collator, settings: WarmUpSettings, seed: int, bf16: bool, progress: Progress
) -> list[float]:
    """Teach the parts of a model with a gaze in place; returns the loss of every step.

    Raises `TrainingError` if a loss or a gradient is not finite.
    """
    model.eval()
    nn.init.zeros_(model.gaze.share)
    asked = _heard(model, collate, bf16)
    parts = _parts(model)
    learning = [weight for part in parts.values() for weight in part.train().parameters() if weight.requires_grad]
    rounds = _Rounds(collate, settings.studies, seed)
    steps = settings.epochs * len(rounds)
    optimiser = torch.optim.AdamW(learning, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.learning_rate, steps, pct_start=RISE)
    losses: list[float] = []
    for one in (one for epoch in range(settings.epochs) for one in rounds.epoch(epoch)):
        torch.manual_seed(seed_of(seed, len(losses)))
        with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
            loss = _loss(model, collate, asked, one)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        norm = nn.utils.clip_grad_norm_(learning, _CLIP)
        for value, what in ((loss, "loss"), (norm, "norm of the gradient")):
            if not torch.isfinite(value):
                raise TrainingError(
                    f"the {what} of the warm-up became {value.item()} at step {len(losses) + 1}; lower "
                    "fit.warm_up.learning_rate, or set fit.precision=fp32"
                )
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
        progress(len(losses), steps, losses[-1])
    model.eval()
    return losses


def state(model: MpLLM) -> dict[str, Tensor]:
    """What a warm-up leaves, by the names of the model's weights."""
    return {
        f"{name}.{key}": tensor.detach().cpu()
        for name, part in _parts(model).items()
        for key, tensor in part.state_dict().items()
    }


def take(model: MpLLM, kept: dict[str, Tensor]) -> None:
    """Put a model's parts to where a warm-up has left them."""
    for name, part in _parts(model).items():
        head = f"{name}."
        part.load_state_dict({key[len(head) :]: tensor for key, tensor in kept.items() if key.startswith(head)})

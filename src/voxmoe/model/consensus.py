"""Consensus: what the heads say and what is measured in the predicted mask, weighed into one answer.

The heads know what is usual, the measurement knows what the decoder has drawn, and either is often wrong where the
other is right. Their opinions are pooled on the scale of logarithms, as naive Bayes would: the heads' probabilities
with a trust of their own, and for what was measured one vote for each answer, which is learnt once for all labels and
in addition for each. What is learnt are a few hundred numbers, on studies that model and eye have not learnt from
(`voxmoe.reconciling`). A measurement that these studies never showed speaks for itself (`BELIEF`). Whether a task is
asked, and what is out of scope, the heads alone decide. This is the project's own.

It stands in a file of its own beside a model's weights, which it leaves as they are.

Shapes: Q question, A classes or entries of a task, K answers that can be given, L label.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from voxmoe.errors import WeightsError
from voxmoe.files import write_bytes
from voxmoe.model.weights import check_fit, find_beside
from voxmoe.vocabulary import ABSENT, CLASSES, EXCLUSIVE_TASKS, NOT_ASKED, REGIONS, Task

Answers = Mapping[str, Int[Tensor, "Q *A"]]
"""Answers to questions in the form in which the heads learn them; class 0, or the last entry, is "not asked"."""
_NOTHING = -1
_PRESENCE = "presence"
_ANSWERS = {
    **{str(task): len(CLASSES[task]) - 1 for task in EXCLUSIVE_TASKS},
    str(Task.REGION): 2,
    _PRESENCE: 2,
}
"""The answers that each vote is about: the classes of a task but "not asked"; a region named or not, all nine alike;
the label absent by the head for region, or not."""
_SILENT = 0.5
"""From which chance on the head for region is not asked."""
_TINY = 1e-6
BELIEF = 2.0
"""The vote of what was measured for itself, in nats, before anything is learnt: some seven to one."""
FILE = "consensus.safetensors"


class Consensus(nn.Module):
    """The heads' probabilities and measurements -> probabilities of the same form."""

    def __init__(self, labels: Sequence[str]) -> None:
        """`labels` are the keys of those that have votes of their own."""
        super().__init__()
        self.labels = tuple(labels)
        self.parts = nn.ModuleDict({name: _Vote(size, len(self.labels)) for name, size in _ANSWERS.items()})

    def forward(
        self, chances: Mapping[str, Float[Tensor, "Q A"]], measured: Answers, labels: Sequence[str]
    ) -> dict[str, Float[Tensor, "Q A"]]:
        """The heads' probabilities; of tasks that they take for asked and that were measured, weighed with that.

        `measured` is what the protocol answers about the label of each question, in the form in which the heads learn:
        "not asked" where it answers nothing. What is weighed is certain to be asked.
        """
        weighed = {name: values.clone() for name, values in chances.items()}
        for name, pool in self.parts.items():
            said, told = _opinions(name, chances), _answers(name, measured)
            pooled = pool(said, told.clamp(min=0), self._owners(labels, told)).exp().to(said.dtype)
            _put(weighed, name, pooled, told != _NOTHING)
        return weighed

    def learn(
        self, chances: Mapping[str, Float[Tensor, "Q A"]], measured: Answers, labels: Sequence[str], targets: Answers
    ) -> None:
        """Fit trust and votes to what is right of questions (`targets`): the likeliest ones where trust is about 1, the
        shared votes are about `BELIEF` for what was measured and 0 for all else, and those of a label about 0 to begin
        with (deviation 1). There is one optimum, whatever the start."""
        for name, pool in self.parts.items():
            assert isinstance(pool, _Vote)
            said, told, right = _opinions(name, chances), _answers(name, measured), _answers(name, targets)
            known = (told != _NOTHING) & (right != _NOTHING)
            pool.learn(said[known], told[known], self._owners(labels, told)[known], right[known])

    def save(self, folder: Path) -> None:
        """Put it beside a model's weights."""
        write_bytes(folder / FILE, save(self.state_dict(), {"labels": json.dumps(self.labels)}))

    @classmethod
    def beside(cls, place: str | os.PathLike[str]) -> "Consensus | None":
        """That of the model in a folder or on the hub; None where it has none.

        Raises `WeightsError` if the file is not one of this version.
        """
        found = find_beside(place, FILE)
        if found is None:
            return None
        try:
            with safe_open(found, "pt") as file:
                consensus = cls(json.loads(file.metadata()["labels"]))
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no dictionary
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise WeightsError(f"{found}: cannot be read ({error}); voxmoe reconcile makes one") from None
        check_fit(f"{found}: not a consensus of this version", consensus.state_dict(), state)
        consensus.load_state_dict(state)
        return consensus

    def _owners(self, labels: Sequence[str], like: Int[Tensor, "Q *R"]) -> Int[Tensor, "Q *R"]:
        """The number of each question's label, the last for one without votes of its own."""
        numbers = torch.tensor([self.labels.index(key) if key in self.labels else len(self.labels) for key in labels])
        return numbers.view(-1, *[1] * (like.ndim - 1)).expand_as(like)


class _Vote(nn.Module):
    """One pool of opinions over K answers. Buffers, as no training of the model moves them."""

    trust: Tensor
    shared: Tensor
    own: Tensor

    def __init__(self, size: int, labels: int) -> None:
        super().__init__()
        self.register_buffer("trust", torch.ones(()))
        self.register_buffer("shared", BELIEF * torch.eye(size))
        self.register_buffer("own", torch.zeros(labels, size, size))

    def forward(
        self, said: Float[Tensor, "*N K"], told: Int[Tensor, "*N"], labels: Int[Tensor, "*N"]
    ) -> Float[Tensor, "*N K"]:
        """Logarithms of probabilities, given what was measured and about which label."""
        return _pool((self.trust, self.shared, self.own), said, told, labels)

    @torch.enable_grad()
    def learn(
        self,
        said: Float[Tensor, "N K"],
        told: Int[Tensor, " N"],
        labels: Int[Tensor, " N"],
        wanted: Int[Tensor, " N"],
    ) -> None:
        if not len(said):
            return
        believed = BELIEF * torch.eye(len(self.shared), dtype=torch.float64)
        start = [torch.ones(()), believed, torch.zeros_like(self.own)]
        weights = [tensor.double().clone().requires_grad_() for tensor in start]
        optimiser = torch.optim.LBFGS(weights, max_iter=200, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimiser.zero_grad()
            logs = _pool(weights, said.double(), told, labels)
            misfit = -logs[torch.arange(len(wanted)), wanted].sum()
            trust, shared, own = weights
            doubt = ((trust - 1).square() + (shared - believed).square().sum() + own.square().sum()) / 2
            total = (misfit + doubt) / len(wanted)
            torch.autograd.backward(total)
            return total

        optimiser.step(loss)  # type: ignore[no-untyped-call]
        for buffer, weight in zip((self.trust, self.shared, self.own), weights, strict=True):
            buffer.copy_(weight.detach())


def _pool(
    weights: Sequence[Tensor], said: Float[Tensor, "*N K"], told: Int[Tensor, "*N"], labels: Int[Tensor, "*N"]
) -> Float[Tensor, "*N K"]:
    trust, shared, own = weights
    own = torch.cat([own, torch.zeros_like(shared)[None]])  # that of all labels which have none
    return (trust * said.clamp(min=_TINY).log() + shared[told] + own[labels, told]).log_softmax(dim=-1)


_PLACES: Mapping[str, slice | int] = {
    str(Task.REGION): slice(len(REGIONS)),
    _PRESENCE: CLASSES[Task.REGION].index(ABSENT),
}
"""Where the parts that are about the head for region stand among its entries."""


def _opinions(name: str, chances: Mapping[str, Float[Tensor, "Q A"]]) -> Float[Tensor, "Q *R K"]:
    """What the heads say of a part's answers, which sum to 1."""
    if name in _PLACES:
        named = chances[str(Task.REGION)][:, _PLACES[name]]
        return torch.stack([1 - named, named], dim=-1)
    answers = chances[name][:, 1:]
    return answers / answers.sum(dim=1, keepdim=True).clamp(min=_TINY)


def _answers(name: str, targets: Answers) -> Int[Tensor, "Q *R"]:
    """A part's answers as their numbers, -1 for "not asked"."""
    if name not in _PLACES:
        return targets[name].long() - 1
    entries = targets[str(Task.REGION)].long()
    asked = entries[:, CLASSES[Task.REGION].index(NOT_ASKED)] == 0
    told = entries[:, _PLACES[name]]
    return torch.where(asked.view(-1, *[1] * (told.ndim - 1)), told, _NOTHING)


def _put(
    weighed: dict[str, Float[Tensor, "Q A"]],
    name: str,
    pooled: Float[Tensor, "Q *R K"],
    known: Bool[Tensor, "Q *R"],
) -> None:
    """Set a part's answers where something was measured and the heads take the task for asked."""
    if name in _PLACES:
        entries = weighed[str(Task.REGION)]
        asked = entries[:, CLASSES[Task.REGION].index(NOT_ASKED)] <= _SILENT
        known = known & asked.view(-1, *[1] * (known.ndim - 1))
        entries[:, _PLACES[name]] = torch.where(known, pooled[..., 1], entries[:, _PLACES[name]])
    else:
        classes = weighed[name]
        asked = classes.argmax(dim=1) != CLASSES[Task(name)].index(NOT_ASKED)
        certain = torch.cat([torch.zeros_like(pooled[:, :1]), pooled], dim=1)
        weighed[name] = torch.where((known & asked)[:, None], certain, classes)

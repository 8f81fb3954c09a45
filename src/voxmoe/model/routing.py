"""Which volume goes to which group of experts, and what the experts' blocks say of it (TGH-MoE, as read here).

The task router reads what the prompt says, as one vector, and chooses among groups of experts, one for each task. A
`Routing` holds its choice for the volumes of one forward pass. Blocks with experts take it up, and leave in it how many
tokens each expert got and how even the token router's probabilities were.

Shapes: B volume, P width of a prompt's embedding, Q token of a prompt, G group, A group that a volume goes to (1; all
where the choice is soft), L block, E expert of a group, U group in use.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from voxmoe.model.experts import entropy
from voxmoe.model.standardise import Standardise


def at_least_single(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """In float32, or what is finer: routers choose by it."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def mean_embedding(embedded: Float[Tensor, "B Q P"], mask: Bool[Tensor, "B Q"]) -> Float[Tensor, "B P"]:
    """The mean of a prompt's input embeddings over the tokens that are there."""
    there = mask[:, :, None]
    return (at_least_single(embedded) * there).sum(dim=1) / there.sum(dim=1)


# --------------------------------------------------------------------------------------------------- what blocks leave


@dataclass(frozen=True)
class Passed:
    """What one block did."""

    counts: Int[Tensor, "G E"]
    """Tokens that each expert got."""
    sums: Float[Tensor, "G E"]
    """The token router's probabilities, summed over all tokens of the group."""

    @property
    def balance(self) -> Float[Tensor, " U"]:
        """Of each group that was used: E sum_e f_e p_e, with f the shares of the tokens and p the mean probabilities.
        1 where both are even, E where all goes to one expert."""
        tokens = self.counts.sum(dim=1, keepdim=True)
        products = (self.counts / tokens.clamp(min=1)) * (self.sums / tokens.clamp(min=1))
        return self.counts.shape[1] * products.sum(dim=1)[tokens[:, 0] > 0]


@dataclass(frozen=True)
class Usage:
    """How many tokens the experts of each block got; those of several passes can be added up."""

    blocks: tuple[int, ...]
    """Their layers in the tower."""
    counts: Int[Tensor, "L G E"]

    def __add__(self, other: "Usage") -> "Usage":
        if self.blocks != other.blocks:
            raise ValueError(f"usage of layers {self.blocks} and of {other.blocks} cannot be added up")
        return Usage(self.blocks, self.counts + other.counts)

    @property
    def shares(self) -> Float[Tensor, "L G E"]:
        """Each expert's share of its group's tokens; 0 in groups that got none."""
        return self.counts / self.counts.sum(dim=2, keepdim=True).clamp(min=1)

    @property
    def entropy(self) -> Float[Tensor, "L G"]:
        """How widely a group's tokens are spread over its experts, in nats: from 0 to log E."""
        return entropy(self.shares)


# ------------------------------------------------------------------------------------------------------------- routing


@dataclass(frozen=True)
class Routing:
    """Where the volumes of one forward pass go, and what became of it."""

    groups: Int[Tensor, "B A"]
    weights: Float[Tensor, "B A"]
    """Of each of a volume's groups, what its experts' output is multiplied by."""
    logits: Float[Tensor, "P G"]
    """Of each prompt, several of which may ask about one volume."""
    tasks: Int[Tensor, " P"] | None = None
    """Their true ones, where they are known."""
    passed: dict[int, Passed] = field(default_factory=dict, repr=False)
    """By layer. A layer that is computed again, for the backward pass, leaves what it left first."""

    @property
    def task_loss(self) -> Float[Tensor, ""]:
        """The cross-entropy of the task router; raises `ValueError` if the true tasks are not known."""
        if self.tasks is None:
            raise ValueError("the loss of the task router needs the true tasks: give them to `route`")
        return F.cross_entropy(self.logits, self.tasks.long())

    @property
    def balance(self) -> Float[Tensor, ""]:
        """The mean over the groups in use of all blocks, 1 where the load is even; for use after the forward pass,
        else it raises `ValueError`."""
        return torch.cat([passed.balance for passed in self._passed.values()]).mean()

    @property
    def usage(self) -> Usage:
        """For use after the forward pass, else it raises `ValueError`."""
        return Usage(tuple(self._passed), torch.stack([passed.counts for passed in self._passed.values()]))

    @property
    def _passed(self) -> dict[int, Passed]:
        if not self.passed:
            raise ValueError("no block with experts has been passed with this routing: compute features first")
        return dict(sorted(self.passed.items()))


def _checked(tasks: Int[Tensor, " B"], groups: int) -> Int[Tensor, " B"]:
    if ((tasks < 0) | (tasks >= groups)).any():
        raise ValueError(
            f"tasks are numbers from 0 to {groups - 1}, one for each group of experts; got {tasks.tolist()}"
        )
    return tasks


class TaskRouter(nn.Module):
    """Level 1: a prompt's embedding, standardised -> a score for each group of experts."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.standardise = Standardise(width)
        self.linear = nn.Linear(width, groups)

    def calibrate(self, prompt: Float[Tensor, "B P"]) -> None:
        """Take the prompts' statistics from a sample."""
        self.standardise.measure(prompt)

    def forward(self, prompt: Float[Tensor, "B P"]) -> Float[Tensor, "B G"]:
        with torch.autocast(prompt.device.type, enabled=False):
            read = self.standardise(at_least_single(prompt))
            return F.linear(read, self.linear.weight.to(read.dtype), self.linear.bias.to(read.dtype))

    def choose(self, prompt: Float[Tensor, "B P"], tasks: Int[Tensor, " B"] | None = None) -> Routing:
        """Every volume to the group of the highest score."""
        logits = self(prompt)
        return _hard(logits.argmax(dim=1), logits, tasks)

    def teach(self, prompt: Float[Tensor, "B P"], tasks: Int[Tensor, " B"]) -> Routing:
        """Every volume to the group of its true task."""
        return _hard(tasks.long(), self(prompt), tasks)

    def blend(self, prompt: Float[Tensor, "B P"], tasks: Int[Tensor, " B"] | None = None) -> Routing:
        """Every volume to all groups, weighted by the softmax of the scores."""
        logits = self(prompt)
        groups = torch.arange(logits.shape[1], device=logits.device).expand(logits.shape)
        tasks = tasks if tasks is None else _checked(tasks, logits.shape[1])
        return Routing(groups, logits.softmax(dim=1), logits, tasks)


def _hard(groups: Int[Tensor, " B"], logits: Float[Tensor, "B G"], tasks: Int[Tensor, " B"] | None) -> Routing:
    tasks = tasks if tasks is None else _checked(tasks, logits.shape[1])
    return Routing(groups[:, None], logits.new_ones(len(groups), 1), logits, tasks)

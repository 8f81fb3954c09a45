"""A volume reader: a 2D model made to read volumes, as one model that learns, answers, is saved and loaded (TGH-MoE).

The sequence is what the model's chat form puts before a picture, the tokens of the volume, the rest of the prompt, and
the answer. What pads a prompt stands before all of it and what pads an answer behind, so that the answer always begins
at the same place and logits are computed only from there on. Where tokens stand, and which of them see one another both
ways, is as the family has it (`voxmoe.model.layout`).

Several prompts may ask about one volume: `volume` tells which of the V volumes each of the B prompts is about. Task
experts see a volume by what it is asked for: prompts of one task share what they make of it.

Shapes: B prompt, V volume, R volume as it is seen for a task, D slice, C H W its channels and pixels, P prefix token, Q
prompt token, A answer token, W answer to be weighed, T token of a volume, O width of the language model, L token
generated.
"""

import math
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from pydantic import ValidationError, model_validator
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from transformers import AutoConfig, AutoModel, DynamicCache, PreTrainedConfig
from transformers.masking_utils import create_masks_for_generate
from transformers.utils import ModelOutput

from voxmoe.errors import WeightsError
from voxmoe.imaging.windows import PictureSettings
from voxmoe.model.adaptation import AdaptationSettings, VolumeFeatures, adapt, most_of
from voxmoe.model.image_text import BaseSettings, FreshBase, load_base
from voxmoe.model.language import LoraSettings, add_lora
from voxmoe.model.layout import Layout, gathered, lay_out
from voxmoe.model.naming import LEAST, Naming, rarity
from voxmoe.model.own_weights import OwnWeights
from voxmoe.model.padding import alike
from voxmoe.model.routing import Routing, mean_embedding
from voxmoe.model.task_experts import ExpertCost, TaskExpertSettings
from voxmoe.model.towers import TOWERS, entry_of, part
from voxmoe.settings import Settings, problems
from voxmoe.vocabulary import TGH_MOE, CTTask

_DENSE = ("dense.", "naming.")
"""What the names of weights begin with that pretraining from masks needs alone."""
_WORTH = 128
"""Tokens that have to be saved by one more call of the language model."""
Stage = Literal["tissues", "slices", "shared", "experts", "together", "whole"]


class ReaderSettings(Settings):
    """What a reader is made of."""

    base: BaseSettings
    adaptation: AdaptationSettings = AdaptationSettings()
    pictures: PictureSettings = PictureSettings()
    """How a volume becomes the slices that the tower takes."""
    experts: TaskExpertSettings | None = None
    """Task experts in the tower; None for a reader of the first stage."""
    lora: LoraSettings | None = LoraSettings()
    """Adapters of the language model; None keeps it as it is."""
    labels: tuple[str, ...] = ()
    """Names of tissues that the tower can be taught to tell, patch by patch, and the projector to put into these words
    (dense pretraining)."""
    lettered: bool = True
    """Whether a closed question is answered, and its choices are weighed, as M3D has it, "B. text"; else by the text of
    a choice, as an open one."""
    blind: bool = False
    """Whether it is the text-only baseline: the same model, without the volume."""

    @model_validator(mode="after")
    def _group_a_task(self) -> "ReaderSettings":
        if self.experts is not None and self.experts.groups != len(CTTask):
            raise ValueError(
                f"experts.groups is {self.experts.groups}; a reader has one group for each of its {len(CTTask)} tasks "
                f"({', '.join(CTTask)}): leave it out"
            )
        return self

    @property
    def function(self) -> dict[str, Any]:
        """What, but for weights, decides what the parts other than experts compute."""
        left_out: Any = {
            "experts": True,
            "labels": True,
            "lora": {"dropout"},
            "base": {"name", "dtype", "seed", "language"},
        }
        told = self.model_dump(mode="json", exclude=left_out)
        if isinstance(self.base, FreshBase):
            language = self.base.language
            told["base"]["language"] = {"fingerprint": language.fingerprint, "layers": language.layers}
        return told


class ReaderConfig(PreTrainedConfig):
    """The settings as transformers keeps them."""

    model_type = TGH_MOE

    def __init__(self, settings: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        # transformers makes configurations without arguments, to compare with
        try:
            self.settings = {} if settings is None else ReaderSettings.model_validate(settings).model_dump(mode="json")
        except ValidationError as error:
            raise WeightsError(
                f"the reader's settings are not those of this version of voxmoe ({problems(error)}); train it again"
            ) from None
        super().__init__(**kwargs)

    @classmethod
    def of(cls, settings: ReaderSettings) -> "ReaderConfig":
        return cls(settings.model_dump(mode="json"))

    @property
    def parsed(self) -> ReaderSettings:
        return ReaderSettings.model_validate(self.settings)


@dataclass
class ReaderOutput(ModelOutput):
    """What a forward pass gives: with answers the loss and its unweighted terms, else the next token's logits."""

    loss: Any = None  # a scalar; accelerate rebuilds outputs by giving all fields as one dictionary in the first
    logits: Float[Tensor, "B K"] | None = None
    losses: dict[str, Float[Tensor, ""]] | None = None


@dataclass(frozen=True)
class Reading:
    """What the language model has read: what is to be read, said or weighed follows from here."""

    last: Float[Tensor, "B 1 O"]
    """What the last token became."""
    layout: Layout
    cache: DynamicCache
    """Of all tokens; whoever goes on from it takes a copy."""

    def of(self, rows: Int[Tensor, " W"]) -> "Reading":
        """These rows, to go on from; gradients flow back to what was read."""
        cache = _copied(self.cache)
        if rows.tolist() == list(range(len(self.last))):
            return replace(self, cache=cache)
        cache.batch_select_indices(rows)
        return Reading(self.last[rows], self.layout.of(rows), cache)


@dataclass(frozen=True)
class View:
    """Volumes as prompts look at them."""

    seen: VolumeFeatures
    whose: Int[Tensor, " B"]
    """Which of those seen each prompt is about."""
    routing: Routing | None
    """By which task experts took part."""
    opening: Reading | None = None
    """Those seen as the language model has read them, where it has (`VolumeReader.opened`)."""


class VolumeReader(OwnWeights):
    """The model. Saved without the language model's own weights, which come from their source at load."""

    config_class = ReaderConfig
    base_model_prefix = "reader"
    main_input_name = "prompt_ids"
    # The loss is a mean over the prompts of a batch: Trainer has to average it over accumulated batches itself.
    accepts_loss_kwargs = False
    parted = True
    """Whether volumes are read once for all prompts about them, and prompts in groups of like length. Not where
    processes share out the language model's weights: they have to call it equally often."""

    def __init__(self, config: ReaderConfig) -> None:
        super().__init__(config)
        settings = config.parsed
        base = load_base(settings.base)
        self.model, self.tokenizer = base.model, base.tokenizer
        self.settings = settings.model_copy(update={"base": base.settings})
        config.settings = self.settings.model_dump(mode="json")
        self.adaptation = adapt(self.model, settings.adaptation, settings.experts)
        _take_over_masks(self.language_model)
        _check_size(self.adaptation.tower.config, settings.pictures)
        if settings.lora is not None:
            add_lora(self.language_model, settings.lora)
        if settings.labels:
            self.dense = torch.nn.Linear(self.adaptation.tower.config.hidden_size, len(settings.labels) + 1)
            self.naming = Naming(self._names(settings.labels))
        self.post_init()

    @property
    def language_model(self) -> Any:
        """The decoder, without the head over the vocabulary."""
        return part(self.model.base_model, self.adaptation.family.language, self.model.config.model_type)

    # ----------------------------------------------------------------- learning

    def learn(self, stage: Stage) -> list[str]:
        """Let learn what a stage trains, and nothing else; the names of what learns.

        `tissues`: the whole tower and projector, from masks alone. `slices`: adapters, too, as a 2D model is
        pretrained. `shared`: attention across slices, projector and adapters (TGH-MoE's first stage). `experts`: task
        experts and routers (its second). `together`: both at once. `whole`: everything but the language model's own
        weights. A blind reader learns its adapters alone. Raises `WeightsError` if the reader has not what the stage
        teaches.
        """
        parts = self.adaptation
        {
            "tissues": parts.learn_shared,
            "slices": parts.learn_shared,
            "shared": parts.learn_shared,
            "experts": parts.learn_experts,
            "together": parts.learn_together,
            "whole": parts.learn_shared if self.settings.experts is None else parts.learn_together,
        }[stage]()
        if stage in ("tissues", "slices", "whole"):
            parts.tower.requires_grad_(True)
        if stage == "tissues":
            self.language_model.requires_grad_(False)
        if self.settings.labels:
            for taught in (self.dense, self.naming):
                taught.requires_grad_(stage in ("tissues", "slices"))
        if self.settings.blind:
            for module in (parts.tower, parts.projector):
                module.requires_grad_(False)
        names = [name for name, parameter in self.named_parameters() if parameter.requires_grad]
        if not names:
            raise WeightsError(f"nothing learns in stage {stage}: the reader is blind and has no adapters (lora)")
        return names

    @torch.no_grad()
    def calibrate(self, batches: Sequence[Mapping[str, Any]]) -> None:
        """Let the task router standardise what it reads, by a sample of batches."""
        prompts = [self._prompt_embedding(batch["prompt_ids"], batch["prompt_mask"]) for batch in batches]
        self.adaptation.task_router.calibrate(torch.cat(prompts))

    @torch.no_grad()
    def _names(self, labels: Sequence[str]) -> Float[Tensor, "L O"]:
        """The mean input embedding of each name's tokens."""
        ids = [self.tokenizer(f" {name}", add_special_tokens=False)["input_ids"] for name in labels]
        return torch.stack([self._embed(torch.tensor([own]))[0].float().mean(dim=0) for own in ids])

    # ----------------------------------------------------------------- sequence

    def look(
        self,
        pixels: UInt8[Tensor, "V D C H W"],
        indices: Shaped[Tensor, "V D"] | None = None,
        present: Bool[Tensor, "V D"] | None = None,
        routing: Routing | None = None,
        volume: Int[Tensor, " R"] | None = None,
    ) -> VolumeFeatures:
        """What the language model gets of volumes, given as pictures of 8 bits with one channel or three; task experts
        take part where a `routing` says to which of them the volumes go, or those that `volume` names."""
        base = self.settings.base
        assert base.mean is not None
        assert base.std is not None
        colours = pixels.expand(-1, -1, 3, -1, -1).float() / 255
        mean, std = (colours.new_tensor(values)[:, None, None] for values in (base.mean, base.std))
        return self.adaptation.features((colours - mean) / std, indices, present, routing, volume)

    def _prompt_embedding(
        self, prompt_ids: Int[Tensor, "B Q"], prompt_mask: Int[Tensor, "B Q"]
    ) -> Float[Tensor, "B O"]:
        return mean_embedding(self._embed(prompt_ids), prompt_mask.bool())

    def route(self, prompt_ids: Int[Tensor, "B Q"], prompt_mask: Int[Tensor, "B Q"]) -> Routing | None:
        """Which task experts the router chooses by the prompts; None for a reader without experts."""
        if self.settings.experts is None:
            return None
        return self.adaptation.route(self._prompt_embedding(prompt_ids, prompt_mask), None)

    def view(
        self,
        prompt_ids: Int[Tensor, "B Q"],
        prompt_mask: Int[Tensor, "B Q"],
        pixels: UInt8[Tensor, "V D C H W"],
        indices: Shaped[Tensor, "V D"] | None = None,
        present: Bool[Tensor, "V D"] | None = None,
        volume: Int[Tensor, " B"] | None = None,
        task: Int[Tensor, " B"] | None = None,
        **kwargs: Any,
    ) -> View:
        """Look at the volumes as the prompts ask for it. With task experts, a volume is seen by every group of experts
        that a prompt about it goes to; in training that of its true `task`, unless the router chooses."""
        whose = torch.arange(len(prompt_ids), device=prompt_ids.device) if volume is None else volume
        experts = self.settings.experts
        if experts is None:
            return View(self.look(pixels, indices, present), whose, None)
        prompts = self._prompt_embedding(prompt_ids, prompt_mask)
        asked = self.adaptation.route(prompts, task)
        if experts.soft:
            apart, first = torch.arange(len(whose), device=whose.device), list(range(len(whose)))
        else:
            pairs = torch.stack([whose, asked.groups[:, 0]], dim=1)
            _, apart = torch.unique(pairs, dim=0, return_inverse=True)
            first = [int((apart == one).nonzero()[0]) for one in range(int(apart.max()) + 1)]
        # Seen once for all prompts of a group; the router learns from every one.
        routing = replace(asked, groups=asked.groups[first], weights=asked.weights[first])
        return View(self.look(pixels, indices, present, routing, whose[first]), apart, routing)

    def _embed(self, ids: Int[Tensor, "B L"]) -> Float[Tensor, "B L O"]:
        embedded: Tensor = self.language_model.get_input_embeddings()(ids)
        return embedded

    def _prompt(
        self,
        prefix_ids: Int[Tensor, "B P"],
        prompt_ids: Int[Tensor, "B Q"],
        prompt_mask: Int[Tensor, "B Q"],
        view: View | None,
    ) -> tuple[Float[Tensor, "B S O"], Layout, DynamicCache | None]:
        """Prefix, volume and prompt as embeddings, and where they stand; of an opened volume the prompt alone, all that
        stands there, and what was read."""
        if view is not None and view.opening is not None:
            own = view.opening.of(view.whose)
            return self._embed(prompt_ids), own.layout.followed_by(prompt_mask), own.cache
        parts, present, tokens = [self._embed(prefix_ids), self._embed(prompt_ids)], None, 0
        if not self.settings.blind:
            if view is None:
                raise ValueError("the reader sees volumes: give `pixels`, or what `view` gives")
            parts.insert(1, view.seen.fused.tokens[view.whose].to(parts[0].dtype))
            present = view.seen.present[view.whose]
            tokens = view.seen.tokens.shape[2]
        family = self.adaptation.family
        layout = lay_out(torch.ones_like(prefix_ids), prompt_mask, present, tokens, family.mutual, family.placed)
        layout, embeds = gathered(layout, torch.cat(parts, dim=1))
        return embeds, layout, None

    def _decode(self, embeds: Tensor, layout: Layout, cache: DynamicCache | None = None) -> Tensor:
        """The hidden states of the last `embeds` of a layout; what came before them is in the cache.

        Raises `WeightsError` for a sequence longer than the language model's positions (families that place tokens
        along several axes need fewer of them than tokens).
        """
        positions = layout.positions[:, :, -embeds.shape[1] :]
        room, length = getattr(self.language_model.config, "max_position_embeddings", None), layout.mask.shape[1]
        if room is not None and length > room and len(positions) == 1:
            raise WeightsError(
                f"a sequence of {length:,} tokens, slices and words, is longer than the {room:,} positions of the "
                "language model: let model.pictures.depth or model.adaptation.pool give fewer, or take another base"
            )
        seen: Any = layout.mask
        whole = embeds.shape[1] == layout.mask.shape[1]
        if layout.blocks is not None and whole:  # what comes later sees all that came before, as text does
            seen = create_masks_for_generate(
                self.language_model.config, embeds, layout.mask, cache, block_sequence_ids=layout.blocks
            )
        kept = {} if cache is None else {"past_key_values": cache, "use_cache": True}
        hidden: Tensor = self.language_model(
            inputs_embeds=embeds,
            attention_mask=seen,
            position_ids=positions if len(positions) > 1 else positions[0],
            **({"use_cache": False} | kept),
        ).last_hidden_state
        return hidden

    def _logits(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self.model.get_output_embeddings()(hidden)
        return logits.float()

    def expert_cost(self, slices: int) -> ExpertCost | None:
        """What the task experts add, with one volume of so many slices; None without them."""
        if self.settings.experts is None:
            return None
        tower = self.adaptation.tower
        patch, others = tower.config.patch_size, entry_of(tower, TOWERS)[1].others
        places = self.settings.pictures.size // (patch if isinstance(patch, int) else patch[0])
        return self.adaptation.expert_cost(slices * (places**2 + others))

    def forward(
        self,
        prefix_ids: Int[Tensor, "B P"],
        prompt_ids: Int[Tensor, "B Q"],
        prompt_mask: Int[Tensor, "B Q"],
        view: View | None = None,
        answer_ids: Int[Tensor, "B A"] | None = None,
        answer_mask: Int[Tensor, "B A"] | None = None,
        shares: Float[Tensor, "S L N"] | None = None,
        **volumes: Any,
    ) -> ReaderOutput:
        """The loss of the answers, or without them the logits of their first tokens.

        Volumes are given as the method `view` takes them (`pixels`, ..), or as what it made of them; a blind reader
        takes none. With `shares`, how much of each patch of all slices each label covers, tower and projector also
        learn to tell these, or these alone where there are no answers.
        """
        view = self._viewed(prompt_ids, prompt_mask, view, volumes)
        prompts = prefix_ids, prompt_ids, prompt_mask
        losses: dict[str, Tensor] = {}
        if answer_ids is not None and answer_mask is not None:
            losses["text"] = self._text_loss(*prompts, answer_ids, answer_mask, view)
        elif shares is None:
            return ReaderOutput(logits=self._logits(self._decode(*self._prompt(*prompts, view))[:, -1]))
        if view is not None and view.routing is not None and view.routing.tasks is not None:
            losses["routing"] = self.adaptation.routing_loss(view.routing)
        if view is not None and shares is not None:
            losses["dense"] = _dense_loss(self.dense(view.seen.slices), shares)
            losses["naming"] = self.naming.loss(view.seen.tokens[view.seen.present], most_of(shares, view.seen.sizes))
        return ReaderOutput(loss=sum(losses.values()), losses=losses)

    def _viewed(
        self, prompt_ids: Tensor, prompt_mask: Tensor, view: View | None, volumes: Mapping[str, Any]
    ) -> View | None:
        if self.settings.blind or view is not None or volumes.get("pixels") is None:
            return view
        return self.view(prompt_ids, prompt_mask, **volumes)

    def _text_loss(
        self,
        prefix_ids: Int[Tensor, "B P"],
        prompt_ids: Int[Tensor, "B Q"],
        prompt_mask: Int[Tensor, "B Q"],
        answer_ids: Int[Tensor, "B A"],
        answer_mask: Int[Tensor, "B A"],
        view: View | None,
    ) -> Float[Tensor, ""]:
        """Next-token loss: the mean over an answer's tokens, then over the batch, so that a report does not outweigh
        what is answered in a word. Prompts of like length are read together, not all with the longest."""
        asked, said = prompt_mask.sum(dim=1), answer_mask.sum(dim=1)
        view = None if view is None else self._opened(prefix_ids, view)
        total = prompt_ids.new_zeros((), dtype=torch.float32)
        for rows in self._read_together(asked.tolist(), said.tolist()):
            at = torch.tensor(rows, device=prompt_ids.device)
            front, end = prompt_ids.shape[1] - int(asked[at].max()), int(said[at].max())
            seen = None if view is None else replace(view, whose=view.whose[at])
            embeds, layout, cache = self._prompt(prefix_ids[at], prompt_ids[at, front:], prompt_mask[at, front:], seen)
            answers, mask = answer_ids[at, :end], answer_mask[at, :end]
            before = embeds.shape[1] - 1
            hidden = self._decode(torch.cat([embeds, self._embed(answers)], dim=1), layout.followed_by(mask), cache)
            own, losses = self._token_losses(hidden[:, before:-1], answers, mask)
            total = total + (losses / mask.sum(dim=1)[own]).sum()
        return total / len(answer_mask)

    @property
    def _freely(self) -> bool:
        """Whether the language model may be called as often, and for whichever prompts, as is fastest."""
        lora = self.settings.lora
        drops = self.training and lora is not None and lora.dropout > 0  # drawn in the order in which prompts are read
        return self.parted and not (drops and any(weight.requires_grad for weight in self._adapters))

    @property
    def _adapters(self) -> list[nn.Parameter]:
        return [weight for name, weight in self.language_model.named_parameters() if ".lora_" in name]

    def _read_together(self, asked: Sequence[int], said: Sequence[int]) -> list[list[int]]:
        """Which prompts the language model reads at once."""
        return alike(asked, said, _WORTH) if self._freely else [list(range(len(asked)))]

    def opened(self, prefix_ids: Int[Tensor, "B P"], view: View) -> View:
        """With the volumes as the language model reads them before any prompt, for all prompts about them; the view as
        it is where that is not possible.

        It is where a token sees all that came before it and nothing else, so not in families whose volumes see
        themselves or the prompt both ways, nor where a window counts tokens, padding among them; and where what was
        read is kept, so not in training with gradient checkpointing.
        """
        cache = DynamicCache(config=self.language_model.config)
        forgets = self.training and self.language_model.is_activation_checkpointing
        causal = self.adaptation.family.mutual == "nothing" and not any(cache.is_sliding)
        if view.opening is not None or forgets or not causal:
            return view
        volumes = torch.arange(len(view.seen.tokens), device=prefix_ids.device)
        none = prefix_ids.new_zeros(len(volumes), 0)
        before = prefix_ids[:1].expand(len(volumes), -1)
        embeds, layout, _ = self._prompt(before, none, none, replace(view, whose=volumes))
        return replace(view, opening=Reading(self._decode(embeds, layout, cache)[:, -1:], layout, cache))

    def _opened(self, prefix_ids: Int[Tensor, "B P"], view: View) -> View:
        """With the volumes read once where that saves enough."""
        tokens = prefix_ids.shape[1] + math.prod(view.seen.tokens.shape[1:3])
        saved = (len(view.whose) - len(view.seen.tokens)) * tokens
        return self.opened(prefix_ids, view) if self._freely and saved > _WORTH else view

    def _token_losses(
        self, hidden: Float[Tensor, "W A O"], answer_ids: Int[Tensor, "W A"], answer_mask: Int[Tensor, "W A"]
    ) -> tuple[Int[Tensor, " N"], Float[Tensor, " N"]]:
        """Of every token that is there, the number of its answer and the negative logarithm of its probability."""
        rows, places = answer_mask.nonzero(as_tuple=True)
        return rows, F.cross_entropy(self._logits(hidden[rows, places]), answer_ids[rows, places], reduction="none")

    @torch.no_grad()
    def read(
        self,
        prefix_ids: Int[Tensor, "B P"],
        prompt_ids: Int[Tensor, "B Q"],
        prompt_mask: Int[Tensor, "B Q"],
        view: View | None = None,
        **volumes: Any,
    ) -> Reading:
        """Let the language model read prompts with their volumes, for `generate` and `log_likelihoods`."""
        view = self._viewed(prompt_ids, prompt_mask, view, volumes)
        view = None if view is None else self._opened(prefix_ids, view)
        embeds, layout, cache = self._prompt(prefix_ids, prompt_ids, prompt_mask, view)
        cache = DynamicCache(config=self.language_model.config) if cache is None else cache
        return Reading(self._decode(embeds, layout, cache)[:, -1:], layout, cache)

    @torch.no_grad()
    def log_likelihoods(
        self,
        prefix_ids: Int[Tensor, "B P"],
        prompt_ids: Int[Tensor, "B Q"],
        prompt_mask: Int[Tensor, "B Q"],
        answer_ids: Int[Tensor, "W A"],
        answer_mask: Int[Tensor, "W A"],
        whose: Int[Tensor, " W"],
        view: View | None = None,
        read: Reading | None = None,
        **volumes: Any,
    ) -> Float[Tensor, " W"]:
        """The natural logarithm of how likely each answer is, all its tokens together, after the prompt that `whose`
        names. A prompt is read once for all its answers, or not at all where it has been `read`."""
        read = (read or self.read(prefix_ids, prompt_ids, prompt_mask, view, **volumes)).of(whose)
        hidden = [read.last]
        if answer_ids.shape[1] > 1:
            layout = read.layout.followed_by(answer_mask[:, :-1])
            hidden.append(self._decode(self._embed(answer_ids[:, :-1]), layout, read.cache))
        rows, losses = self._token_losses(torch.cat(hidden, dim=1), answer_ids, answer_mask)
        return losses.new_zeros(len(whose)).index_add(0, rows, -losses)

    @torch.no_grad()
    def generate(
        self,
        prefix_ids: Int[Tensor, "B P"],
        prompt_ids: Int[Tensor, "B Q"],
        prompt_mask: Int[Tensor, "B Q"],
        view: View | None = None,
        max_new_tokens: int = 128,
        read: Reading | None = None,
        **volumes: Any,
    ) -> Int[Tensor, "B L"]:
        """Token ids of the likeliest answers, word by word; what follows an answer's end is its last token again."""
        read = read or self.read(prefix_ids, prompt_ids, prompt_mask, view, **volumes)
        last, layout, cache = read.last, read.layout, _copied(read.cache)
        ends = torch.tensor(self._ends, device=last.device)
        said: list[Tensor] = []
        over = torch.zeros(len(last), dtype=torch.bool, device=last.device)
        while not over.all():
            words = self._logits(last[:, -1]).argmax(dim=-1)
            said.append(torch.where(over, ends[0], words))
            over |= torch.isin(words, ends)
            if len(said) == max_new_tokens:
                break
            layout = layout.followed_by(layout.mask.new_ones(len(last), 1))
            last = self._decode(self._embed(words[:, None]), layout, cache)
        return torch.stack(said, dim=1)

    def unended(self, ids: Int[Tensor, "B L"]) -> Bool[Tensor, " B"]:
        """Which of the answers that `generate` gave have no end: they were cut."""
        return ~torch.isin(ids, ids.new_tensor(self._ends)).any(dim=1)

    @property
    def _ends(self) -> list[int]:
        """The tokens that end an answer: the one that training ends it with first, then what the model knows."""
        told = getattr(self.model, "generation_config", None)
        known = None if told is None else told.eos_token_id
        others = known if isinstance(known, list) else [] if known is None else [known]
        return list(dict.fromkeys([self.tokenizer.eos_token_id, *others]))

    # ------------------------------------------------------------------- saving

    def of_start(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Without what dense pretraining needs alone, unless it goes on."""
        return state if self.settings.labels else {k: t for k, t in state.items() if not k.startswith(_DENSE)}

    def own_state(self, state: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """All weights but those that the language model brings along; out of `state` where that is given."""
        decoder = part(self.model.base_model, self.adaptation.family.language, self.model.config.model_type)
        (language,) = (f"{name}." for name, module in self.named_modules() if module is decoder)
        head = self.model.get_output_embeddings()
        (words,) = (f"{name}." for name, module in self.named_modules() if module is head)
        return {
            name: tensor
            for name, tensor in (self.state_dict() if state is None else state).items()
            if ".lora_" in name or not name.startswith((language, words))
        }


def _take_over_masks(language_model: Any) -> None:
    """PaliGemma's decoder expects a mask that its whole model makes: by itself it would let an answer see its own end.
    Here the reader makes it (`VolumeReader._decode`)."""
    if getattr(language_model.config, "use_bidirectional_attention", False):
        language_model.config.use_bidirectional_attention = False
        for layer in language_model.layers:
            layer.self_attn.is_causal = True


def _copied(cache: DynamicCache) -> DynamicCache:
    """One that grows by itself; the tensors are the same, as nothing writes into them."""
    own = copy(cache)
    own.layers = [copy(layer) for layer in cache.layers]
    return own


def _dense_loss(logits: Float[Tensor, "S N L1"], shares: Float[Tensor, "S L P"]) -> Float[Tensor, ""]:
    """Cross-entropy of what a patch is told to show with how much of it each label covers, the first being none; mean
    over patches, weighted by `rarity`."""
    if shares.shape[2] != logits.shape[1]:
        raise WeightsError(f"labels cover {shares.shape[2]} patches, and the tower sees {logits.shape[1]} of a slice")
    truth = torch.cat([1 - shares.sum(dim=1, keepdim=True), shares], dim=1).clamp(0, 1).transpose(1, 2)
    lost = -(truth * F.log_softmax(logits.float(), dim=-1)).sum(dim=-1)
    return (lost * rarity((truth[..., 1:] / LEAST).clamp(max=1))).mean()


def _check_size(tower: Any, pictures: PictureSettings) -> None:
    """Raise `WeightsError` if the tower takes pictures of one size and gets another."""
    size = getattr(tower, "image_size", None)  # Qwen2.5-VL takes any multiple of its patches
    wanted = size[0] if isinstance(size, list | tuple) else size
    if wanted not in (None, pictures.size):
        raise WeightsError(
            f"pictures.size is {pictures.size}; this model's tower takes pictures of {wanted} x {wanted} pixels"
        )


AutoConfig.register(TGH_MOE, ReaderConfig)
AutoModel.register(ReaderConfig, VolumeReader)

"""mpLLM assembled: encode each modality, fuse by experts that the prompt weighs, splice, decode (mpLLM, section 3).

The sequence is BOS, vision tokens, question, EOS, answer, EOS. Questions are padded on the left and answers on the
right, so the question always ends at the same place: the heads read there, and logits are computed only from there
on.

Shapes: B batch, M modality, D H W voxels of the model's grid, T vision token, K vision width, Q question token, A
answer token, S = 1 + T + Q + A, O language-model width, V vocabulary, C cells of a token in the chart, R no part and
each, J part.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from pydantic import ValidationError, model_validator
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from transformers import AutoConfig, AutoModel, PreTrainedConfig
from transformers.utils import ModelOutput

from voxmoe.errors import WeightsError
from voxmoe.model.chart import ChartReader, ChartSettings, chart_of
from voxmoe.model.coarse_map import CoarseMap
from voxmoe.model.concatenation import Med3DVLMSettings
from voxmoe.model.connector import ConnectorSettings, make_connector, two_streams
from voxmoe.model.encoder import EncoderSettings, make_encoder, start_encoder
from voxmoe.model.experts import ExpertConnector, ExpertSettings, SingleSettings
from voxmoe.model.features import Fused, VisionFeatures
from voxmoe.model.gaze import Gaze, GazeSettings
from voxmoe.model.grounding import Grounding, GroundingSettings, find_parts, start_grounding
from voxmoe.model.heads import LossWeights, TaskHeads, head_losses
from voxmoe.model.language import LanguageSettings, add_lora, load_language_model
from voxmoe.model.own_weights import OwnWeights
from voxmoe.model.pyramid import PyramidEncoder, PyramidSettings
from voxmoe.model.vision import VisionSettings
from voxmoe.model.weights import digest
from voxmoe.settings import Settings, problems
from voxmoe.vocabulary import MPLLM, Modality

_STUDY = ("images", "tokens", "cls", "low", "chart", "present")
"""The arguments that a study is given as."""


class ModelSettings(Settings):
    """What the model is made of. Without `vision` it is the text-only baseline: the same model, blind."""

    vision: EncoderSettings | None = VisionSettings()
    grounding: GroundingSettings | None = None
    """The decoder that tells where the lesions are, for a pyramid that was trained with it."""
    chart: ChartSettings | None = None
    """Lets the language model read what the decoder finds, beside the fused tokens."""
    gaze: GazeSettings | None = None
    """Lets the heads look at the fused tokens by themselves, beside what the language model reads in them."""
    connector: ConnectorSettings = ExpertSettings()
    language: LanguageSettings = LanguageSettings()
    loss: LossWeights = LossWeights()
    profiles: tuple[str, ...] = ()
    """The profiles whose labels the model was trained on, the one that it is mostly meant for first."""

    @model_validator(mode="after")
    def _fitting(self) -> "ModelSettings":
        if self.vision is not None and isinstance(self.connector, Med3DVLMSettings):
            two_streams(self.vision)
        if self.grounding is not None and not isinstance(self.vision, PyramidSettings):
            raise ValueError("grounding reads the stages of a pyramid: set vision.kind to pyramid")
        if self.gaze is not None and self.vision is None:
            raise ValueError("gaze looks at vision tokens: set vision, or leave gaze out")
        if self.chart is not None and self.grounding is None:
            raise ValueError("chart shows what the decoder finds: set grounding, or leave chart out")
        one_a_place = isinstance(self.connector, ExpertSettings | SingleSettings)
        for name, wanted in (("chart", self.chart is not None), ("loss.coarse_map", self.mapped)):
            if wanted and not one_a_place:
                raise ValueError(
                    f"{name} takes one token a place, which the connector {self.connector.kind} does not give: set "
                    f"connector.kind to experts or single, or leave {name} out"
                )
        return self

    @property
    def mapped(self) -> bool:
        """Whether a coarse map is learnt."""
        return self.vision is not None and self.loss.coarse_map > 0


class MpLLMConfig(PreTrainedConfig):
    """The settings as transformers keeps them: one dictionary a part."""

    model_type = MPLLM

    def __init__(self, settings: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        try:
            self.settings = ModelSettings.model_validate(settings or {}).model_dump(mode="json")
        except ValidationError as error:
            raise WeightsError(
                f"the model's settings are not those of this version of voxmoe ({problems(error)}); train it again"
            ) from None
        super().__init__(**kwargs)

    @classmethod
    def of(cls, settings: ModelSettings) -> "MpLLMConfig":
        return cls(settings.model_dump(mode="json"))

    @property
    def parsed(self) -> ModelSettings:
        return ModelSettings.model_validate(self.settings)


@dataclass
class MpLLMOutput(ModelOutput):
    """What a forward pass gives. `losses` are the unweighted terms of equation (2); with them there are no logits."""

    loss: Any = None  # a scalar; accelerate rebuilds outputs by giving all fields as one dictionary in the first
    logits: Float[Tensor, "B A V"] | None = None
    heads: dict[str, Float[Tensor, "B C"]] | None = None
    expert_weights: Float[Tensor, "B N"] | None = None
    told: Float[Tensor, "B T J"] | None = None
    losses: dict[str, Float[Tensor, ""]] | None = None


class _Prompt(NamedTuple):
    """What the language model reads before it answers, as embeddings with their mask; what it has made of the question
    alone, if that is read by any part; and the vision part, if there is one."""

    embeds: Float[Tensor, "B P O"]
    mask: Int[Tensor, "B P"]
    asked: Float[Tensor, "B O"] | None = None
    fused: Fused | None = None
    unmarked: Fused | None = None
    """As the connector gives it, before any chart is added."""


class MpLLM(OwnWeights):
    """The model. Saved without the language model's own weights, which come from their source at load."""

    config_class = MpLLMConfig
    base_model_prefix = "mpllm"
    main_input_name = "question_ids"
    # The loss is a mean over the samples of a batch: Trainer has to average it over accumulated batches itself.
    accepts_loss_kwargs = False

    def __init__(self, config: MpLLMConfig, start: bool = True) -> None:
        """A model to be trained; with `start` false, the encoder is made without the weights that it starts from."""
        super().__init__(config)
        settings = config.parsed
        self.language_model, language = load_language_model(settings.language)
        vision = settings.vision
        if vision is not None:
            self.vision, vision = start_encoder(vision) if start else (make_encoder(vision), vision)
        grounding = settings.grounding
        if grounding is not None and isinstance(vision, PyramidSettings):
            self.grounding, grounding = (
                start_grounding(grounding, vision) if start else (Grounding(grounding, vision), grounding)
            )
            self.grounding.requires_grad_(False)
        self.settings = settings.model_copy(update={"language": language, "vision": vision, "grounding": grounding})
        config.settings = self.settings.model_dump(mode="json")
        if language.lora is not None:
            add_lora(self.language_model, language.lora)
        width = self.language_model.config.hidden_size
        self.heads = TaskHeads(width)
        if vision is not None:
            self.connector = make_connector(settings.connector, len(Modality), vision, width)
            if settings.chart is not None:
                self.chart = ChartReader(settings.chart, vision.tokens, width)
            if settings.gaze is not None:
                self.gaze = Gaze(settings.gaze, width)
            if settings.mapped:
                self.coarse_map = CoarseMap(width, vision.tokens)
        self.post_init()

    def start_from(self, place: str | os.PathLike[str]) -> list[str]:
        """As `OwnWeights.start_from`; raises `WeightsError`, too, if it brings an encoder or decoder other than the
        weights that the settings name."""
        lacks = super().start_from(place)
        for part, settings in (("vision", self.settings.vision), ("grounding", self.settings.grounding)):
            if settings is None or settings.fingerprint is None:
                continue
            found = digest(getattr(self, part).state_dict())
            if found != settings.fingerprint:
                raise WeightsError(
                    f"{place}: its {part} ({found}) is not that of model.{part}.weights={settings.weights} "
                    f"({settings.fingerprint}): set model.{part}.weights to null to go on with the start's, or leave "
                    "start out"
                )
        return lacks

    # ------------------------------------------------------------------ vision

    @property
    def reads_prompt(self) -> bool:
        """Whether any part reads what the language model has made of the question alone."""
        return self.settings.vision is not None and (self.connector.reads_prompt or self.settings.gaze is not None)

    def encode_images(self, images: Float[Tensor, "B M D H W"], present: Bool[Tensor, "B M"]) -> VisionFeatures:
        """Encode the modalities that are present, each by itself; the others' tokens stay zero. With a chart, find in
        all of them together what it shows."""
        if self.settings.chart is None:
            return VisionFeatures.spread(self.vision(images[present][:, None]), present)
        return self.find(images, present)[0]

    def find(
        self, images: Float[Tensor, "B M D H W"], present: Bool[Tensor, "B M"]
    ) -> tuple[VisionFeatures, Float[Tensor, "B R D H W"]]:
        """What `encode_images` gives, and from the same pass the probability of each part at each voxel (`find_parts`);
        of a model with a decoder."""
        assert isinstance(self.vision, PyramidEncoder)
        seen, parts = find_parts(self.vision, self.grounding, images, present)
        chart = None if self.settings.chart is None else chart_of(parts)
        return replace(VisionFeatures.spread(seen, present), chart=chart), parts

    @torch.no_grad()
    def look(self, features: VisionFeatures) -> dict[str, Tensor]:
        """What `forward` and `generate` take of studies about which several questions are asked, computed once.

        That is what each expert makes of them, where it does not depend on the question, else their features.
        """
        if isinstance(self.connector, ExpertConnector) and self.connector.projects_ahead:
            projected = {"projected": self.connector.project(features)}
            return projected if features.chart is None else {**projected, "chart": features.chart}
        return features.inputs()

    @torch.no_grad()
    def listen(self, question_ids: Int[Tensor, "B Q"], question_mask: Int[Tensor, "B Q"]) -> dict[str, Tensor]:
        """What `forward` and `generate` take of questions that are asked about several studies, computed once: what
        connector and gaze read of them, if they read anything."""
        if not self.reads_prompt:
            return {}
        return {"prompt": self._prompt_hidden(question_ids, question_mask)}

    def expert_weights(
        self, question_ids: Int[Tensor, "B Q"], question_mask: Int[Tensor, "B Q"]
    ) -> Float[Tensor, "B N"]:
        """The high-level router on the language model's last hidden state of the question alone.

        Raises `WeightsError` for a model without experts.
        """
        if self.settings.vision is None or not isinstance(self.connector, ExpertConnector):
            raise WeightsError("this model has no experts, so no question weighs them")
        return self.connector.weights(self._prompt_hidden(question_ids, question_mask))

    @torch.no_grad()
    def _prompt_hidden(
        self, question_ids: Int[Tensor, "B Q"], question_mask: Int[Tensor, "B Q"]
    ) -> Float[Tensor, "B O"]:
        """No gradient flows through this pass: the router learns, the language model learns from the answers."""
        return self._decode(self._embed(question_ids), question_mask)[:, -1]

    @torch.no_grad()
    def calibrate(self, batches: Sequence[Mapping[str, Any]]) -> None:
        """Measure what connector, gaze and heads read on a sample of batches, and standardise it from now on."""
        if self.reads_prompt:
            prompts = torch.cat(
                [self._prompt_hidden(batch["question_ids"], batch["question_mask"]) for batch in batches]
            )
            self.connector.calibrate(prompts.float())
            if self.settings.gaze is not None:
                self.gaze.standardise.measure(prompts.float())
        ends = []
        for batch in batches:
            features = self._features(*map(batch.get, _STUDY))
            prompt = self._prompt(batch["question_ids"], batch["question_mask"], features)
            ends.append(self._decode(prompt.embeds, prompt.mask)[:, -1])
        self.heads.standardise.measure(torch.cat(ends).float())

    # ---------------------------------------------------------------- sequence

    def _embed(self, ids: Int[Tensor, "B L"]) -> Float[Tensor, "B L O"]:
        embedded: Tensor = self.language_model.get_input_embeddings()(ids)
        return embedded

    def _start(self, question_ids: Int[Tensor, "B Q"]) -> Int[Tensor, "B 1"] | Int[Tensor, "B 0"]:
        """BOS, or nothing for a language model that knows none."""
        bos = self.language_model.config.bos_token_id
        return question_ids.new_full((len(question_ids), 0 if bos is None else 1), bos or 0)

    def _typed(self, embeds: Float[Tensor, "B S O"]) -> Float[Tensor, "B S O"]:
        """In the type of the language model's weights, unless autocast sees to that."""
        if torch.is_autocast_enabled(embeds.device.type):
            return embeds
        return embeds.to(self.language_model.dtype)

    def _decode(self, embeds: Float[Tensor, "B S O"], mask: Int[Tensor, "B S"]) -> Float[Tensor, "B S O"]:
        """The last hidden states; raises `WeightsError` for a sequence longer than the language model's positions."""
        room = getattr(self.language_model.config, "max_position_embeddings", None)
        if room is not None and embeds.shape[1] > room:
            raise WeightsError(
                f"a sequence of {embeds.shape[1]:,} tokens, images and words, is longer than the {room:,} positions of "
                f"{self.settings.language.name}: let model.vision.pool or model.connector give fewer tokens, or take "
                "another language model"
            )
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        hidden: Tensor = self.language_model.base_model(
            inputs_embeds=self._typed(embeds), attention_mask=mask, position_ids=positions, use_cache=False
        ).last_hidden_state
        return hidden

    def _prompt(
        self,
        question_ids: Int[Tensor, "B Q"],
        question_mask: Int[Tensor, "B Q"],
        features: VisionFeatures | None,
        projected: Float[Tensor, "B N T O"] | None = None,
        chart: Float[Tensor, "B T C"] | None = None,
        prompt: Float[Tensor, "B O"] | None = None,
    ) -> _Prompt:
        """BOS, vision tokens and question."""
        bos = self._start(question_ids)
        start, question = self._embed(bos), self._embed(question_ids)
        if self.settings.vision is None:
            return _Prompt(torch.cat([start, question], dim=1), torch.cat([torch.ones_like(bos), question_mask], dim=1))
        if prompt is None and self.reads_prompt:
            prompt = self._prompt_hidden(question_ids, question_mask)
        if projected is not None and isinstance(self.connector, ExpertConnector):
            fused = self.connector.mix(projected, prompt)
        elif features is not None:
            fused = self.connector(features, prompt)
        else:
            raise ValueError(
                "the model sees images: give `images`, `present`, or `tokens`, `cls`, `present`, or what `look` gives"
            )
        unmarked = fused
        if self.settings.chart is not None:
            fused = self._with_chart(fused, chart if features is None else features.chart)
        embeds = torch.cat([start, fused.tokens, question], dim=1)
        mask = torch.cat([torch.ones_like(bos), fused.mask.to(question_mask.dtype), question_mask], dim=1)
        return _Prompt(embeds, mask, prompt, fused, unmarked)

    def _with_chart(self, fused: Fused, chart: Float[Tensor, "B T C"] | None) -> Fused:
        if chart is None:
            raise ValueError("the model reads a chart: give `chart` with what else was computed before")
        read: Fused = self.chart(chart.to(fused.tokens.dtype), fused)
        return read

    def _features(
        self,
        images: Tensor | None,
        tokens: Tensor | None,
        cls: Tensor | None,
        low: Tensor | None,
        chart: Tensor | None,
        present: Tensor | None,
    ) -> VisionFeatures | None:
        if self.settings.vision is None or present is None:
            return None
        if tokens is not None and cls is not None:
            return VisionFeatures(tokens, cls, present, low, chart)
        return self.encode_images(images, present) if images is not None else None

    def forward(
        self,
        question_ids: Int[Tensor, "B Q"],
        question_mask: Int[Tensor, "B Q"],
        images: Float[Tensor, "B M D H W"] | None = None,
        tokens: Float[Tensor, "B M T K"] | None = None,
        cls: Float[Tensor, "B M K"] | None = None,
        low: Float[Tensor, "B M U L"] | None = None,
        chart: Float[Tensor, "B T C"] | None = None,
        present: Bool[Tensor, "B M"] | None = None,
        projected: Float[Tensor, "B N T O"] | None = None,
        prompt: Float[Tensor, "B O"] | None = None,
        answer_ids: Int[Tensor, "B A"] | None = None,
        answer_mask: Int[Tensor, "B A"] | None = None,
        targets: dict[str, Int[Tensor, "B *C"]] | None = None,
        target_weights: dict[str, Float[Tensor, "B *W"]] | None = None,
        filled: Float[Tensor, "B T J"] | None = None,
        heads_alone: bool = False,
        **kwargs: Any,
    ) -> MpLLMOutput:
        """Logits of the answer's tokens and of the heads, or with `targets` the loss of equation (2) instead of the
        answer's logits, which are then computed only for tokens that are not padding. `target_weights` multiply the
        terms of the heads' losses; `filled` is what a coarse map learns from.

        The study is given as voxels (`images`, 0 to 1) or as features computed before (`tokens`, `cls`, `low` from an
        encoder with two streams, and `chart` for a model that reads one), in both cases with the modalities that are
        `present`, or as what `look` gives; the question may come with what `listen` gives.
        Without an answer, `logits` holds those of its first token alone; `heads_alone` leaves them out.
        """
        if targets is not None and self.settings.loss.text == 0:
            answer_ids = answer_mask = None  # nothing is learnt from it
        features = self._features(images, tokens, cls, low, chart, present)
        asked = self._prompt(question_ids, question_mask, features, projected, chart, prompt)
        embeds, mask, end = asked.embeds, asked.mask, asked.embeds.shape[1] - 1
        if answer_ids is not None and answer_mask is not None:
            embeds = torch.cat([embeds, self._embed(answer_ids)], dim=1)
            mask = torch.cat([mask, answer_mask], dim=1)
        hidden = self._decode(embeds, mask)
        heads = self._say(hidden[:, end], asked)
        answered = hidden[:, end:-1] if answer_ids is not None else hidden[:, end:]
        output = MpLLMOutput(heads=heads, expert_weights=None if asked.fused is None else asked.fused.weights)
        if self.settings.mapped and asked.unmarked is not None and targets is None:
            output.told = self.coarse_map(asked.unmarked.tokens)
        if heads_alone:
            return output
        if targets is None:
            output.logits = self.language_model.get_output_embeddings()(answered)
            return output
        output.losses = head_losses(heads, targets, target_weights)
        if answer_ids is not None and answer_mask is not None:
            output.losses["text"] = self._text_loss(answered, answer_ids, answer_mask)
        if asked.unmarked is not None:
            output.losses |= self._map_loss(asked.unmarked, filled)
        factors = self.settings.loss.model_dump()
        output.loss = sum(factors[name] * loss for name, loss in output.losses.items())
        return output

    def _say(self, end: Float[Tensor, "B O"], prompt: _Prompt) -> dict[str, Float[Tensor, "B C"]]:
        """What the heads say, who read the end of the question and with a gaze what it sees."""
        if self.settings.gaze is None:
            said: dict[str, Tensor] = self.heads(end)
            return said
        return self.heads.read(self.gaze(prompt.asked, prompt.fused, self.heads.standardise(end)))

    def _map_loss(self, fused: Fused, filled: Float[Tensor, "B T J"] | None) -> dict[str, Float[Tensor, ""]]:
        """What a coarse map learns from masks, if there is one."""
        if not self.settings.mapped:
            return {}
        if filled is None:
            raise ValueError("the model learns a coarse map: give `filled` with the features")
        return {"coarse_map": self.coarse_map.loss(fused.tokens, filled)}

    def say_at_sight(
        self,
        features: VisionFeatures,
        owner: Int[Tensor, " Q"],
        asked: Float[Tensor, "Q O"],
        fused: Fused | None = None,
    ) -> dict[str, Float[Tensor, "Q C"]]:
        """What the heads of a model with a gaze say to questions of which the language model has read nothing but the
        words (`listen`), each about the study of the number `owner`; `fused` is what the connector gives for them."""
        if fused is None:
            fused = self.connector.for_questions(features, owner, asked)
        if self.settings.chart is not None:
            fused = self._with_chart(fused, None if features.chart is None else features.chart[owner])
        return self.heads.read(self.gaze(asked, fused))

    def losses_at_sight(
        self,
        features: VisionFeatures,
        owner: Int[Tensor, " Q"],
        asked: Float[Tensor, "Q O"],
        targets: dict[str, Int[Tensor, "Q *C"]],
        target_weights: dict[str, Float[Tensor, "Q *W"]] | None = None,
        filled: Float[Tensor, "V T J"] | None = None,
    ) -> Float[Tensor, ""]:
        """The heads' share of equation (2), and that of a coarse map, by what they say at sight."""
        fused = self.connector.for_questions(features, owner, asked)
        losses = head_losses(self.say_at_sight(features, owner, asked, fused), targets, target_weights)
        losses |= self._map_loss(fused, None if filled is None else filled[owner])
        factors = self.settings.loss.model_dump()
        return torch.stack([factors[name] * loss for name, loss in losses.items()]).sum()

    def _text_loss(
        self,
        answered: Float[Tensor, "B A O"],
        answer_ids: Int[Tensor, "B A"],
        answer_mask: Int[Tensor, "B A"],
    ) -> Float[Tensor, ""]:
        """Next-token loss: the mean over an answer's tokens, then over the batch, so that batches can be split
        freely."""
        rows, places = answer_mask.nonzero(as_tuple=True)
        logits = self.language_model.get_output_embeddings()(answered[rows, places])
        losses = F.cross_entropy(logits.float(), answer_ids[rows, places], reduction="none")
        return (losses / answer_mask.sum(dim=1)[rows]).sum() / len(answer_mask)

    @torch.no_grad()
    def generate(
        self,
        question_ids: Int[Tensor, "B Q"],
        question_mask: Int[Tensor, "B Q"],
        images: Float[Tensor, "B M D H W"] | None = None,
        tokens: Float[Tensor, "B M T K"] | None = None,
        cls: Float[Tensor, "B M K"] | None = None,
        low: Float[Tensor, "B M U L"] | None = None,
        chart: Float[Tensor, "B T C"] | None = None,
        present: Bool[Tensor, "B M"] | None = None,
        projected: Float[Tensor, "B N T O"] | None = None,
        prompt: Float[Tensor, "B O"] | None = None,
        **kwargs: Any,
    ) -> Int[Tensor, "B L"]:
        """Token ids of the answers, without the question. `kwargs` go to the language model's `generate`.

        An answer ends at the token that closes the question, as in training, or where the language model ends by
        itself.
        """
        features = self._features(images, tokens, cls, low, chart, present)
        embeds, mask = self._prompt(question_ids, question_mask, features, projected, chart, prompt)[:2]
        kwargs.setdefault("do_sample", False)
        kwargs.setdefault("max_new_tokens", 128)
        closing = int(question_ids[0, -1])
        kwargs.setdefault(
            "eos_token_id", sorted({closing, *_listed(self.language_model.generation_config.eos_token_id)})
        )
        kwargs.setdefault("pad_token_id", closing)
        ids: Tensor = self.language_model.generate(inputs_embeds=self._typed(embeds), attention_mask=mask, **kwargs)
        return ids

    # ------------------------------------------------------------------ saving

    def own_state(self, state: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """All weights but those that the language model brings along; out of `state` where that is given."""
        return {
            name: tensor
            for name, tensor in (self.state_dict() if state is None else state).items()
            if not name.startswith("language_model.") or ".lora_" in name
        }

    @classmethod
    def unstarted(cls, config: PreTrainedConfig) -> "MpLLM":
        return cls(config, start=False)


def _listed(ids: int | list[int] | None) -> list[int]:
    return ids if isinstance(ids, list) else [] if ids is None else [ids]


AutoConfig.register(MPLLM, MpLLMConfig)
AutoModel.register(MpLLMConfig, MpLLM)

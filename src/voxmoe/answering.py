"""Questions about one study: `Answerer.from_pretrained(place).ask(study, question)`."""

import re
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import send_to_device

from voxmoe.default import POCKET, SHIPPED
from voxmoe.errors import WeightsError
from voxmoe.imaging.layouts import profile_named
from voxmoe.imaging.study import Study
from voxmoe.imaging.volume import Volume
from voxmoe.model.adapters import settle_adapters
from voxmoe.model.consensus import Consensus
from voxmoe.model.devices import best_device
from voxmoe.model.features import VisionFeatures
from voxmoe.model.grounding import check_drawable
from voxmoe.model.heads import OUT_OF_SCOPE, probabilities
from voxmoe.model.mpllm import MpLLM
from voxmoe.model.processing import MpLLMProcessor
from voxmoe.segmenting import check_no_ct, draw_mask
from voxmoe.training.features import FeatureCache, Features, stack
from voxmoe.training.samples import stack_targets
from voxmoe.vocabulary import (
    ABSENT,
    CLASSES,
    EXCLUSIVE_TASKS,
    NO_REGION,
    NOT_ASKED,
    PROFILES,
    REGIONS,
    Label,
    Modality,
    Profile,
    Task,
)
from voxmoe.vqa.encoding import encode_findings
from voxmoe.vqa.findings import Findings

_QUESTIONS = 256
"""How many questions are remembered as the model's router reads them."""


@dataclass(frozen=True)
class Category:
    """What a head says, and how sure it is (0 to 1)."""

    name: str
    probability: float


@dataclass(frozen=True)
class Drawn:
    """What is measured in the mask that a model has drawn of a study, in terms of a profile's labels."""

    profile: Profile
    findings: Findings


@dataclass(frozen=True)
class Terms:
    """What is answered to the four tasks."""

    categories: Mapping[Task, Category]
    """Of volume, shape and spread; "not asked" where the question does not ask for it."""
    regions: tuple[Category, ...]
    """The regions named; one entry "N/A" or "no labelled region" where none is, none where it was not asked."""

    def named(self, task: Task) -> frozenset[str]:
        """The terms of the answer to a task by their names; none where it was not asked."""
        if task is Task.REGION:
            return frozenset(region.name for region in self.regions)
        return frozenset({self.categories[task].name} - {NOT_ASKED})

    @property
    def asked(self) -> bool:
        """Whether any task was."""
        return any(self.named(task) for task in Task)

    def to_json(self) -> dict[str, Any]:
        return {
            str(Task.VOLUME): _category_json(self.categories[Task.VOLUME]),
            str(Task.REGION): [{"region": c.name, "probability": c.probability} for c in self.regions],
            str(Task.SHAPE): _category_json(self.categories[Task.SHAPE]),
            str(Task.SPREAD): _category_json(self.categories[Task.SPREAD]),
        }


@dataclass(frozen=True)
class Answer:
    """The answer to one question about one study."""

    question: str
    text: str
    """Empty where the heads alone were asked."""
    terms: Terms
    heads: Terms | None
    """What the heads say by themselves, where what is measured was weighed in; None where it was not."""
    out_of_scope: float
    """Probability that the question asks for something that the model does not answer."""
    experts: tuple[float, ...]
    """Their weights; empty for a system without experts."""
    modalities: tuple[Modality, ...]
    model: str
    seconds: float

    @property
    def categories(self) -> Mapping[Task, Category]:
        return self.terms.categories

    @property
    def regions(self) -> tuple[Category, ...]:
        return self.terms.regions

    @property
    def answered(self) -> bool:
        """Whether any of the question is answered."""
        return self.terms.asked

    @property
    def by_heads(self) -> Terms:
        """What the heads say by themselves."""
        return self.heads or self.terms

    def to_json(self) -> dict[str, Any]:
        return {
            "question": self.question,
            "text": self.text,
            "categories": self.terms.to_json(),
            "heads": self.heads and self.heads.to_json(),
            "out_of_scope": {"probability": self.out_of_scope, "answered": self.answered},
            "experts": list(self.experts),
            "modalities": [str(modality) for modality in self.modalities],
            "model": self.model,
            "seconds": round(self.seconds, 3),
        }


def _category_json(category: Category) -> dict[str, Any]:
    return {"category": category.name, "probability": category.probability}


class Answerer:
    """A model with its processor. What it sees of a study is computed at the first question, kept on disk, and held as
    long as the study; what its router reads of a question serves all studies. The model's adapters are settled: its
    weights are for answering, not for learning on."""

    def __init__(self, model: MpLLM, processor: MpLLMProcessor, name: str, consensus: Consensus | None = None) -> None:
        if model.settings.vision is None:
            raise WeightsError(f"{name}: is a text-only baseline; it cannot see a study")
        self.model = model.eval()
        settle_adapters(self.model)
        self.processor = processor
        self.name = name
        self.consensus = consensus
        """How what is measured is weighed in; None for a model that has not learnt it."""
        self.cache = FeatureCache(self.model)
        self._seen: weakref.WeakKeyDictionary[Study, dict[str, torch.Tensor]] = weakref.WeakKeyDictionary()
        self._heard = lru_cache(maxsize=_QUESTIONS)(self._listen)

    @classmethod
    def from_pretrained(cls, place: Path | str) -> "Answerer":
        """The model in a folder or on the hub, on the GPU if there is one; raises `WeightsError` if there is no model
        or its weights do not fit."""
        if isinstance(place, Path) and not place.is_dir():
            raise WeightsError(f"{place}: no such model folder; train one with voxmoe train RECIPE")
        model, processor = MpLLM.from_pretrained(place).to(best_device()), MpLLMProcessor.from_pretrained(place)
        return cls(model, processor, POCKET if place == SHIPPED else str(place), Consensus.beside(place))

    @torch.no_grad()
    def ask(self, study: Study, question: str, say: bool = True, drawn: Drawn | None = None) -> Answer:
        """Answer a question about a study; without `say`, or by a model that learnt no text, by the heads alone, which
        is many times faster.

        `drawn` is what is measured in the mask that the model draws (`voxmoe.evidence.measure_study`). Where the
        question names one of its labels, which the model has learnt about, a model with a consensus weighs it in.

        Raises `QuestionError` if the question is empty or over-long, and `StudyError` if an image of the study is a CT.
        """
        started = time.monotonic()
        batch = self._heard(question) | self._look(study)
        output = self.model(**batch, heads_alone=True)
        writes = say and self.model.settings.loss.text > 0
        text = self.processor.decode_answers(self.model.generate(**batch))[0] if writes else ""
        chances = probabilities(output.heads)
        heads = _terms(chances)
        weighed = self._weigh(chances, question, drawn) if drawn is not None and heads.asked else None
        return Answer(
            question=question,
            text=text,
            terms=_terms(weighed) if weighed else heads,
            heads=heads if weighed else None,
            out_of_scope=float(chances[OUT_OF_SCOPE][0, 1]),
            experts=tuple(float(weight) for weight in output.expert_weights[0])
            if output.expert_weights is not None
            else (),
            modalities=study.modalities,
            model=self.name,
            seconds=time.monotonic() - started,
        )

    def _weigh(
        self, chances: Mapping[str, torch.Tensor], question: str, drawn: Drawn
    ) -> dict[str, torch.Tensor] | None:
        """The heads' probabilities weighed with what is measured; None where the model has not learnt how, or the
        question does not name one label that it has learnt about."""
        label = self._meant(question, drawn.profile)
        if self.consensus is None or label is None:
            return None
        measured = stack_targets([encode_findings(drawn.findings.labels[label.key])])
        cpu = {name: values.float().cpu() for name, values in chances.items()}
        weighed: dict[str, torch.Tensor] = self.consensus(cpu, measured, [label.key])
        return weighed

    def _meant(self, question: str, profile: Profile) -> Label | None:
        """The only label of a profile that a question names, if it is one that the model has learnt about."""
        named = labels_named(question, profile)
        return named[0] if len(named) == 1 and named[0].name in self._label_names else None

    def measured_by(self, question: str, known: Profile | None = None) -> Profile | None:
        """The profile by which a question is measured to be weighed in: that of the study where it is known, else the
        first of the model's in which the question names one label; None where nothing is weighed."""
        if self.consensus is None:
            return None
        candidates = self._profiles if known is None else [known]
        return next((profile for profile in candidates if self._meant(question, profile) is not None), None)

    @property
    def _profiles(self) -> list[Profile]:
        return [profile_named(name) for name in self.model.settings.profiles]

    @property
    def _label_names(self) -> set[str]:
        return {label.name for profile in self._profiles for label in profile.labels}

    def profile(self, wanted: Profile | None = None) -> Profile:
        """The profile that is wanted if the model knows the names of all its labels, else the first that it was trained
        on.

        Raises `WeightsError` if the model does not say which labels it was trained on.
        """
        if not self._profiles:
            raise WeightsError(f"{self.name}: does not say which labels it was trained on; train it again")
        if wanted is not None and self._label_names >= {label.name for label in wanted.labels}:
            return wanted
        return self._profiles[0]

    def segment(self, study: Study, profile: Profile) -> Volume:
        """The mask that the model's decoder draws; questions that are asked after it need no pass of their own over the
        images.

        Raises `WeightsError` for a model without a decoder, `LabelError` for a profile whose labels are not made of
        parts and `StudyError` if an image of the study is a CT.
        """
        if self.model.settings.grounding is None:
            raise WeightsError(
                f"{self.name}: has no decoder to draw a mask with, so there is none to measure; give one"
            )
        check_drawable(profile)
        check_no_ct(study, self.name)
        features, gridded, parts = self.cache.see_and_find(study)
        self._keep(study, features)
        return draw_mask(study, gridded, parts, profile)

    def _listen(self, question: str) -> dict[str, torch.Tensor]:
        """A question as the model takes it, of whichever study it is asked."""
        batch: dict[str, torch.Tensor] = send_to_device(dict(self.processor([question])), self.model.device)
        batch |= self.model.listen(**batch)
        return batch

    def _look(self, study: Study) -> dict[str, torch.Tensor]:
        if study not in self._seen:
            check_no_ct(study, self.name)
            self._keep(study, self.cache.of(study))
        return self._seen[study]

    def _keep(self, study: Study, features: Features) -> None:
        self._seen[study] = self.model.look(VisionFeatures(**send_to_device(stack([features]), self.model.device)))


def labels_named(question: str, profile: Profile) -> tuple[Label, ...]:
    """The labels of a profile whose name or key stands in a question, in the profile's order.

    A name within a longer one of any profile ("Enhancing Tumor" in "Non-Enhancing Tumor"), or after "non", does not
    stand there by itself.
    """
    own = {words.lower(): label.key for label in profile.labels for words in (label.key, label.name)}
    others = {label.name.lower() for other in PROFILES for label in other.labels} - own.keys()
    named = set()
    for words in sorted({*own, *others}, key=len, reverse=True):
        question, times = re.subn(rf"(?<!\w)(?<!non[- ]){re.escape(words)}(?!\w)", " ", question, flags=re.IGNORECASE)
        if times and words in own:
            named.add(own[words])
    return tuple(label for label in profile.labels if label.key in named)


def _terms(chances: Mapping[str, torch.Tensor]) -> Terms:
    """What is answered to a single question."""
    return Terms(
        {task: _most_likely(task, chances[str(task)][0]) for task in EXCLUSIVE_TASKS},
        _regions(chances[str(Task.REGION)][0]),
    )


def _most_likely(task: Task, chances: torch.Tensor) -> Category:
    best = int(chances.argmax())
    return Category(CLASSES[task][best], float(chances[best]))


def _regions(chances: torch.Tensor) -> tuple[Category, ...]:
    """The region head's entries above one half; "not asked" silences it, "N/A" stands alone."""
    entries = [Category(name, float(chance)) for name, chance in zip(CLASSES[Task.REGION], chances, strict=True)]
    by_name = {entry.name: entry for entry in entries}
    if by_name[NOT_ASKED].probability > 0.5:
        return ()
    if by_name[ABSENT].probability > 0.5:
        return (by_name[ABSENT],)
    named = tuple(entry for entry in entries if entry.name in REGIONS and entry.probability > 0.5)
    return named or (Category(NO_REGION, 1 - max(by_name[region].probability for region in REGIONS)),)

"""Volumes and texts -> the tensors that a volume reader takes."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int, UInt8
from jinja2 import TemplateError
from torch import Tensor
from transformers import AutoProcessor, BatchFeature

from voxmoe.errors import QuestionError
from voxmoe.imaging.windows import Drawable, PictureSettings, to_pictures
from voxmoe.model.own_weights import WholeProcessor
from voxmoe.model.padding import padded
from voxmoe.model.reader import ReaderConfig, VolumeReader
from voxmoe.model.towers import FAMILIES, PictureWords, entry_of

_log = logging.getLogger(__name__)

MAX_PROMPT_TOKENS = 512
_QUESTION = "QUESTION"


class ReaderProcessor(WholeProcessor):
    """The tokenizer, the words around picture and question, the form of answers, and how slices are drawn."""

    attributes = ("tokenizer",)
    tokenizer_class = "AutoTokenizer"

    def __init__(
        self,
        tokenizer: Any = None,
        pictures: dict[str, Any] | None = None,
        before: str = "",
        between: str = "",
        after: str = "",
        lettered: bool = True,
        **kwargs: Any,
    ) -> None:
        self.pictures = PictureSettings.model_validate(pictures or {}).model_dump(mode="json")
        self.before, self.between, self.after = before, between, after
        self.lettered = lettered
        super().__init__(tokenizer, **kwargs)

    @classmethod
    def of(cls, reader: VolumeReader) -> "ReaderProcessor":
        """As the reader's 2D model puts pictures and questions."""
        family = entry_of(reader.model, FAMILIES)[1]
        form = chat_form(reader.tokenizer, family.words)
        settings = reader.settings
        return cls(reader.tokenizer, settings.pictures.model_dump(mode="json"), *form, settings.lettered)

    def __call__(
        self,
        questions: Sequence[str],
        volumes: Sequence[Drawable] | None = None,
        answers: Sequence[str] | None = None,
    ) -> BatchFeature:
        """Prompts padded on the left, answers on the right, each closed by EOS; volumes as slices.

        Raises `QuestionError` for an empty or over-long question.
        """
        data = self.padded(
            [self.prompt(question) for question in questions],
            None if answers is None else [self.answer(answer) for answer in answers],
        )
        if volumes is not None:
            data["pixels"] = torch.stack([self.see(volume) for volume in volumes])
        return BatchFeature(data)

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
        return ids

    def prompt(self, question: str) -> list[int]:
        """The ids of all that follows the picture, up to the answer."""
        if not question.strip():
            raise QuestionError("the question is empty; ask something about the scan")
        ids = self._ids(self.between + question.strip() + self.after)
        if len(ids) > MAX_PROMPT_TOKENS:
            raise QuestionError(
                f"the question has {len(ids)} tokens; at most {MAX_PROMPT_TOKENS} are read, ask it more briefly"
            )
        return ids

    def answer(self, text: str) -> list[int]:
        """The ids of an answer, closed by EOS."""
        return [*self._ids(text.strip()), self.tokenizer.eos_token_id]

    def padded(
        self, prompts: Sequence[list[int]], answers: Sequence[list[int]] | None = None
    ) -> dict[str, Int[Tensor, "B L"]]:
        """Ids of prompts, padded on the left, and of answers, padded on the right, with their masks; and the ids of
        what comes before the picture."""
        data = {"prefix_ids": torch.tensor([self._ids(self.before)] * len(prompts), dtype=torch.int64)}
        data["prompt_ids"], data["prompt_mask"] = padded(prompts, self.tokenizer.eos_token_id, left=True)
        return data if answers is None else data | self.padded_answers(answers)

    def padded_answers(self, answers: Sequence[list[int]]) -> dict[str, Int[Tensor, "B A"]]:
        """Ids of answers, padded on the right, with their mask."""
        ids, mask = padded(answers, self.tokenizer.eos_token_id, left=False)
        return {"answer_ids": ids, "answer_mask": mask}

    def see(self, volume: Drawable) -> UInt8[Tensor, "D C H W"]:
        """The slices of a volume from inferior to superior, as pictures of 8 bits."""
        return torch.from_numpy(to_pictures(volume, PictureSettings.model_validate(self.pictures)))

    def decode_answers(self, ids: Int[Tensor, "B L"]) -> list[str]:
        texts: list[str] = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return [text.strip() for text in texts]


def chat_form(tokenizer: Any, words: PictureWords) -> tuple[str, str, str]:
    """What a family's prompt has before a picture's tokens, between them and the question, and after the question, by
    the model's chat template and with what the family puts around a picture; BOS first where the tokenizer begins so.

    Without a template for pictures it is the family's plain form.
    """
    bos = tokenizer.bos_token or ""
    before, between, after = (part.format(bos=bos, eos=tokenizer.eos_token) for part in words.plain)
    plain = (before, between, after)
    if not tokenizer.chat_template:
        return plain
    content = [{"type": "image"}, {"type": "text", "text": _QUESTION}]
    try:
        said = tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
    except (TypeError, ValueError, TemplateError):  # a template for texts alone cannot join a list
        return plain
    before, found, rest = said.partition(words.marker)
    between, asked, after = rest.partition(_QUESTION)
    if not (found and asked):
        _log.warning(
            "the chat template writes no %s for a picture, as this family's do; asked without the template",
            words.marker,
        )
        return plain
    if bos and not before.startswith(bos) and tokenizer(_QUESTION)["input_ids"][0] == tokenizer.bos_token_id:
        before = bos + before
    return before + words.opened, words.closed + between, after


AutoProcessor.register(ReaderConfig, ReaderProcessor)

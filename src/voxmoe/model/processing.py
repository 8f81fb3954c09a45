"""Studies and texts -> the tensors that mpLLM takes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from transformers import AutoProcessor, BatchFeature

from voxmoe.errors import QuestionError
from voxmoe.imaging.grid import GriddedStudy, to_grid
from voxmoe.imaging.study import Study
from voxmoe.model.mpllm import MpLLMConfig
from voxmoe.model.own_weights import WholeProcessor
from voxmoe.model.padding import padded

MAX_QUESTION_TOKENS = 512


class MpLLMProcessor(WholeProcessor):
    """The tokenizer and the grid on which the model sees studies (None for the text-only baseline)."""

    attributes = ("tokenizer",)
    tokenizer_class = "AutoTokenizer"

    def __init__(self, tokenizer: Any = None, grid: Sequence[int] | None = None, **kwargs: Any) -> None:
        depth, height, width = grid or (0, 0, 0)
        self.grid = (depth, height, width) if grid else None
        super().__init__(tokenizer, **kwargs)

    def __call__(
        self,
        questions: Sequence[str],
        studies: Sequence[Study | GriddedStudy] | None = None,
        answers: Sequence[str] | None = None,
    ) -> BatchFeature:
        """Questions padded on the left, answers on the right, each closed by EOS; studies cropped and resampled.

        Raises `QuestionError` for an empty or over-long question.
        """
        asked = self.tokens(questions)
        for question, ids in zip(questions, asked, strict=True):
            check_question(question, ids)
        data = self.padded(asked, self.tokens(answers) if answers is not None else None)
        if studies is not None:
            data |= self.see(studies)
        return BatchFeature(data)

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, closed by EOS."""
        ids: list[list[int]] = self.tokenizer([text.strip() for text in texts], add_special_tokens=False)["input_ids"]
        return [[*text, self.tokenizer.eos_token_id] for text in ids]

    def padded(
        self, questions: Sequence[list[int]], answers: Sequence[list[int]] | None = None
    ) -> dict[str, Int[Tensor, "B L"]]:
        """Ids of questions, padded on the left, and of answers, padded on the right, with their masks."""
        data: dict[str, Tensor] = {}
        data["question_ids"], data["question_mask"] = padded(questions, self.tokenizer.eos_token_id, left=True)
        if answers is not None:
            data["answer_ids"], data["answer_mask"] = padded(answers, self.tokenizer.eos_token_id, left=False)
        return data

    def see(self, studies: Sequence[Study | GriddedStudy]) -> dict[str, Tensor]:
        """Images [B, M, D, H, W] in 0 to 1 and which modalities are present [B, M]; nothing for the text-only
        baseline."""
        if self.grid is None:
            return {}
        gridded = [s if isinstance(s, GriddedStudy) else to_grid(s, self.grid) for s in studies]
        return {
            "images": torch.from_numpy(np.stack([study.images for study in gridded])),
            "present": torch.from_numpy(np.stack([study.present for study in gridded])),
        }

    def decode_answers(self, ids: Int[Tensor, "B L"]) -> list[str]:
        texts: list[str] = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return [text.strip() for text in texts]


def check_question(question: str, ids: Sequence[int]) -> None:
    """Raise `QuestionError` for an empty question or one of too many tokens."""
    if not question.strip():
        raise QuestionError("the question is empty; ask about the volume, region, shape or spread of a label")
    if len(ids) > MAX_QUESTION_TOKENS:
        raise QuestionError(
            f"the question has {len(ids)} tokens; at most {MAX_QUESTION_TOKENS} are read, ask it more briefly"
        )


AutoProcessor.register(MpLLMConfig, MpLLMProcessor)

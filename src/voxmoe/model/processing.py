"""Studies and texts -> the tensors that mpLLM takes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from transformers import AutoProcessor, BatchFeature, ProcessorMixin

from voxmoe.errors import QuestionError
from voxmoe.imaging.grid import GriddedStudy, to_grid
from voxmoe.imaging.study import Study
from voxmoe.model.mpllm import MpLLMConfig

MAX_QUESTION_TOKENS = 512


class MpLLMProcessor(ProcessorMixin):
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
        data: dict[str, Tensor] = {}
        data["question_ids"], data["question_mask"] = self._pad([self._question(q) for q in questions], left=True)
        if answers is not None:
            data["answer_ids"], data["answer_mask"] = self._pad([self._tokens(a) for a in answers], left=False)
        if studies is not None:
            data |= self.see(studies)
        return BatchFeature(data)

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

    def _tokens(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return [*ids, self.tokenizer.eos_token_id]

    def _question(self, question: str) -> list[int]:
        if not question.strip():
            raise QuestionError("the question is empty; ask about the volume, region, shape or spread of a label")
        ids = self._tokens(question.strip())
        if len(ids) > MAX_QUESTION_TOKENS:
            raise QuestionError(
                f"the question has {len(ids)} tokens; at most {MAX_QUESTION_TOKENS} are read, ask it more briefly"
            )
        return ids

    def _pad(self, sequences: Sequence[list[int]], left: bool) -> tuple[Int[Tensor, "B L"], Int[Tensor, "B L"]]:
        longest = max(map(len, sequences))
        ids = torch.full((len(sequences), longest), self.tokenizer.eos_token_id)
        mask = torch.zeros_like(ids)
        for row, sequence in enumerate(sequences):
            place = slice(longest - len(sequence), None) if left else slice(0, len(sequence))
            ids[row, place] = torch.tensor(sequence)
            mask[row, place] = 1
        return ids, mask


AutoProcessor.register(MpLLMConfig, MpLLMProcessor)

"""Which choice of a closed question a reader finds likeliest, whatever it would say.

A choice is weighed as training would have it answered, "B. text" or the text alone, to the end of the answer, so that
letter and text agree: the product of the probabilities of all its tokens after the prompt. Over the choices of a
question these are scaled to add up to 1. Nothing is made up for the number of tokens: a long answer is as likely as it
is.
"""

from collections.abc import Mapping, Sequence

import torch
from accelerate.utils import send_to_device
from torch import Tensor

from voxmoe.model.reader import Reading, View, VolumeReader
from voxmoe.model.reading import ReaderProcessor
from voxmoe.vqa.ct.exchange import answers_of


def weigh_choices(
    reader: VolumeReader,
    processor: ReaderProcessor,
    prompts: Mapping[str, Tensor],
    view: View | None,
    choices: Sequence[Sequence[str]],
    read: Reading | None = None,
) -> list[list[float]]:
    """The probability of each choice among those of its question, 0 to 1, for prompts as the reader takes them, or has
    `read` them already."""
    counts = [len(own) for own in choices]
    told = [text for own in choices for text in answers_of(own, processor.lettered)]
    answers = processor.padded_answers([processor.answer(text) for text in told])
    whose = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    weighed = send_to_device({**answers, "whose": whose}, reader.device)
    found = torch.split(reader.log_likelihoods(**prompts, **weighed, view=view, read=read), counts)
    return [own.softmax(dim=0).tolist() for own in found]

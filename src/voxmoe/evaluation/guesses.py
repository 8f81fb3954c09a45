"""What is said about a CT by who knows the training exchanges and sees nothing: the baselines of `said.py`."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from voxmoe.evaluation.choices import words_of
from voxmoe.evaluation.text_metrics import rouge_1
from voxmoe.vocabulary import CTTask
from voxmoe.vqa.ct.exchange import LETTERS, Exchange

SAMPLE = 200
"""At most so many training reports are compared with each other."""

_Words = tuple[str, ...]


@dataclass
class MajorityClass:
    """The commonest answers of the training exchanges, by kind of question; the earlier one of two as common."""

    texts: dict[str, Counter[_Words]] = field(default_factory=dict)
    """Of closed questions: kind -> how often each text is the answer."""
    letters: dict[str, Counter[str]] = field(default_factory=dict)
    all_letters: Counter[str] = field(default_factory=Counter)
    answers: dict[str, Counter[str]] = field(default_factory=dict)
    """Of open questions."""
    all_answers: Counter[str] = field(default_factory=Counter)
    report: str = ""
    """The typical one."""

    @classmethod
    def of(cls, learnt: Sequence[Exchange], seed: int) -> "MajorityClass":
        found = cls(report=typical([one.answer for one in learnt if one.task is CTTask.REPORT], seed))
        for one in learnt:
            if one.letter is not None:
                found.texts.setdefault(one.kind, Counter())[words_of(one.answer)] += 1
                found.letters.setdefault(one.kind, Counter())[one.letter] += 1
                found.all_letters[one.letter] += 1
            elif one.task is CTTask.OPEN:
                found.answers.setdefault(one.kind, Counter())[one.answer] += 1
                found.all_answers[one.answer] += 1
        return found

    def says(self, asked: Exchange) -> str:
        """Empty where nothing of its task was learnt."""
        if asked.task is CTTask.CLOSED:
            number = self._choice(asked)
            return f"{LETTERS[number]}. {asked.choices[number]}"
        if asked.task is CTTask.REPORT:
            return self.report
        counts = self.answers.get(asked.kind, self.all_answers)
        return counts.most_common(1)[0][0] if counts else ""

    def _choice(self, asked: Exchange) -> int:
        """The choice whose text was the answer most often; if none ever was, the one whose letter was."""
        texts = self.texts.get(asked.kind, Counter())
        counts = [texts[words_of(choice)] for choice in asked.choices]
        if not any(counts):
            letters = self.letters.get(asked.kind, self.all_letters)
            counts = [letters[letter] for letter in LETTERS[: len(asked.choices)]]
        return counts.index(max(counts))


def typical(reports: Sequence[str], seed: int) -> str:
    """The report with the highest mean ROUGE-1 against the others, of a drawn sample; empty if there is none."""
    if len(reports) > SAMPLE:
        chosen = np.random.default_rng(seed).choice(len(reports), SAMPLE, replace=False)
        reports = [reports[number] for number in sorted(chosen.tolist())]
    means = [sum(rouge_1(one, other) for other in reports) for one in reports]
    return reports[int(np.argmax(means))] if means else ""

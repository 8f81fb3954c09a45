"""What systems said to exchanges about CTs -> a record of how good it is, beside baselines (docs/evaluation.md).

No model and no image is needed: texts go in, a versioned record in JSON's types comes out.
"""

import platform
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from voxmoe import __version__
from voxmoe.errors import DatasetError, ResultsError
from voxmoe.evaluation.bootstrap import Resampling
from voxmoe.evaluation.choices import m3d_compat, read_choice, words_of
from voxmoe.evaluation.guesses import MajorityClass
from voxmoe.evaluation.methods import MAJORITY, RANDOM
from voxmoe.evaluation.results import SAID, SAID_VERSION, Record
from voxmoe.evaluation.text_metrics import BEAM, METEOR_STAGES, OPTIONAL, bleu_1, meteor, meteor_greedy, rouge_1
from voxmoe.vocabulary import CTTask
from voxmoe.vqa.ct.exchange import LETTERS, Exchange

Scores = dict[CTTask, dict[str, np.ndarray]]
"""Of one method: task -> what is measured -> its value for each exchange of the task, in their order, 0 to 1."""

_TEXT: dict[str, Callable[[str, str], float]] = {
    "bleu1": bleu_1,
    "rouge1": rouge_1,
    "meteor": meteor,
    "meteor_greedy": meteor_greedy,
}
_RULES = {"bleu1": "13a, case-sensitive", "rouge1": "F1, unstemmed", "meteor": METEOR_STAGES, "meteor_beam": BEAM}


@dataclass(frozen=True)
class _Asked:
    """The exchanges of one task, and the draws that all their figures are made from."""

    exchanges: Sequence[Exchange]
    seed: int

    @cached_property
    def kinds(self) -> np.ndarray:
        return np.array([exchange.kind for exchange in self.exchanges])

    @cached_property
    def resampling(self) -> Resampling:
        _, patients = np.unique([exchange.patient for exchange in self.exchanges], return_inverse=True)
        return Resampling(patients, self.seed)

    def figures(self, values: Float[np.ndarray, " Q"]) -> Record:
        """The mean of each kind of question, the mean of these means, and the mean over all questions, in percent."""
        names = list(dict.fromkeys(self.kinds.tolist()))
        columns = np.stack([np.where(self.kinds == name, values, np.nan) for name in names], axis=1)
        found = [None if one is None else asdict(one) for one in self.resampling.estimates(columns)]
        everything = self.resampling.estimates(values[:, None])[0]
        return {
            "by_kind": dict(zip(names, found[:-1], strict=True)),
            "mean": found[-1],
            "all": None if everything is None else asdict(everything),
        }


def _closed(exchanges: Sequence[Exchange], texts: Sequence[str]) -> dict[str, np.ndarray]:
    read = [read_choice(text, exchange.choices) for exchange, text in zip(exchanges, texts, strict=True)]
    right = [letter == exchange.letter for exchange, letter in zip(exchanges, read, strict=True)]
    compat = [m3d_compat(text, str(exchange.letter)) for exchange, text in zip(exchanges, texts, strict=True)]
    columns = {"accuracy": right, "unparsed": [letter is None for letter in read], "m3d_compat": compat}
    return {name: np.array(values, float) for name, values in columns.items()}


def _worded(exchanges: Sequence[Exchange], texts: Sequence[str], also: Sequence[str]) -> dict[str, np.ndarray]:
    """Of open answers and reports."""
    answers = [exchange.answer for exchange in exchanges]
    pairs = list(zip(texts, answers, strict=True))
    found = {name: np.array([metric(*pair) for pair in pairs]) for name, metric in _TEXT.items()}
    found |= {name: np.array(OPTIONAL[name].of_pairs(texts, answers)) for name in also}
    if exchanges[0].task is CTTask.OPEN:
        found["exact_match"] = np.array([words_of(text) == words_of(answer) for text, answer in pairs], float)
    return found


def _scores(asked: Mapping[CTTask, _Asked], texts: Mapping[str, str], also: Sequence[str]) -> Scores:
    found: Scores = {}
    for task, part in asked.items():
        said = [texts[exchange.id].strip() for exchange in part.exchanges]
        found[task] = _closed(part.exchanges, said) if task is CTTask.CLOSED else _worded(part.exchanges, said, also)
    return found


def _weighed(closed: _Asked, probabilities: Mapping[str, Sequence[float]]) -> dict[str, np.ndarray]:
    """Of the likeliest choices (of several, the first), named as they should be."""
    right = [one.letter == LETTERS[int(np.argmax(probabilities[one.id]))] for one in closed.exchanges]
    return {"accuracy": np.array(right, float), "unparsed": np.zeros(len(right)), "m3d_compat": np.array(right, float)}


def _random(closed: _Asked) -> dict[str, np.ndarray]:
    """What guessing a choice evenly, and naming it as it should be, is expected to reach."""
    chance = np.array([1 / len(exchange.choices) for exchange in closed.exchanges])
    return {"accuracy": chance, "unparsed": np.zeros(len(chance)), "m3d_compat": chance}


def _guesses(
    asked: Mapping[CTTask, _Asked], learnt: Sequence[Exchange], seed: int, also: Sequence[str]
) -> dict[str, Scores]:
    """The scores of the baselines; a task of which nothing was learnt is left out of the majority class."""
    found: dict[str, Scores] = {}
    if CTTask.CLOSED in asked:
        found[RANDOM] = {CTTask.CLOSED: _random(asked[CTTask.CLOSED])}
    taught = {exchange.task for exchange in learnt}
    known = {task: part for task, part in asked.items() if task in taught}
    if known:
        majority = MajorityClass.of(learnt, seed)
        texts = {one.id: majority.says(one) for part in known.values() for one in part.exchanges}
        found[MAJORITY] = _scores(known, texts, also)
    return found


def _check(
    exchanges: Sequence[Exchange],
    said: Mapping[str, Mapping[str, str]],
    weighed: Mapping[str, Mapping[str, Sequence[float]]],
) -> None:
    if not exchanges:
        raise DatasetError("no exchanges to evaluate; the split is empty")
    twice = [id for id, count in Counter(exchange.id for exchange in exchanges).items() if count > 1]
    if twice:
        raise DatasetError(
            f"{len(twice)} ids stand for several exchanges, e.g. {twice[0]}; ids are unique in a dataset"
        )
    for name, texts in said.items():
        if name in (RANDOM, MAJORITY):
            raise ResultsError(f"{name!r} is a baseline that is made here; call the method otherwise")
        missing = [exchange.id for exchange in exchanges if exchange.id not in texts]
        if missing:
            raise ResultsError(
                f"{name}: says nothing to {len(missing)} of {len(exchanges)} exchanges, e.g. {missing[0]}; an empty "
                "text stands for no answer"
            )
    for name, probabilities in weighed.items():
        if name in (RANDOM, MAJORITY, *said):
            raise ResultsError(f"{name!r} is the name of a method already; call the one that weighs choices otherwise")
        for one in exchanges:
            if len(one.choices) != len(probabilities.get(one.id, ())):
                raise ResultsError(
                    f"{name}: weighs {len(probabilities.get(one.id, ()))} choices of {one.id}, which has "
                    f"{len(one.choices)}"
                )


def _difference(asked: Mapping[CTTask, _Asked], own: Scores, other: Scores) -> Record:
    """By how much the first is better, exchange by exchange, in percent points."""
    return {
        str(task): {name: asked[task].figures(values - other[task][name]) for name, values in own[task].items()}
        for task in own
        if task in other
    }


def _counts(exchanges: Sequence[Exchange]) -> Record:
    tasks = {task: [one for one in exchanges if one.task is task] for task in CTTask}
    return {
        "exchanges": len(exchanges),
        "patients": len({exchange.patient for exchange in exchanges}),
        "images": len({exchange.image for exchange in exchanges}),
        "tasks": {str(task): dict(Counter(one.kind for one in ones)) for task, ones in tasks.items() if ones},
    }


def evaluate_said(
    exchanges: Sequence[Exchange],
    said: Mapping[str, Mapping[str, str]],
    learnt: Sequence[Exchange],
    *,
    weighed: Mapping[str, Mapping[str, Sequence[float]]] | None = None,
    seed: int = 0,
    also: Sequence[str] = (),
) -> Record:
    """How good it is what methods said, beside guessing and majority class, as a versioned record.

    `said`: method -> id of an exchange -> its text. `weighed`: method -> id of a closed exchange -> the probability of
    each of its choices; such a method answers closed questions alone, by the likeliest choice. `learnt`: the training
    exchanges, from which baselines are made. `seed` is that of the bootstrap and of the sample of training reports.
    `also` names metrics of `OPTIONAL`, which need more than is here.

    Raises `ResultsError` for a method that leaves exchanges or choices out, `DatasetError` for exchanges that share an
    id.
    """
    weighed = weighed or {}
    if unknown := [name for name in also if name not in OPTIONAL]:
        raise ResultsError(f"no metric is called {unknown[0]!r}; there are {', '.join(OPTIONAL)}")
    _check(exchanges, said, weighed)
    tasks = {task: [one for one in exchanges if one.task is task] for task in CTTask}
    asked = {task: _Asked(ones, seed) for task, ones in tasks.items() if ones}
    scores = _guesses(asked, learnt, seed, also)
    scores |= {name: _scores(asked, texts, also) for name, texts in said.items()}
    if closed := asked.get(CTTask.CLOSED):
        scores |= {name: {CTTask.CLOSED: _weighed(closed, told)} for name, told in weighed.items()}
    return {
        "kind": SAID,
        "version": SAID_VERSION,
        "manifest": {
            "versions": {"voxmoe": __version__, "python": platform.python_version(), "numpy": np.__version__},
            "rules": dict(_RULES),
            "settings": {"seed": seed, "also": list(also)},
            "resamples": next(iter(asked.values())).resampling.resamples,
        },
        "counts": {"asked": _counts(exchanges), "learnt": _counts(learnt)},
        "methods": {
            name: {
                str(task): {measure: asked[task].figures(values) for measure, values in measures.items()}
                for task, measures in own.items()
            }
            for name, own in scores.items()
        },
        "differences": {
            name: {other: _difference(asked, scores[name], theirs) for other, theirs in scores.items() if other != name}
            for name in (*said, *weighed)
            if name in scores
        },
    }

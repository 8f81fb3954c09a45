"""BLEU-1, ROUGE-1 and METEOR: worked by hand, against public implementations, and what has to hold for any text."""

import sys
from itertools import permutations
from types import SimpleNamespace
from typing import Any

import pytest
import snowballstemmer
from hypothesis import example, given, settings
from hypothesis import strategies as st
from nltk.translate.meteor_score import align_words, single_meteor_score
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

from voxmoe.errors import MissingPackageError, ResultsError
from voxmoe.evaluation.text_metrics import (
    _Alignments,
    _chunks,
    bert_scores,
    bleu_1,
    meteor,
    meteor_greedy,
    require_metrics,
    rouge_1,
    tokens_13a,
    wordnet_meteor,
)

WORDS = st.sampled_from(["nodule", "nodules", "the", "The", "lung", "lungs", "left", "of", "5.5", "mm", ",", ".", "no"])
TEXTS = st.lists(WORDS, min_size=1, max_size=25).map(" ".join)
ANY_TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=0x24F), max_size=40)
SHORT_TEXTS = st.lists(WORDS, min_size=1, max_size=9).map(" ".join)
METRICS = pytest.mark.parametrize("metric", [bleu_1, rouge_1, meteor, meteor_greedy])


class Porter:
    """Our stemmer as NLTK calls one."""

    def __init__(self) -> None:
        self.stem = snowballstemmer.stemmer("porter").stemWord


PORTER = Porter()


def test_bleu_by_hand() -> None:
    # 4 of 5 said words are in the reference ("the" counts once), as long as it: no penalty
    assert bleu_1("the nodule the left lung", "a nodule of the left lung"[2:]) == pytest.approx(4 / 5)
    # 2 of 2, against 4: exp(1 - 4 / 2)
    assert bleu_1("left lung", "the left lung base") == pytest.approx(0.36787944117)
    assert bleu_1("the left lung base", "left lung") == pytest.approx(1 / 2)
    assert bleu_1("Left lung", "left lung") == pytest.approx(1 / 2)  # case counts
    assert bleu_1("lung.", "lung .") == 1


def test_rouge_by_hand() -> None:
    assert rouge_1("The nodule, left-sided!", "a left nodule") == pytest.approx(2 * 2 / (4 + 3))
    assert rouge_1("lungs", "lung") == 0


def test_meteor_by_hand() -> None:
    # 5 matches (nodules by its stem) in one run: P 5/5, R 5/6
    mean = (5 / 6) / (0.9 + 0.1 * 5 / 6)
    assert meteor("nodules in the left lung", "nodule in the left lung base") == pytest.approx(mean * (1 - 0.5 / 5**3))
    # two runs of two
    assert meteor("left lung right base", "right base left lung") == pytest.approx(1 - 0.5 * (2 / 4) ** 3)
    assert meteor("liver", "liver") == pytest.approx(0.5)  # one run of one match: the penalty is whole


def test_meteor_takes_the_alignment_with_the_fewest_runs() -> None:
    """The second "the" goes with "liver", not with the one that comes first in the reference."""
    found = _Alignments(["the", "liver"], ["the", "left", "the", "liver"])
    assert (found.matches, _chunks(found, 32)) == (2, 1)


@given(ANY_TEXT | TEXTS)
def test_tokens_are_those_of_mteval(text: str) -> None:
    assert tokens_13a(text) == Tokenizer13a()(text).split()


@given(TEXTS, TEXTS)
def test_bleu_is_that_of_sacrebleu(said: str, reference: str) -> None:
    theirs = BLEU(max_ngram_order=1, effective_order=True, smooth_method="none", tokenize="13a")
    assert bleu_1(said, reference) == pytest.approx(theirs.sentence_score(said, [reference]).score / 100)


@given(TEXTS | ANY_TEXT, TEXTS | ANY_TEXT)
def test_rouge_is_that_of_rouge_score(said: str, reference: str) -> None:
    theirs = RougeScorer(["rouge1"]).score(reference, said)["rouge1"].fmeasure
    assert rouge_1(said, reference) == pytest.approx(theirs)


class NoSynonyms:
    """A WordNet without words, so that NLTK takes the stages that are taken here."""

    def synsets(self, word: str) -> list[Any]:
        return []


def by_nltk(ours: list[str], theirs: list[str]) -> float:
    found: float = single_meteor_score(theirs, ours, stemmer=PORTER, wordnet=NoSynonyms())  # type: ignore[arg-type]
    return found


@given(st.permutations(["nodule", "lung", "left", "base", "5.5", "mm", "seen", "in"]), st.data())
def test_meteor_is_that_of_nltk_where_no_word_repeats(reference: list[str], data: st.DataObject) -> None:
    ours = data.draw(st.lists(st.sampled_from([*reference, "nodules", "bases", "liver"]), min_size=1, unique=True))
    if {"nodule", "nodules"} <= set(ours) or {"base", "bases"} <= set(ours):
        return
    assert meteor(" ".join(ours), " ".join(reference)) == pytest.approx(by_nltk(ours, reference))


@settings(deadline=None)
@given(SHORT_TEXTS, SHORT_TEXTS)
def test_meteor_matches_as_many_as_nltk_in_no_more_runs(said: str, reference: str) -> None:
    ours, theirs = said.lower().split(), reference.lower().split()
    matched, _, _ = align_words(ours, theirs, PORTER, NoSynonyms())  # type: ignore[arg-type]
    assert _Alignments(ours, theirs).matches == len(matched)
    assert meteor(said, reference, beam=4096) >= by_nltk(ours, theirs) - 1e-12


MEANINGS = {
    "lesion": ["nodul", "lesion"],
    "nodul": ["lesion"],
    "left": ["left_side", "sinistral"],
    "mm": ["cm", "mm"],
}


class FewSynonyms:
    """A WordNet of one synset a word, as NLTK asks for it."""

    def synsets(self, word: str) -> list[Any]:
        lemmas = [SimpleNamespace(name=lambda name=name: name) for name in MEANINGS.get(word, [])]
        return [SimpleNamespace(lemmas=lambda: lemmas)] if lemmas else []

    def ensure_loaded(self) -> None:
        """It is there."""


SPOKEN = st.lists(st.sampled_from([*MEANINGS, "cm", "sinistral", "nodules", "the", "in"]), max_size=9).map(" ".join)


@given(SPOKEN, SPOKEN)
def test_meteor_with_synonyms_is_that_of_nltk(said: str, reference: str) -> None:
    wordnet: Any = FewSynonyms()
    theirs = single_meteor_score(tokens_13a(reference), tokens_13a(said), stemmer=PORTER, wordnet=wordnet)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("voxmoe.evaluation.text_metrics._wordnet", FewSynonyms)
        assert wordnet_meteor([said], [reference]) == [pytest.approx(theirs)]


def test_wordnet_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nltk.data.path", [])
    with pytest.raises(MissingPackageError, match=r"python -m nltk\.downloader wordnet"):
        require_metrics(["meteor_wordnet"])
    monkeypatch.setattr("voxmoe.evaluation.text_metrics.find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match="pip install nltk"):
        require_metrics(["meteor_wordnet"])
    with pytest.raises(ResultsError, match=r"no metric is called 'cider' .*; there are bertscore, meteor_wordnet"):
        require_metrics(["cider"])


@given(TEXTS | ANY_TEXT, TEXTS)
def test_greedy_meteor_is_that_of_nltk_for_any_text(said: str, reference: str) -> None:
    assert meteor_greedy(said, reference) == pytest.approx(by_nltk(tokens_13a(said), tokens_13a(reference)))


def fewest_runs(ours: list[str], theirs: list[str]) -> int:
    """Every way to match all that can be, the exact stage first, tried out."""
    places = [*range(len(theirs)), *[-1] * len(ours)]  # -1: unmatched
    best: tuple[int, int, int] | None = None
    for chosen in set(permutations(places, len(ours))):
        pairs = [(i, j) for i, j in enumerate(chosen) if j >= 0]
        if any(PORTER.stem(ours[i]) != PORTER.stem(theirs[j]) for i, j in pairs):
            continue
        exact = sum(ours[i] == theirs[j] for i, j in pairs)
        runs = sum((i - 1, j - 1) not in pairs for i, j in pairs)
        best = min(best or (0, 0, 0), (-exact, -len(pairs), runs))
    assert best is not None
    return best[2]


FEW_WORDS = st.lists(st.sampled_from(["nodule", "nodules", "noduled", "b"]), max_size=4)


@settings(deadline=None)
@given(FEW_WORDS, FEW_WORDS)
@example(["nodule", "nodule", "nodules", "nodule"], ["nodule", "nodules", "nodule", "nodules"])
@example(["nodule", "nodule", "nodules", "nodule"], ["nodule", "noduled", "nodule", "noduled"])
def test_runs_are_the_fewest_of_all_alignments(ours: list[str], theirs: list[str]) -> None:
    assert _chunks(_Alignments(ours, theirs), 10**6) == fewest_runs(ours, theirs)


@METRICS
@given(TEXTS | ANY_TEXT, TEXTS)
def test_metrics_lie_between_0_and_1(metric: Any, said: str, reference: str) -> None:
    assert 0 <= metric(said, reference) <= 1


@METRICS
@pytest.mark.parametrize("said", ["", "  ", "\n"])
def test_nothing_said_is_worth_nothing(metric: Any, said: str) -> None:
    assert metric(said, "a nodule") == 0


@given(st.lists(WORDS.filter(str.isalpha), min_size=1, max_size=20, unique_by=lambda word: word.lower()))
def test_the_reference_itself_is_worth_most(words: list[str]) -> None:
    text = " ".join(words)
    assert bleu_1(text, text) == rouge_1(text, text) == 1
    assert meteor(text, text) == pytest.approx(1 - 0.5 / len(words) ** 3)


@settings(deadline=None)
@given(SHORT_TEXTS, SHORT_TEXTS)
def test_a_narrow_beam_finds_no_fewer_runs(said: str, reference: str) -> None:
    assert meteor(said, reference, beam=1) <= meteor(said, reference, beam=4096) + 1e-12


def test_bertscore_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voxmoe.evaluation.text_metrics.find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match="pip install bert-score"):
        bert_scores(["a"], ["b"])


def test_bertscore_is_asked_for_english(monkeypatch: pytest.MonkeyPatch) -> None:
    def score(said: list[str], references: list[str], lang: str) -> tuple[None, None, list[float]]:
        assert (said, references, lang) == (["a"], ["b"], "en")
        return None, None, [0.5]

    monkeypatch.setattr("voxmoe.evaluation.text_metrics.find_spec", lambda name: True)
    monkeypatch.setitem(sys.modules, "bert_score", SimpleNamespace(score=score))
    assert bert_scores(["a"], ["b"]) == [0.5]

"""How near a text comes to a reference text: BLEU-1, ROUGE-1 and METEOR of one pair each, from 0 to 1.

As M3D's evaluation takes them: each pair by itself, one reference, the mean over pairs taken elsewhere. Nothing is
fetched. METEOR matches equal words and stems (`METEOR_STAGES`), and synonyms where WordNet is there and asked for.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import import_module
from importlib.util import find_spec
from math import exp
from types import MappingProxyType
from typing import Any

import snowballstemmer

from voxmoe.errors import MissingPackageError, ResultsError

METEOR_STAGES = "exact+stem"
BEAM = 16
"""How many partial alignments METEOR keeps while it looks for the one with the fewest chunks."""
_ALPHA, _BETA, _GAMMA = 0.9, 3, 0.5
_WORDS, _TEXTS = 1 << 16, 1 << 10
"""How many words' stems and how many texts' words are remembered."""

_ENTITIES = {"&quot;": '"', "&amp;": "&", "&lt;": "<", "&gt;": ">"}
_13A = (
    (re.compile(r"([!-&(-+/:-@\[-`{-~])"), r" \1 "),  # ASCII punctuation but ' , - .
    (re.compile(r"([^0-9])([.,])"), r"\1 \2 "),
    (re.compile(r"([.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)
_WORD = re.compile(r"[a-z0-9]+")


def tokens_13a(text: str) -> list[str]:
    """Words and punctuation by the rules of mteval-v13a: punctuation stands alone, but within numbers and words.

    Upper and lower case differ, as in M3D's BLEU.
    """
    text = text.replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for entity, character in _ENTITIES.items():
        text = text.replace(entity, character)
    text = f" {text} "
    for pattern, spaced in _13A:
        text = pattern.sub(spaced, text)
    return text.split()


def _common(first: Sequence[str], second: Sequence[str]) -> int:
    """Tokens that both have, each as often as in the one that has it less often."""
    return (Counter(first) & Counter(second)).total()


def bleu_1(said: str, reference: str) -> float:
    """BP * m / s over the tokens of `tokens_13a`.

    s, r: how many tokens are said and referred to; m: how many of those said are in the reference, each counted at most
    as often as there; BP = 1 if s >= r, else exp(1 - r / s). No smoothing. 0 where nothing is said.
    """
    ours, theirs = tokens_13a(said), tokens_13a(reference)
    if not ours:
        return 0.0
    brevity = min(1.0, exp(1 - len(theirs) / len(ours)))
    return brevity * _common(ours, theirs) / len(ours)


@lru_cache(_TEXTS)
def _words(text: str) -> Counter[str]:
    return Counter(_WORD.findall(text.lower()))


def rouge_1(said: str, reference: str) -> float:
    """F1 of words: 2 m / (s + r), where words are runs of a-z and 0-9 in lower case, unstemmed; m, s, r as in BLEU-1.

    0 where either has no word.
    """
    ours, theirs = _words(said), _words(reference)
    return 2 * (ours & theirs).total() / max(ours.total() + theirs.total(), 1)


@cache
def _stemmer() -> Any:
    return snowballstemmer.stemmer("porter")


@lru_cache(_WORDS)
def _stem(word: str) -> str:
    stem: str = _stemmer().stemWord(word)
    return stem


class _Alignments:
    """Which words of two texts may be matched so that as many as possible are, equal words before equal stems.

    Of a word, either text may have some to spare (none to match it with), never both. So the set of reference words
    that are taken says how many matches of each kind are made, and a choice that keeps within what is spare can always
    be gone on with to the full number of matches. Sets of reference words are bits of an integer.
    """

    def __init__(self, ours: Sequence[str], theirs: Sequence[str]) -> None:
        self.ours, self.theirs = ours, theirs
        self.our_stems, self.their_stems = [_stem(word) for word in ours], [_stem(word) for word in theirs]
        self.spare_ours, self.spare_theirs = Counter(ours) - Counter(theirs), Counter(theirs) - Counter(ours)
        self.spare_stems = Counter(self.our_stems) - Counter(self.their_stems)
        """How many of our words with a stem stay unmatched."""
        self.matches = _common(self.our_stems, self.their_stems)
        self.word_bits: dict[str, int] = {}
        self.stem_bits: dict[str, int] = {}
        for place, (word, stem) in enumerate(zip(theirs, self.their_stems, strict=True)):
            self.word_bits[word] = self.word_bits.get(word, 0) | 1 << place
            self.stem_bits[stem] = self.stem_bits.get(stem, 0) | 1 << place

    def allowed(self, number: int, taken: int, seen: Counter[str], seen_stems: Counter[str]) -> tuple[int, bool]:
        """The reference words that our word may be matched with, and whether it may be left out.

        `seen` and `seen_stems` count our words before it.
        """
        word, stem = self.ours[number], self.our_stems[number]
        of_stem, of_word = self.stem_bits.get(stem, 0), self.word_bits.get(word, 0)
        places = of_word & ~taken
        spare = self.spare_ours[word]
        if not spare or seen[word] - (of_word & taken).bit_count() >= spare:
            return places, False
        for other in {self.theirs[place] for place in _bits(of_stem & ~of_word & ~taken)}:
            bits, spare = self.word_bits[other], self.spare_theirs[other]
            if spare and (bits & taken).bit_count() - seen[other] < spare:
                places |= bits & ~taken
        return places, seen_stems[stem] - (of_stem & taken).bit_count() < self.spare_stems[stem]


def _bits(number: int) -> Iterator[int]:
    while number:
        lowest = number & -number
        yield lowest.bit_length() - 1
        number ^= lowest


def _chunks(found: _Alignments, beam: int) -> int:
    """The fewest runs of matched words that are neighbours in both texts, among the alignments with most matches.

    Goes through our words and keeps the `beam` partial alignments that have fewest runs; those that differ in nothing
    that matters later are one. Exact where no more than `beam` differ, else an upper bound.
    """
    coming = [0]  # the reference words whose stem is still to come
    for stem in reversed(found.our_stems):
        coming.append(coming[-1] | found.stem_bits.get(stem, 0))
    coming.reverse()
    seen: Counter[str] = Counter()
    seen_stems: Counter[str] = Counter()
    states = {(0, -1): 0}  # (reference words taken, the one that would go on a run) -> runs
    for number, (word, stem) in enumerate(zip(found.ours, found.our_stems, strict=True)):
        after: dict[tuple[int, int], int] = {}
        for (taken, expected), runs in states.items():
            places, may_miss = found.allowed(number, taken, seen, seen_stems)
            steps = [(taken | 1 << place, place + 1, runs + (place != expected)) for place in _bits(places)]
            for now, following, count in [*steps, (taken, -1, runs)] if may_miss else steps:
                goes_on = following < len(found.theirs) and not now >> max(following, 0) & 1
                key = (now & coming[number + 1], following if goes_on else -1)
                after[key] = min(count, after.get(key, count))
        seen[word] += 1
        seen_stems[stem] += 1
        states = dict(sorted(after.items(), key=lambda one: (one[1], one[0][1] < 0, one[0]))[:beam])
    return min(states.values())


def _meteor_tokens(text: str) -> list[str]:
    return [token.lower() for token in tokens_13a(text)]


def _score(found: _Alignments, matches: int, runs: int) -> float:
    precision, recall = matches / len(found.ours), matches / len(found.theirs)
    mean = precision * recall / (_ALPHA * precision + (1 - _ALPHA) * recall)
    return mean * (1 - _GAMMA * (runs / matches) ** _BETA)


def meteor(said: str, reference: str, beam: int = BEAM) -> float:
    """(1 - 0.5 (c / m)^3) * P R / (0.9 P + 0.1 R) over the tokens of `tokens_13a` in lower case.

    m: matched tokens, equal ones first, then of those left over the ones of equal Porter stem; P = m / tokens said, R =
    m / tokens of the reference; c: runs of matched tokens that are neighbours in both texts, in the alignment of m
    matches that has fewest (`beam`: how many partial alignments the search keeps). 0 without a match.
    """
    found = _Alignments(_meteor_tokens(said), _meteor_tokens(reference))
    return _score(found, found.matches, _chunks(found, beam)) if found.matches else 0.0


Synonyms = Callable[[str], Set[str]]
"""The words that stand for the same as a word, those of several words left out."""


def _greedy(found: _Alignments, synonyms: Synonyms | None = None) -> tuple[int, int]:
    """Matches and runs where, from the last word back, each is matched with the last one that is left: equal words
    first, then equal stems, then stems of which one is a synonym of ours: NLTK, too, asks for those of stems."""
    matched: dict[int, int] = {}
    for ours, theirs in ((found.ours, found.theirs), (found.our_stems, found.their_stems)):
        taken = set(matched.values())
        left: dict[str, list[int]] = {}
        for place, word in enumerate(theirs):
            if place not in taken:
                left.setdefault(word, []).append(place)
        for number in range(len(ours) - 1, -1, -1):
            if number not in matched and left.get(ours[number]):
                matched[number] = left[ours[number]].pop()
    if synonyms is not None:
        taken = set(matched.values())
        free = [place for place in range(len(found.theirs) - 1, -1, -1) if place not in taken]
        for number in range(len(found.ours) - 1, -1, -1):
            if number in matched:
                continue
            means = synonyms(found.our_stems[number])
            of_one = [place for place in free if found.their_stems[place] in means]
            if of_one:
                matched[number] = of_one[0]
                free.remove(of_one[0])
    return len(matched), sum(matched.get(number - 1) != place - 1 for number, place in matched.items())


def meteor_greedy(said: str, reference: str, synonyms: Synonyms | None = None) -> float:
    """`meteor` with the alignment that NLTK takes, and so M3D: from the end, without a search for fewer runs; with
    `synonyms` as its third stage.

    Without them never above `meteor` where that is exact, and well below it for long texts.
    """
    found = _Alignments(_meteor_tokens(said), _meteor_tokens(reference))
    matches, runs = _greedy(found, synonyms)
    return _score(found, matches, runs) if matches else 0.0


# ----------------------------------------------------------------------------------- metrics that need what is not here


def _wordnet() -> Any:
    """WordNet as NLTK reads it; raises `MissingPackageError` without the package or its data."""
    if find_spec("nltk") is None:
        raise MissingPackageError("WordNet's synonyms need the package nltk: pip install nltk")
    wordnet = import_module("nltk.corpus").wordnet
    try:
        wordnet.ensure_loaded()
    except LookupError:
        raise MissingPackageError(
            "WordNet's synonyms need its data, which nothing here fetches: python -m nltk.downloader wordnet"
        ) from None
    return wordnet


def wordnet_meteor(said: Sequence[str], references: Sequence[str]) -> list[float]:
    """METEOR of each pair as M3D has it: NLTK's alignment with all three stages, words, stems and WordNet's synonyms.

    Raises `MissingPackageError` without NLTK or WordNet's data.
    """
    wordnet = _wordnet()

    @lru_cache(_WORDS)
    def synonyms(word: str) -> frozenset[str]:
        lemmas = (lemma.name() for synset in wordnet.synsets(word) for lemma in synset.lemmas())
        return frozenset({word, *(name for name in lemmas if "_" not in name)})

    return [meteor_greedy(*pair, synonyms) for pair in zip(said, references, strict=True)]


def _bert_score() -> Any:
    if find_spec("bert_score") is None:
        raise MissingPackageError("BERTScore needs the package bert_score: pip install bert-score")
    return import_module("bert_score")


def bert_scores(said: Sequence[str], references: Sequence[str]) -> list[float]:
    """F1 of BERTScore of each pair, by the package `bert_score` with its model for English, as M3D takes it.

    Raises `MissingPackageError` without the package.
    """
    _, _, f1 = _bert_score().score(list(said), list(references), lang="en")
    return [float(one) for one in f1]


@dataclass(frozen=True)
class OptionalMetric:
    """A metric that is taken where it is asked for."""

    of_pairs: Callable[[Sequence[str], Sequence[str]], list[float]]
    require: Callable[[], Any]
    """Raises `MissingPackageError` where it cannot be taken."""


OPTIONAL: Mapping[str, OptionalMetric] = MappingProxyType(
    {
        "bertscore": OptionalMetric(bert_scores, _bert_score),
        "meteor_wordnet": OptionalMetric(wordnet_meteor, _wordnet),
    }
)


def require_metrics(names: Sequence[str]) -> None:
    """Raise `ResultsError` for a name that none of `OPTIONAL` has, `MissingPackageError` for one that cannot be taken
    here."""
    for name in names:
        if name not in OPTIONAL:
            raise ResultsError(f"no metric is called {name!r} that could be asked for; there are {', '.join(OPTIONAL)}")
        OPTIONAL[name].require()

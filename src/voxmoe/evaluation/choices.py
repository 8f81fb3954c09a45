"""Which choice of a closed question a text names: exactly one, or none.

A choice is named by its letter ("B", "(b)", "B. liver", "Answer: B"), or by its text, which may stand in a sentence.
Where the texts of choices contain one another, the longest that is there is named. A text that names two different
choices, or says of one that it is not so, names none. docs/evaluation.md has the rules one by one.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from voxmoe.vqa.ct.exchange import LETTERS

_DASHES = dict.fromkeys(map(ord, "‐‑‒–—―−"), "-")
_QUOTES = dict.fromkeys(map(ord, "‘’ʼ`´"), "'")
_TOKEN = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+(?:'[^\W\d_]+)?|[<>=≤≥+%±°~^*/&]|-(?=\s*\d)")
_SIGNS = frozenset("<>=≤≥+-±~^/")

_NEGATIONS = frozenset(
    (
        *("no", "not", "cannot", "never", "neither", "nor", "none", "without", "except", "excluding", "rather"),
        *("instead", "incorrect", "wrong", "false", "isn't", "aren't", "wasn't", "don't", "doesn't", "can't", "won't"),
    )
)
_BREAK = re.compile(r"[,;:!?\n]|\.(?!\d)|\b(?:but|however)\b", re.IGNORECASE)
_GONE = "\0"
"""Stands where the text of a choice stood, when letters are looked for."""
_ALIKE = -1
"""The number of a choice whose text others share."""

_OPEN, _CLOSE = r"""[\s("'\[{*_]*""", r"""["'*_]*"""
_LEAD = r"(?:(?:the|my)\s+)?(?:(?:correct|right|best|final)\s+)?(?:answer|option|choice|letter)\s*(?:is|:|=|-)?\s*"
_LETTER = rf"(?P<letter>[{LETTERS}])"
_AFTER = rf"(?=\s*(?:$|[^\w\s{_GONE}])|\s+(?:because|since|as|is|and|or|based|given|due)\b)"
"""What may follow a letter that stands for a choice: not a word, to which "a" would be the article."""

_LETTERED = re.compile(
    rf"{_OPEN}(?:{_LEAD}){{0,2}}{_OPEN}{_LETTER}\s*(?:{_CLOSE}[.):,\]}}]+{_CLOSE}|\s-\s)\s*(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_ANY = re.compile(rf"\b[{LETTERS}]\b", re.IGNORECASE)
_ONLY_LETTERS = re.compile(rf"[^\w{_GONE}]*(?:[{LETTERS}](?:[^\w{_GONE}]+|$))+", re.IGNORECASE)
_MARKED = (
    re.compile(rf"^{_OPEN}{_LETTER}(?=\s*{_CLOSE}[.):,\]}}]|\s+-\s|\s*$)", re.IGNORECASE),
    re.compile(rf"^{_OPEN}(?P<letter>[{LETTERS[1:]}])(?=\s+{_GONE})", re.IGNORECASE),
    re.compile(rf"[(\[]\s*{_LETTER}\s*[)\]]", re.IGNORECASE),
    re.compile(rf"\*\*{_LETTER}\*\*", re.IGNORECASE),
    re.compile(rf"\b(?:options?|choices?|letters?)\b\s*(?:is|are|:|=|-)?{_OPEN}{_LETTER}\b(?!')", re.IGNORECASE),
    re.compile(rf"\banswers?\b\s*(?:is|are|:|=|-)*{_OPEN}(?:(?P<letter>[{LETTERS[1:]}])\b(?!'))", re.IGNORECASE),
    re.compile(rf"\banswers?\b\s*(?:is|are|:|=|-)*{_OPEN}(?P<letter>A)\b{_AFTER}", re.IGNORECASE),
    re.compile(rf"\b(?i:is|be|it's|not|choose|chose|select|pick|say|with){_OPEN}{_LETTER}\b{_AFTER}"),
    re.compile(rf"\n{_OPEN}{_LETTER}(?=\s*{_CLOSE}(?:[):\].]|$|\n))"),
    re.compile(
        rf"(?:[.:;!?,]|\b(?:but|so|then|thus|hence|therefore|maybe|perhaps|probably)\b)"
        rf"{_OPEN}{_LETTER}(?=\s*{_CLOSE}[):\].!?]*{_CLOSE}\s*$)"
    ),
    re.compile(rf"\b{_LETTER}[.):]\s*(?={_GONE})"),
)
_LISTED = re.compile(rf"\b[{LETTERS}](?:\s*(?:,|/|&|\band\b|\bor\b)\s*(?:\bor\s+|\band\s+)?[{LETTERS}]\b)+")


@dataclass(frozen=True)
class _Token:
    word: str
    start: int
    end: int


@dataclass(frozen=True)
class _Mention:
    """A place where a choice is named; of a letter beyond the choices, too."""

    choice: int
    start: int
    end: int


def _plain(text: str) -> str:
    """One form for what looks alike: compatibility characters, dashes, quotes; nothing invisible."""
    text = unicodedata.normalize("NFKC", text).translate(_DASHES | _QUOTES)
    return "".join(one for one in text if one == "\n" or unicodedata.category(one) not in ("Cf", "Cc"))


def _tokens(text: str) -> list[_Token]:
    return [_Token(match[0].casefold(), match.start(), match.end()) for match in _TOKEN.finditer(text)]


def words_of(text: str) -> tuple[str, ...]:
    """Words, numbers and the signs that change their meaning, in one case: what two texts have to share to be equal."""
    return tuple(token.word for token in _tokens(_plain(text)))


def read_choice(text: str, choices: Sequence[str]) -> str | None:
    """The letter of the one choice that a text names; None where it names none, two, or denies one."""
    plain = _plain(text)
    options = [words_of(choice) for choice in choices]
    if (match := _LETTERED.fullmatch(plain)) is not None:
        number = LETTERS.index(match["letter"].upper())
        if number < len(options) and words_of(match["rest"]) == options[number]:
            return LETTERS[number]
    spoken = list(_spoken(plain, options))
    blanked = plain
    for mention in spoken:
        blanked = blanked[: mention.start] + _GONE * (mention.end - mention.start) + blanked[mention.end :]
    mentions = [*(mention for mention in spoken if mention.choice != _ALIKE), *_lettered(blanked)]
    named = {mention.choice for mention in mentions}
    if len(named) != 1 or any(_denied(blanked, mention, options) for mention in mentions):
        return None
    number = named.pop()
    return LETTERS[number] if number < len(options) else None


def _spoken(text: str, options: Sequence[tuple[str, ...]]) -> Iterator[_Mention]:
    """Where the texts of choices stand, but within a longer one."""
    tokens = _tokens(text)
    alike = Counter(options)
    found = [
        (at, at + len(option), _ALIKE if alike[option] > 1 else number)
        for number, option in enumerate(options)
        for at in range(len(tokens) - len(option) + 1)
        if option and _stands_at(tokens, at, option)
    ]
    for start, end, number in found:
        if not any(s <= start and end <= e and (s, e) != (start, end) for s, e, _ in found):
            yield _Mention(number, tokens[start].start, tokens[end - 1].end)


def _stands_at(tokens: Sequence[_Token], at: int, option: tuple[str, ...]) -> bool:
    """Whether the tokens from there on are the option's, and no number of it is a part of a larger expression."""
    end = at + len(option)
    if tuple(token.word for token in tokens[at:end]) != option:
        return False
    before = tokens[at - 1].word if at else ""
    after = tokens[end].word if end < len(tokens) else ""
    part_before = option[0][0].isdigit() and before in _SIGNS
    return not (part_before or (option[-1][0].isdigit() and (after in _SIGNS or after == "%")))


def _lettered(text: str) -> Iterator[_Mention]:
    """Where letters stand for choices, in a text without the texts of choices."""
    if _ONLY_LETTERS.fullmatch(text):
        places = {match.start() for match in _ANY.finditer(text)}
    else:
        places = {match.start("letter") for pattern in _MARKED for match in pattern.finditer(text)}
        for listed in _LISTED.finditer(text):
            places |= {match.start() for match in _ANY.finditer(text, listed.start(), listed.end())}
    for place in sorted(places):
        yield _Mention(LETTERS.index(text[place].upper()), place, place + 1)


def _denied(text: str, mention: _Mention, options: Sequence[tuple[str, ...]]) -> bool:
    """Whether a negation stands in the same clause, outside of the texts of choices."""
    if mention.choice < len(options) and set(options[mention.choice]) & (_NEGATIONS | {"yes"}):
        return False
    start, end = 0, len(text)
    for match in _BREAK.finditer(text):
        if match.end() <= mention.start:
            start = match.end()
        if match.start() >= mention.end:
            end = match.start()
            break
    return any(token.word in _NEGATIONS for token in _tokens(text[start:end]))


def m3d_compat(text: str, letter: str) -> bool:
    """M3D's rule: the right letter in capitals with a full stop after it, anywhere in the text, counts as right."""
    return f"{letter}." in text

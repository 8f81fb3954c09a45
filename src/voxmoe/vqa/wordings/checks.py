"""Whether a question template with its answer template can be used (mpLLM, Appendix A: "we check the generated results
for quality"): what has to hold of every wording, and what a language model has to be watched for besides.
"""

import re

from voxmoe.vocabulary import Kind
from voxmoe.vqa.wordings.bank import PLACEHOLDERS, Tasks

LABEL = "{label}"
_IN_BRACES = re.compile(r"\{[^{}]*\}")
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
_COMMON_WORDS = """
    about affect affected affects after and any appear appears are area areas assess at based be been being best
    brain by can cannot clarify comment could describe described determine did does during each extends extent
    find for from give has have how identify if indicate into it its know like located location my not of or our
    outside overall please provide region regions report scan scope seen shape should show shown size specify
    spread study tell that the their there these this to unable we what when where whether which who why will with
    within would you your
"""
_COMMON = frozenset(_COMMON_WORDS.split())
"""Words that English sentences of this kind are full of."""
_SHARED = frozenset(["a", "also", "an", "as", "do", "i", "in", "is", "me", "no", "on", "so"])
"""Words that other languages have too: they count neither for English nor against it."""
_ENGLISH_SHARE = 0.25
_REFUSES = re.compile(
    r"\b(?:cannot|can't|can not|could not|couldn't|unable|not|no|nor|isn't|don't|doesn't|outside|beyond|lacks?|lacking|"
    r"without|limited|insufficient|unavailable|impossible|only)\b",
    re.IGNORECASE,
)


def _places(text: str) -> list[str]:
    return _IN_BRACES.findall(text)


def template_fault(tasks: Tasks, question: str, answer: str) -> str | None:
    """Why the templates cannot be filled in, if they cannot: placeholders lost, doubled, unknown or out of place.

    The label is named in both, except that an answer about no task need not name it; every task's placeholder stands in
    the answer once and in no question.
    """
    if not question or not answer:
        return "empty"
    for text in (question, answer):
        if set("{}") & set(_IN_BRACES.sub("", text)):
            return "braces that do not match"
    if set(_places(question)) != {LABEL}:
        return "the question's placeholders are not {label} alone"
    expected = sorted(PLACEHOLDERS[task] for task in tasks)
    found = _places(answer)
    if sorted(place for place in found if place != LABEL) != expected:
        return "the answer's placeholders are not those of its tasks, once each"
    if tasks and LABEL not in found:
        return "the answer does not name {label}"
    return None


def is_english(text: str) -> bool:
    """A simple check that needs nothing but the text: letters of English, and enough of its most common words."""
    words = [word for word in _WORD.findall(_IN_BRACES.sub(" ", text).lower()) if word not in _SHARED]
    if not words or any(not letter.isascii() for word in words for letter in word):
        return False
    return sum(word in _COMMON for word in words) >= _ENGLISH_SHARE * len(words)


def text_fault(kind: Kind, question: str, answer: str) -> str | None:
    """Why what a language model wrote is not to be used, if it is not."""
    if answer[-1] not in ".!?":
        return "the answer has no end"
    if not (is_english(question) and is_english(answer)):
        return "not English"
    if kind is not Kind.IN_SCOPE and not _REFUSES.search(answer):
        return "the answer refuses nothing"
    return None


def same_words(question: str) -> str:
    """What is equal for two questions that differ in case, spaces or the last punctuation only."""
    return " ".join(question.lower().rstrip(" .?!").split())

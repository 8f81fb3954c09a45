"""Sides in questions and answers: what they become where a scan is mirrored left to right."""

import re

_OTHER = {"left": "right", "right": "left"}
_WORD = re.compile(r"\b(?:left|right)\b", re.IGNORECASE)
_ANATOMY = (
    r"sided?\b|hemisphere|lobe|brain|cerebell|cerebr|cortex|cortical|gyrus|ventric|thalam|basal gangli|caudate|"
    r"hippocamp|frontal|parietal|occipital|temporal|limbic|insula|subcortical"
)
_BESIDE = r"(?:,? (?:and|or) |/|, )(?:the )?"
_AFTER = re.compile(rf"[ -](?:[a-z]+ ){{0,2}}(?:{_ANATOMY})|{_BESIDE}(?:left|right)\b", re.IGNORECASE)
_BEFORE = re.compile(rf"(?:\b(?:in|on|to|from|at) (?:the|its) |\b(?:left|right){_BESIDE})$", re.IGNORECASE)


def doubtful(text: str) -> str | None:
    """The first "left" or "right" that may not be a side of the body, as in "what is left of it"; None where there is
    none."""
    return next((found[0] for found in _WORD.finditer(text) if not _is_side(text, found)), None)


def names_side(text: str) -> bool:
    """Whether a text has one of the words."""
    return _WORD.search(text) is not None


def mirrored(text: str) -> str:
    """The text about the mirror image: left for right, right for left, in the same case."""
    return _WORD.sub(lambda found: _like(found[0], _OTHER[found[0].lower()]), text)


def _is_side(text: str, found: re.Match[str]) -> bool:
    """Whether the word stands alone, before a part of the body, after "on the" and the like, or beside the other."""
    before, after = text[: found.start()], text[found.end() :]
    alone = not re.search(r"\w", before + after)
    return alone or _AFTER.match(after) is not None or _BEFORE.search(before) is not None


def _like(model: str, word: str) -> str:
    return word.upper() if model.isupper() else word.capitalize() if model[0].isupper() else word

"""The choices of a closed question as tables have them: a column a letter, some of them absent."""

from collections.abc import Sequence

from voxmoe.errors import DatasetError
from voxmoe.vqa.ct.exchange import LETTERS

ABSENT = frozenset({"", "-", "NA", "N/A", "nan"})
"""How published tables write a choice that there is not."""


def _same(first: str, second: str) -> bool:
    """But for case and a full stop at the end."""
    return first.rstrip(". ").casefold() == second.rstrip(". ").casefold()


def present(cells: Sequence[str]) -> tuple[str, ...]:
    """The choices that there are, in the order of their letters; raises `DatasetError` if one between is absent."""
    there = [cell not in ABSENT for cell in cells]
    count = sum(there)
    if not all(there[:count]):
        raise DatasetError(f"its choice {LETTERS[there.index(False)]} is absent and a later one is not")
    if count < 2:
        raise DatasetError(f"has {count} choices; a closed question needs at least 2")
    return tuple(cells[:count])


def chosen(choices: Sequence[str], letter: str, answer: str) -> str:
    """The choice that the letter names; raises `DatasetError` if there is none, or the answer says something else."""
    letter = letter.rstrip(". ").upper()
    if len(letter) != 1 or letter not in LETTERS[: len(choices)]:
        raise DatasetError(f"its letter is {letter or 'empty'}; its choices have {', '.join(LETTERS[: len(choices)])}")
    choice = choices[LETTERS.index(letter)]
    if not _same(choice, answer):
        raise DatasetError(f"its letter {letter} means {choice!r}, its answer is {answer!r}")
    return choice

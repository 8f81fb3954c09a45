"""Wordings from a language model, as the paper made them: its prompts, repetitions and checks (mpLLM, Appendix A).

Every reply is kept beside the file that is made, under a hash of its request, its repetition and nothing else: a run
that was interrupted goes on, more repetitions ask for those alone, and the same replies give the same file whichever
server they came from.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Annotated, Any

from pydantic import Field

from voxmoe import __version__
from voxmoe.errors import EndpointError
from voxmoe.files import write_json
from voxmoe.settings import Settings
from voxmoe.vocabulary import Kind
from voxmoe.vqa.wordings.bank import QUESTION_TYPES, Tasks, type_name
from voxmoe.vqa.wordings.checks import same_words, template_fault, text_fault
from voxmoe.vqa.wordings.endpoint import Endpoint
from voxmoe.vqa.wordings.file import Entry, write_wordings
from voxmoe.vqa.wordings.prompts import prompt

Repetitions = Annotated[int, Field(ge=1)]


class RewordingSettings(Settings):
    """What is asked of which model, how often. The defaults are the paper's, which used gpt-4o-mini-2024-07-18, and
    gpt-4o-2024-08-06 for what is partially out of scope."""

    model: str
    partial_model: str | None = None
    """For what is partially out of scope; None for the same."""
    repetitions: Repetitions = 40
    partial_repetitions: Repetitions = 10
    out_of_scope_repetitions: Repetitions = 10
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0


@dataclass(frozen=True)
class Errand:
    """One request of the plan."""

    kind: Kind
    tasks: Tasks
    repetition: int
    request: dict[str, Any]

    @property
    def key(self) -> str:
        asked = {"request": self.request, "repetition": self.repetition}
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def errands(settings: RewordingSettings) -> list[Errand]:
    """All requests, in the order in which their replies are read."""
    repetitions = {
        Kind.IN_SCOPE: settings.repetitions,
        Kind.PARTIAL: settings.partial_repetitions,
        Kind.OUT_OF_SCOPE: settings.out_of_scope_repetitions,
    }
    partial_model = settings.partial_model or settings.model
    planned = []
    for kind, tasks in QUESTION_TYPES:
        request = {
            "model": partial_model if kind is Kind.PARTIAL else settings.model,
            "messages": [{"role": "user", "content": prompt(kind, tasks)}],
            "temperature": settings.temperature,
            "top_p": settings.top_p,
        }
        planned += [Errand(kind, tasks, number, request) for number in range(repetitions[kind])]
    return planned


# ---------------------------------------------------------------------------------------------------------- replies

_ITEM = r"(?:^|\s)(?:[-#>]+\s*)?(?:\d+[.)]\s*)?"
_QUESTION = re.compile(rf"{_ITEM}Q(?:uestion)?\s?\d*:\s*")
_ANSWER = re.compile(rf"{_ITEM}A(?:nswer)?\s?\d*:\s*")
_BLANK_LINE = re.compile(r"\n\s*\n")


def pairs(reply: str) -> Iterator[tuple[str, str]]:
    """The questions and answers of a reply, numbered or emphasised or not; an answer that is missing is empty."""
    plain = reply.replace("*", "").replace("\u2019", "'")
    for part in _QUESTION.split(plain)[1:]:
        question, *answers = _ANSWER.split(part, maxsplit=1)
        answer = _BLANK_LINE.split(answers[0])[0] if answers else ""
        yield " ".join(question.split()), " ".join(answer.split()).rstrip(" -#>")


@dataclass(frozen=True)
class RewordingReport:
    """What came of it: wordings kept of each type, and how many were rejected of each for which reason."""

    requests: int
    cached: int
    """Of those, how many had been answered before."""
    empty_replies: int
    """Replies without any question and answer."""
    kept: dict[str, int]
    rejected: dict[str, dict[str, int]]
    source: str


def _sorted_out(replies: Sequence[tuple[Errand, str]]) -> tuple[list[Entry], dict[str, Counter[str]], int]:
    """The wordings to keep, the reasons against the others by type, and the number of replies without any."""
    entries: list[Entry] = []
    rejected = {type_name(*question_type): Counter[str]() for question_type in QUESTION_TYPES}
    seen: set[str] = set()
    empty = 0
    for errand, reply in replies:
        found = list(pairs(reply))
        empty += not found
        for question, answer in found:
            fault = template_fault(errand.tasks, question, answer) or text_fault(errand.kind, question, answer)
            if fault is None and same_words(question) in seen:
                fault = "asked already"
            if fault is None:
                seen.add(same_words(question))
                entries.append(Entry(kind=errand.kind, tasks=errand.tasks, question=question, answer=answer))
            else:
                rejected[type_name(errand.kind, errand.tasks)][fault] += 1
    return entries, rejected, empty


# -------------------------------------------------------------------------------------------------------- the cache


class _Replies:
    """Replies on disk, one file each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for stray in folder.glob(".*.tmp"):  # of a process that was killed while it wrote
            stray.unlink()

    def get(self, errand: Errand) -> str | None:
        try:
            kept = json.loads((self._folder / f"{errand.key}.json").read_text())
        except (OSError, ValueError):
            return None
        return str(kept["reply"])

    def put(self, errand: Errand, reply: str) -> None:
        kept = {"request": errand.request, "repetition": errand.repetition, "reply": reply}
        write_json(self._folder / f"{errand.key}.json", kept)


def _fetch(missing: Sequence[Errand], replies: _Replies, endpoint: Endpoint, parallel: int) -> Iterator[None]:
    """Ask what is missing, `parallel` requests at a time, and keep each reply; yields after each.

    Threads are daemons: a run that is interrupted ends at once, without the replies that were on their way.
    """
    waiting: SimpleQueue[Errand] = SimpleQueue()
    done: SimpleQueue[Exception | None] = SimpleQueue()
    for errand in missing:
        waiting.put(errand)

    def work() -> None:
        while not endpoint.stop.is_set():
            try:
                errand = waiting.get_nowait()
            except Empty:
                return
            try:
                replies.put(errand, endpoint.complete(errand.request))
                done.put(None)
            except Exception as error:
                done.put(error)

    for _ in range(min(parallel, len(missing))):
        Thread(target=work, daemon=True).start()
    try:
        for _ in missing:
            if (error := done.get()) is not None:
                raise error
            yield
    finally:
        endpoint.stop.set()


def reword(
    out: Path,
    settings: RewordingSettings,
    endpoint: Endpoint,
    *,
    parallel: int = 4,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> RewordingReport:
    """Ask a language model for wordings of every question type and write those that pass the checks to `out`.

    Replies are kept in OUT.replies, and what came of them in OUT.manifest.json. Raises `EndpointError` if the endpoint
    gives up or if no wording passes; an `Endpoint` serves one run.
    """
    planned = errands(settings)
    replies = _Replies(out.with_name(f"{out.name}.replies"))
    missing = [errand for errand in planned if replies.get(errand) is None]
    cached = len(planned) - len(missing)
    progress(cached, len(planned))
    for done, _ in enumerate(_fetch(missing, replies, endpoint, parallel), start=cached + 1):
        progress(done, len(planned))
    entries, rejected, empty = _sorted_out([(errand, replies.get(errand) or "") for errand in planned])
    counted = {name: dict(reasons) for name, reasons in rejected.items() if reasons}
    if not entries:
        reasons = sum(rejected.values(), Counter[str]())
        raise EndpointError(
            f"no wording in {len(planned)} replies can be used ({empty} without any, rejected: {dict(reasons)}); "
            f"look at {out.name}.replies"
        )
    kept = Counter(type_name(entry.kind, entry.tasks) for entry in entries)
    found = {type_name(*question_type): kept[type_name(*question_type)] for question_type in QUESTION_TYPES}
    report = RewordingReport(len(planned), cached, empty, found, counted, write_wordings(out, entries))
    manifest = {"voxmoe": __version__, "settings": settings.model_dump(), **asdict(report)}
    del manifest["cached"]  # of this run, not of the file
    write_json(out.with_name(f"{out.name}.manifest.json"), manifest)
    return report

"""Wordings from an endpoint: what is asked, what is kept of the replies and why not the rest, and that nothing is asked
twice, however often a run ends before its time."""

import json
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from stub_endpoint import Reply, Stub, completion, serving

from voxmoe.errors import EndpointError
from voxmoe.files import sha256
from voxmoe.vocabulary import PROFILES_BY_NAME, Kind, Task
from voxmoe.vqa.sampling import check_enough, draw_questions
from voxmoe.vqa.wordings.bank import QUESTION_TYPES, type_name
from voxmoe.vqa.wordings.endpoint import Endpoint
from voxmoe.vqa.wordings.file import read_wordings
from voxmoe.vqa.wordings.grammar import GRAMMAR
from voxmoe.vqa.wordings.prompts import PROMPTS, prompt
from voxmoe.vqa.wordings.rewording import RewordingReport, RewordingSettings, errands, pairs, reword

FEW = RewordingSettings(
    model="small", partial_model="large", repetitions=2, partial_repetitions=1, out_of_scope_repetitions=1
)
REQUESTS = 15 * 2 + 15 + 1
PAIRS = 6
BY_PROMPT = {prompt(kind, tasks): (kind, tasks) for kind, tasks in QUESTION_TYPES}


@pytest.fixture(autouse=True)
def _directly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")


def asked_type(request: dict[str, Any]) -> tuple[Kind, tuple[Task, ...]]:
    return BY_PROMPT[request["messages"][0]["content"]]


def words(number: int, request: dict[str, Any]) -> str:
    """Wordings of the type that is asked for, others each time."""
    kind, tasks = asked_type(request)
    bank = GRAMMAR.bank(kind, tasks)
    found = [bank.wording(PAIRS * number + place, place) for place in range(PAIRS)]
    return "\n".join(f"Q: {wording.question}\nA: {wording.answer}\n" for wording in found)


def model(number: int, request: dict[str, Any]) -> Reply:
    return completion(words(number, request))


def run(stub: Stub, out: Path, settings: RewordingSettings = FEW, **other: Any) -> RewordingReport:
    return reword(out, settings, Endpoint(stub.url, timeout_s=20, first_wait_s=0.001), **other)


# ------------------------------------------------------------------------------------------------------- what is asked


def test_the_papers_plan() -> None:
    planned = errands(RewordingSettings(model="gpt-4o-mini-2024-07-18", partial_model="gpt-4o-2024-08-06"))
    assert Counter(errand.kind for errand in planned) == {Kind.IN_SCOPE: 600, Kind.PARTIAL: 150, Kind.OUT_OF_SCOPE: 10}
    assert len({errand.key for errand in planned}) == 760
    for errand in planned:
        asked = errand.request
        assert (asked["temperature"], asked["top_p"]) == (1.0, 1.0)
        partial = errand.kind is Kind.PARTIAL
        assert asked["model"] == ("gpt-4o-2024-08-06" if partial else "gpt-4o-mini-2024-07-18")
        assert asked["messages"] == [{"role": "user", "content": prompt(errand.kind, errand.tasks)}]


def test_prompts_ask_for_what_is_read() -> None:
    for kind, text in PROMPTS.items():
        assert 'starting with "Q:"' in text
        assert "clinician" in text
        assert ("cannot" in text) is (kind is not Kind.IN_SCOPE)
    whole = prompt(Kind.PARTIAL, (Task.VOLUME, Task.SHAPE))
    assert whole.endswith(
        "additional text.\n\nQ: How large is the volume of {label} and what is its shape?\nA: The overall volume of "
        "{label} is {volume}, and its shape is described as {shape}."
    )
    assert len(BY_PROMPT) == 31
    assert prompt(Kind.OUT_OF_SCOPE, ()) == PROMPTS[Kind.OUT_OF_SCOPE]


def test_the_key_of_a_reply_depends_on_what_is_asked_and_on_nothing_else() -> None:
    def keys(**other: Any) -> set[str]:
        return {errand.key for errand in errands(RewordingSettings(**{"model": "m", "repetitions": 2, **other}))}

    assert keys() == keys()
    assert keys(repetitions=3) > keys()
    assert not keys(model="n") & keys()
    assert not keys(temperature=0.5) & keys()
    assert not keys(top_p=0.5) & keys()
    assert len(keys(partial_model="n") & keys()) == 2 * 15 + 10


@pytest.mark.parametrize("wrong", [{"repetitions": 0}, {"temperature": 3}, {"top_p": 0}, {"seed": 1}])
def test_settings_that_are_none(wrong: dict) -> None:
    with pytest.raises(ValidationError):
        RewordingSettings(model="m", **wrong)


# ------------------------------------------------------------------------------------------------------- what is read


@pytest.mark.parametrize(
    "reply",
    [
        "Q: How big is {label}?\nA: It is {volume}.\n\nQ: What size?\nA: {volume} it is.",
        "Q: How big is {label}? A: It is {volume}.\nQ: What size? A: {volume} it is.",
        "Sure, here:\n\n1. Q: How big is {label}?\nA: It is {volume}.\n\n2. Q: What size?\n   A: {volume} it is.",
        "**Q:** How big is {label}?  \n**A:** It is {volume}.\n\n---\n\n**Q:** What size?  \n**A:** {volume} it is.",
        "Q1: How big is {label}?\nA1: It is {volume}.\nQ2: What size?\nA2: {volume} it is.\n\nI hope this helps!",
        "- Q: How big\n  is {label}?\n- A: It is {volume}.\n- Q: What size?\n- A: {volume} it is.",
        "Question 1: How big is {label}?\r\nAnswer 1: It is {volume}.\r\nQuestion 2: What size? A: {volume} it is.",
    ],
)
def test_pairs_are_found_however_they_are_laid_out(reply: str) -> None:
    assert list(pairs(reply)) == [("How big is {label}?", "It is {volume}."), ("What size?", "{volume} it is.")]


def test_pairs_that_are_none() -> None:
    assert list(pairs("I cannot help with that.")) == []
    assert list(pairs("")) == []
    assert list(pairs("Q: What size is {label}")) == [("What size is {label}", "")]
    assert list(pairs("Q: One?\nQ: Two?\nA: Yes.")) == [("One?", ""), ("Two?", "Yes.")]
    assert list(pairs("Q: What\u2019s {label}?\nA: I can\u2019t say.")) == [("What's {label}?", "I can't say.")]


# -------------------------------------------------------------------------------------------------------- whole runs


def test_a_run_and_what_is_drawn_from_it(tmp_path: Path) -> None:
    out = tmp_path / "wordings.jsonl"
    told: list[tuple[int, int]] = []
    with serving(model) as stub:
        report = run(stub, out, progress=lambda *step: told.append(step))
    assert told == [(number, REQUESTS) for number in range(REQUESTS + 1)]
    assert (report.requests, report.cached, report.empty_replies, report.rejected) == (REQUESTS, 0, 0, {})
    assert list(report.kept) == [type_name(*one) for one in QUESTION_TYPES]
    assert {count for name, count in report.kept.items() if name.startswith("in-scope")} == {2 * PAIRS}
    assert report.source == f"sha256:{sha256(out)}"
    wordings = read_wordings(out)
    check_enough(wordings, PAIRS)
    for draw in draw_questions("study", PROFILES_BY_NAME["gli"], 0, wordings):
        wording = wordings.bank(draw.kind, draw.tasks).wording(draw.question, draw.answer)
        assert f"Q: {wording.question}\nA: {wording.answer}" in "".join(
            json.loads(path.read_text())["reply"] for path in (tmp_path / "wordings.jsonl.replies").iterdir()
        )
    manifest = json.loads((tmp_path / "wordings.jsonl.manifest.json").read_text())
    assert manifest["settings"] == FEW.model_dump()
    assert (manifest["source"], manifest["kept"]) == (report.source, report.kept)
    everything = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"very-secret" not in everything
    assert b"127.0.0.1" not in everything


def test_what_was_answered_is_not_asked_again(tmp_path: Path) -> None:
    out = tmp_path / "w.jsonl"
    with serving(model) as stub:
        first = run(stub, out)
        content = out.read_bytes()
        out.unlink()
        again = run(stub, out)
    with serving(model) as other:
        elsewhere = run(other, out)
        more = run(other, out, FEW.model_copy(update={"repetitions": 3}))
    assert len(stub.requests) == REQUESTS
    assert (again.cached, elsewhere.cached) == (REQUESTS, REQUESTS)
    assert again.kept == first.kept == elsewhere.kept
    assert len(other.requests) == 15
    assert (more.requests, more.cached) == (REQUESTS + 15, REQUESTS)
    out.unlink()
    with serving(model) as stub:
        run(stub, out)
    assert stub.requests == []
    assert out.read_bytes() == content


def test_what_cannot_be_used_is_counted_by_its_reason(tmp_path: Path) -> None:
    rejects = {
        "the question's placeholders are not {label} alone": "Q: Is it large?\nA: The {label} is {volume}.",
        "the answer's placeholders are not those of its tasks, once each": "Q: What of {label}?\nA: {label} is big.",
        "the answer does not name {label}": "Q: And what of {label}?\nA: It is {volume}.",
        "braces that do not match": "Q: How {big is {label}?\nA: The {label} is {volume}.",
        "empty": "Q: Where is the answer about {label}?",
        "the answer has no end": "Q: How big might {label} be?\nA: The {label} is {volume} of the",
        "not English": "Q: Wie groß ist {label}?\nA: Das Volumen von {label} ist {volume}.",
    }

    def sloppy(number: int, request: dict[str, Any]) -> Reply:
        kind, tasks = asked_type(request)
        if (kind, tasks) == (Kind.IN_SCOPE, (Task.VOLUME,)):
            first = "Q: How big is the {label}?\nA: The {label} has a volume of {volume}."
            same = "Q: how big is the {label}\nA: It is the {label}, with a volume of {volume}."
            return completion("\n".join([first, *rejects.values(), same]))
        if kind is Kind.OUT_OF_SCOPE:
            return completion("Q: What is the prognosis of the {label}?\nA: The prognosis of the {label} is good.")
        return completion("" if (kind, tasks) == (Kind.PARTIAL, (Task.SHAPE,)) else words(number, request))

    with serving(sloppy) as stub:
        report = run(stub, tmp_path / "w.jsonl")
    # the first reply: one kept, one the same again; the second: both the same again
    assert report.rejected["in-scope volume"] == {**dict.fromkeys(rejects, 2), "asked already": 3}
    assert report.kept["in-scope volume"] == 1
    assert report.rejected["out-of-scope"] == {"the answer refuses nothing": 1}
    assert (report.kept["out-of-scope"], report.kept["partially-out-of-scope shape"]) == (0, 0)
    assert report.empty_replies == 1
    assert sum(report.kept.values()) == len((tmp_path / "w.jsonl").read_text().splitlines())


def test_no_wording_at_all(tmp_path: Path) -> None:
    with (
        serving(lambda number, request: completion("I would rather not.")) as stub,
        pytest.raises(EndpointError, match=f"no wording in {REQUESTS} replies can be used \\({REQUESTS} without any"),
    ):
        run(stub, tmp_path / "w.jsonl")
    assert not (tmp_path / "w.jsonl").exists()


@pytest.mark.parametrize("parallel", [1, 3])
def test_failures_that_pass_leave_no_trace(parallel: int, tmp_path: Path) -> None:
    asked: Counter[str] = Counter()

    def shaky(number: int, request: dict[str, Any]) -> Reply:
        content = request["messages"][0]["content"]
        asked[content] += 1
        return Reply("busy", 429) if asked[content] == 1 else model(number, request)

    with serving(shaky) as stub:
        report = run(stub, tmp_path / "w.jsonl", parallel=parallel)
    assert all(report.kept.values())
    assert len(stub.requests) == REQUESTS + 31


@pytest.mark.parametrize("parallel", [1, 4])
def test_an_error_ends_it_and_what_was_answered_stays(parallel: int, tmp_path: Path) -> None:
    def dying(number: int, request: dict[str, Any]) -> Reply:
        return model(number, request) if number < 10 else Reply('{"error": {"message": "out of money"}}', 400)

    with serving(dying) as stub, pytest.raises(EndpointError, match="out of money"):
        run(stub, tmp_path / "w.jsonl", parallel=parallel)
    assert not (tmp_path / "w.jsonl").exists()
    with serving(model) as stub:
        report = run(stub, tmp_path / "w.jsonl")
    assert len(stub.requests) == REQUESTS - report.cached
    assert 1 <= report.cached <= 10


def test_a_torn_reply_is_asked_for_again(tmp_path: Path) -> None:
    with serving(model) as stub:
        run(stub, tmp_path / "w.jsonl")
        kept = sorted((tmp_path / "w.jsonl.replies").iterdir())
        kept[3].write_text("{")
        (kept[0].parent / f".{kept[0].name}.x.tmp").write_text("half")
        run(stub, tmp_path / "w.jsonl")
    assert len(stub.requests) == REQUESTS + 1
    assert not list(kept[0].parent.glob(".*"))


def test_killed_it_goes_on(tmp_path: Path) -> None:
    """The command, killed without warning while it asks; the next run asks for the rest."""
    out = tmp_path / "w.jsonl"
    replies = tmp_path / "w.jsonl.replies"
    command = [
        sys.executable,
        "-m",
        "voxmoe",
        "wordings",
        str(out),
        "--model",
        "small",
    ]
    command += ["--repetitions", "2", "--partial-repetitions", "1", "--out-of-scope-repetitions", "1", "--endpoint"]
    running: list[subprocess.Popen[str]] = []

    def until_killed(number: int, request: dict[str, Any]) -> Reply:
        if number == 20:
            running[0].send_signal(signal.SIGKILL)
        return model(number, request)

    with serving(until_killed) as stub:
        running.append(subprocess.Popen([*command, stub.url], stderr=subprocess.DEVNULL, text=True))
        assert running[0].wait(60) == -signal.SIGKILL
    assert not out.exists()
    kept = len(list(replies.glob("[!.]*")))
    assert 10 <= kept <= 20
    with serving(model) as stub:
        done = subprocess.run([*command, stub.url, "--json"], capture_output=True, text=True, check=True)
    assert len(stub.requests) == REQUESTS - kept
    assert json.loads(done.stdout)["cached"] == kept
    assert f"asking for wordings: {REQUESTS}/{REQUESTS}" in done.stderr
    assert "very-secret" not in done.stdout + done.stderr
    check_enough(read_wordings(out), 4)


def test_the_command(voxmoe: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    few = ("--repetitions", 1, "--partial-repetitions", 1, "--out-of-scope-repetitions", 1)
    with serving(model) as stub:
        asked = ("wordings", tmp_path / "w.jsonl", "--endpoint", stub.url, "--model", "m", *map(str, few))
        code, out, err = voxmoe(*asked)
    assert code == 0
    assert re.search(r"in-scope volume\+region +6 +0", out)
    assert "186 wordings from 31 replies (0 of them kept from before" in out
    assert "asking for wordings: 31/31" in err
    assert {request["model"] for request in stub.requests} == {"m"}
    code, out, err = voxmoe(*asked[:3], "not-a-url", *asked[4:])
    assert (code, out) == (2, "")
    assert "error: not the address of an API" in err


def test_the_command_says_if_a_type_is_missing(voxmoe: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    def lazy(number: int, request: dict[str, Any]) -> Reply:
        return completion("No.") if asked_type(request)[0] is Kind.OUT_OF_SCOPE else model(number, request)

    few = ("--repetitions", "1", "--partial-repetitions", "1", "--out-of-scope-repetitions", "1")
    with serving(lazy) as stub:
        code, out, _ = voxmoe("wordings", tmp_path / "w.jsonl", "--endpoint", stub.url, "--model", "m", *few)
    assert code == 1
    assert re.search(r"out-of-scope +0 +0", out)

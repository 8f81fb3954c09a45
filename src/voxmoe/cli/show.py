"""Results for people: tables on standard output, progress and notes on standard error."""

import json
import os
import sys
from collections.abc import Callable
from datetime import timedelta
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.progress import Task as RichTask
from rich.table import Table
from rich.text import Text

from voxmoe.vocabulary import ABSENT, NO_REGION, NOT_ASKED, SPREADS, Task

if TYPE_CHECKING:
    from voxmoe.evaluation import tables

_WIDE = 160
"""Columns where the output goes to a file or a pipe."""


out = Console(highlight=False, markup=False, soft_wrap=True, width=None if sys.stdout.isatty() else _WIDE)
err = Console(
    highlight=False,
    markup=False,  # what is printed has names and words of others in it
    soft_wrap=True,
    width=None if sys.stderr.isatty() else _WIDE,
    stderr=True,
    quiet=os.environ.get("RANK", "0") != "0",  # of several processes that train together, one speaks
)
_QUIET_STEPS = 10
_FEW_CASES = 4
"""Up to so many cases of a benchmark are printed one by one."""


def _rate(per_second: float) -> str:
    return f"{per_second:.1f}/s" if per_second >= 1 else f"{1 / per_second:.1f} s each"


class _RateColumn(ProgressColumn):
    """How many are done in a second, or how long one takes."""

    def render(self, task: RichTask) -> Text:
        return Text(_rate(task.speed) if task.speed else "")


class Progress:
    """A bar for each stage; where standard error is no terminal, a line now and then."""

    def __init__(self) -> None:
        self.bars = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            _RateColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=err,
            transient=True,
        )
        self.task: Any = None
        self.stage = ""
        self.printed = -1
        self.began = (0, 0.0)
        """What was done when the stage began (of a build that goes on, not nothing), and when that was."""

    def __enter__(self) -> "Progress":
        if err.is_terminal:
            self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if err.is_terminal:
            self.bars.stop()

    def of(self, stage: str) -> Callable[[int, int], None]:
        return lambda done, total: self.report(stage, done, total)

    def report(self, stage: str, done: int, total: int) -> None:
        """Show how much of a stage is done; the words before " (" name the stage."""
        name = stage.split(" (", maxsplit=1)[0]
        if name != self.stage:
            self.stage, self.printed, self.began = name, -1, (done, monotonic())
            if self.task is not None:
                self.bars.remove_task(self.task)
            self.task = self.bars.add_task(stage, total=total)
        self.bars.update(self.task, description=stage, completed=done, total=total)
        if not err.is_terminal and total:
            tenth = done * _QUIET_STEPS // total
            if tenth > self.printed:
                self.printed = tenth
                err.print(f"{stage}: {done}/{total}{self._pace(done, total)}", style=None)

    def _pace(self, done: int, total: int) -> str:
        """Rate and time left, once something was done."""
        first, since = self.began
        seconds = monotonic() - since
        if not first < done < total or not seconds:
            return ""
        rate = (done - first) / seconds
        return f", {_rate(rate)}, {timedelta(seconds=round((total - done) / rate))} left"


def note(text: str) -> None:
    err.print(text)


def result(content: Any, render: Callable[[Any], None], as_json: bool) -> None:
    """Print a result as JSON or by its own renderer."""
    if as_json:
        sys.stdout.write(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    else:
        render(content)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


_NUMBERS = ("mm3", "% brain", "parts", "core")


def _regions(label: dict[str, Any]) -> str:
    if label["sides"] is None:
        return "-"
    named = [f"{name} {'+'.join(side[0].upper() for side in sides)}" for name, sides in label["sides"].items()]
    return ", ".join(named) or (NO_REGION if label["present"] else ABSENT)


def findings(found: dict[str, Any]) -> None:
    atlas = found["atlas"]
    out.print(
        f"protocol {found['protocol']}   profile {found['profile']}   "
        f"atlas {atlas['name'] or 'none'} in {atlas['space'] or 'unknown space'}"
    )
    table = Table(box=None, pad_edge=False)
    for column in ("label", "mm3", "% brain", "volume", "shape", "spread", "parts", "core"):
        table.add_column(column, justify="right" if column in _NUMBERS else "left", no_wrap=True)
    table.add_column("regions")
    for key, label in found["labels"].items():
        table.add_row(
            key,
            _number(label["volume_mm3"], ",.0f"),
            _number(label["volume"]["percent"], ".2f"),
            label["volume"]["category"] or "-",
            label["shape"]["category"],
            label["spread"]["category"],
            str(label["spread"]["components"]),
            _number(label["spread"]["core_fraction"], ".2f"),
            _regions(label),
        )
    out.print(table)
    for key, label in found["labels"].items():
        if label["present"]:
            for field, reason in label["reasons"].items():
                out.print(f"{key}: no {field}: {reason}")


def findings_table(report: dict[str, Any]) -> None:
    out.print(f"{report['rows']:,} rows about {report['studies']} studies in {report['out']}")
    _left_out(report)


def build(report: dict[str, Any]) -> None:
    questions = report["questions"]
    counts = ", ".join(f"{count:,} {split}" for split, count in questions.items())
    out.print(f"{sum(questions.values()):,} questions about {report['studies']} studies ({counts}) in {report['out']}")
    _left_out(report)


def _left_out(report: dict[str, Any]) -> None:
    if report["skipped"]:
        out.print(f"{len(report['skipped'])} studies left out:")
        for study, reason in report["skipped"].items():
            out.print(f"  {study}: {reason}")


def wordings(report: dict[str, Any]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("question type", "kept", "rejected"):
        table.add_column(column, justify="left" if column == "question type" else "right")
    table.add_column("why")
    for name, kept in report["kept"].items():
        reasons = report["rejected"].get(name, {})
        why = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items())
        table.add_row(name, f"{kept:,}", f"{sum(reasons.values()):,}", why)
    out.print(table)
    out.print(
        f"{sum(report['kept'].values()):,} wordings from {report['requests']:,} replies ({report['cached']:,} of them "
        f"kept from before, {report['empty_replies']:,} without any) in {report['out']}"
    )


def _share(count: int, whole: int) -> str:
    return f"{count:,} ({100 * count / whole:.1f} %)"


def _columns(title: str, names: list[str]) -> Table:
    """A table with a column of words and then columns of numbers."""
    table = Table(box=None, pad_edge=False, title=f"\n{title}", title_justify="left")
    table.add_column("")
    for name in names:
        table.add_column(name, justify="right")
    return table


def statistics(found: dict[str, Any]) -> None:
    paper = found["paper"]
    theirs = [f"paper's {told['name']}" for told in paper]
    out.print(f"profile {', '.join(found['profiles'])}   protocol {found['protocol']}   {found['patients']:,} patients")
    table = _columns("counts (paper: Table 1)", ["this dataset", *theirs])
    every = [found, *paper]
    for name in ("questions", "studies"):
        table.add_row(name, *(f"{told[name]:,}" for told in every))
    for name in ("unique_questions", "unique_answers"):
        table.add_row(name.replace("_", " "), *(_share(told[name], told["questions"]) for told in every))
    for split, own in found["splits"].items():
        counted = [own["questions"], *(told["splits"][split] for told in paper)]
        table.add_row(
            f"questions, {split}",
            *(_share(count, told["questions"]) for count, told in zip(counted, every, strict=True)),
        )
    out.print(table)
    tables = ", ".join(str(told["table"]) for told in paper)
    table = _columns(
        f'percent of all questions (paper: Table {tables}, "Unspecified" for "not asked")', ["this dataset", *theirs]
    )
    for task, classes in found["frequencies"].items():
        table.add_row(task)
        for name, percent in classes.items():
            cells = [_number(told["frequencies"][task].get(name), ".1f") for told in paper]
            table.add_row(f"  {name}", f"{percent:.1f}", *cells)
    out.print(table)
    table = _columns("questions", [*found["splits"], "all"])
    for group in ("kinds", "labels", "types", "topics"):
        table.add_row(group)
        for name, count in found[group].items():
            cells = [f"{own[group].get(name, 0):,}" for own in found["splits"].values()]
            table.add_row(f"  {name}", *cells, f"{count:,}")
    out.print(table)
    out.print("\nexamples (paper: Table 5)")
    for kind, example in found["examples"].items():
        out.print(f"{kind}, {example['id']}")
        out.print(f"  Q  {example['question']}")
        out.print(f"  A  {example['answer']}")


_FIRST = 20
"""So many rows that were left out are printed; the file has all of them."""


def collected(report: dict[str, Any]) -> None:
    counts = ", ".join(f"{count:,} {split}" for split, count in report["rows"].items())
    out.print(f"{sum(report['rows'].values()):,} rows ({counts}; splits {report['splits']}) in {report['out']}")
    if report["skipped"]:
        out.print(f"{len(report['skipped']):,} rows left out, as a whole or in part:")
        for place, reason in list(report["skipped"].items())[:_FIRST]:
            out.print(f"  {place}: {reason}")
        if len(report["skipped"]) > _FIRST:
            out.print(f"  .. all of them with their reasons: {report['out']}/meta/skipped.json")


def validation(found: dict[str, Any]) -> None:
    for problem in found["problems"]:
        out.print(problem)
    out.print(f"{found['file']}: {found['rows']:,} rows, {len(found['problems']):,} problems")


def ct_statistics(found: dict[str, Any]) -> None:
    out.print(
        f"{found['rows']:,} rows about {found['volumes']:,} volumes of {found['patients']:,} patients; splits "
        f"{found['splits_are']}; {found['skipped']:,} rows of the source left out"
    )
    every = [*found["splits"].values(), found]
    names = [*found["splits"], "all"]
    table = _columns("counts", names)
    for name in ("rows", "patients", "volumes", "unique_questions", "unique_answers"):
        table.add_row(name.replace("_", " "), *(f"{own[name]:,}" for own in every))
    for group in ("tasks", "kinds", "sources"):
        table.add_row(group)
        for name in found[group]:
            table.add_row(f"  {name}", *(f"{own[group].get(name, 0):,}" for own in every))
    out.print(table)
    table = _columns("closed questions: number of choices, and percent whose answer has the letter", names)
    for number in found["choices"]:
        table.add_row(f"{number} choices", *(f"{own['choices'].get(number, 0):,}" for own in every))
    for letter in found["letters"]:
        shares = [
            100 * own["letters"].get(letter, 0) / sum(own["letters"].values()) if own["letters"] else None
            for own in every
        ]
        table.add_row(letter, *(_number(share, ".1f") for share in shares))
    out.print(table)
    table = _columns("words of an answer: mean, median, most", names)
    for task in found["tasks"]:
        lengths = [own["answer_words"][task] for own in every]
        told = (f"{one['mean']:.1f}  {one['median']:g}  {one['max']}" if one else "-" for one in lengths)
        table.add_row(task, *told)
    out.print(table)


def _pairs(matches: list[dict[str, Any]]) -> None:
    for match in matches:
        ends = [f"{end['study']} ({end['split']} of {end['dataset']})" for end in (match["first"], match["second"])]
        shared = "; ".join(f"{reason}: {', '.join(names)}" for reason, names in match["shared"].items())
        alike = "" if match["similarity"] is None else f", similarity {match['similarity']:.3f}"
        out.print(f"  {' and '.join(ends)}: {shared}{alike}")


def audit(found: dict[str, Any]) -> None:
    where = " and ".join(f"{count:,} in {dataset}" for dataset, count in found["studies"].items())
    out.print(
        f"{found['images']:,} images of studies or volumes ({where}) were compared with one another", markup=False
    )
    if found["duplicates"]:
        out.print(f"{len(found['duplicates'])} pairs within one split (no leak, but they count twice):")
        _pairs(found["duplicates"])
    if found["leaks"]:
        out.print(f"{len(found['leaks'])} pairs across splits or datasets:")
        _pairs(found["leaks"])
    else:
        out.print("no leakage found")


def _tables(found: "list[tables.Table]") -> None:
    for table in found:
        printed = _columns(table.title, list(table.columns))
        for row in table.rows:
            printed.add_row(*row)
        out.print(printed)


def _tables_of(results: dict[str, Any]) -> Any:
    """What makes tables of results of this kind."""
    from voxmoe.evaluation import said_tables, tables
    from voxmoe.evaluation.results import SAID

    return said_tables if results.get("kind") == SAID else tables


def evaluation(results: dict[str, Any]) -> None:
    made = _tables_of(results)
    for line in made.headline(results):
        out.print(line)
    _tables(made.summary(results))


def evaluation_in_full(results: dict[str, Any]) -> None:
    evaluation(results)
    _tables(_tables_of(results).details(results))


def evaluation_page(results: dict[str, Any]) -> None:
    from voxmoe.evaluation.tables import to_markdown

    made = _tables_of(results)
    tables = [*made.summary(results), *made.details(results)]
    out.print("\n\n".join([*made.headline(results), to_markdown(tables)]) + "\n")


def router(record: dict[str, Any]) -> None:
    from voxmoe.evaluation import tables

    _tables(tables.router(record))


def reading(record: dict[str, Any]) -> None:
    from voxmoe.evaluation import tables

    out.print(f"{record['readings']} readings of {record['studies']} studies")
    _tables(tables.reading(record))


def answers(found: dict[str, Any] | list[dict[str, Any]]) -> None:
    for number, answer in enumerate(found if isinstance(found, list) else [found]):
        if number:
            out.print()
        _answer(answer)


def _answer(answer: dict[str, Any]) -> None:
    out.print(f"Q  {answer['question']}")
    if answer["text"]:
        out.print(f"A  {answer['text']}")
    out.print(f"   {_terms(answer['categories']) or 'no task is answered'}")
    scope = answer["out_of_scope"]
    top = sorted(range(len(answer["experts"])), key=lambda i: -answer["experts"][i])[:4]
    experts = " ".join(f"{i + 1}:{answer['experts'][i]:.2f}" for i in top) or "none"
    out.print(
        f"   out of scope: {scope['probability']:.0%}   experts {experts}   from {', '.join(answer['modalities'])}   "
        f"{answer['seconds']:.1f} s"
    )
    if answer["heads"] is not None:
        out.print(f"   weighed with the mask that the model draws; its heads alone: {_terms(answer['heads'])}")
    if "evidence" in answer:
        _evidence(answer["evidence"])


def _terms(categories: dict[str, Any]) -> str:
    """What is answered to the tasks that were asked."""
    asked = []
    for task in Task:
        said = categories[str(task)]
        if task is Task.REGION:
            if said:
                named = ", ".join(f"{entry['region']} {entry['probability']:.0%}" for entry in said)
                asked.append(f"region: {named}")
        elif said["category"] != NOT_ASKED:
            asked.append(f"{task}: {said['category']} {said['probability']:.0%}")
    return "   ".join(asked)


def scan_answers(found: dict[str, Any] | list[dict[str, Any]]) -> None:
    for number, answer in enumerate(found if isinstance(found, list) else [found]):
        if number:
            out.print()
        out.print(f"Q  {answer['question']}")
        out.print(f"A  {answer['text']}")
        choice, task = answer["choice"], answer["task"]
        if choice:
            out.print(f"   the text names {choice['letter']}. {choice['text']}")
        if answer["choices"]:
            weighed = (f"{one['letter']}. {one['text']} {one['probability']:.0%}" for one in answer["choices"])
            out.print(f"   likelihood of each choice: {', '.join(weighed)}")
        experts = f"experts for {task['name']} {task['probability']:.0%}" if task else "no task experts"
        out.print(f"   {experts}   {answer['seconds']:.1f} s")


def scan_report(found: dict[str, Any]) -> None:
    out.print(f"FINDINGS   {found['text']}")
    out.print(f"SOURCE     the model {found['model']}")
    out.print(f"LIMITS     {found['limits']}")


def _shape(shape: dict[str, Any], spread: dict[str, Any]) -> str:
    """With the numbers that the protocol goes by: the core's, or the means of the components of scattered lesions."""
    numbers = ", ".join(f"{name} {shape[name]:.2f}" for name in ("sphericity", "elongation") if shape[name] is not None)
    _, satellites, scattered = SPREADS
    of = {satellites: "of the largest component: ", scattered: "means of the components: "}.get(spread["category"], "")
    return f"{shape['category']} ({of}{numbers})" if numbers else str(shape["category"])


def _evidence(evidence: dict[str, Any]) -> None:
    out.print(f"   measured in the {evidence['source']}, protocol {evidence['protocol']}:")
    for key, label in evidence["labels"].items():
        if not label["present"]:
            out.print(f"     {key}: none")
            continue
        regions = _regions(label)
        volume, shape, spread = (label[task] for task in ("volume", "shape", "spread"))
        share = (
            f"{100 * volume['fraction']:.2f} % of the brain: {volume['category']}"
            if volume["category"]
            else ("of an unknown brain")
        )
        count = spread["components"]
        parts = f"{count} component{'s' * (count != 1)}, the largest {spread['core_fraction']:.0%}"
        out.print(
            f"     {key}: {label['volume_mm3'] / 1000:.1f} mL ({share}); {regions}; {_shape(shape, spread)}; "
            f"{spread['category']} ({parts})"
        )
    if not evidence["agreement"]:
        out.print("   the heads are not held against it: that is done where a question names one label, and not here")
    for key, tasks in evidence["agreement"].items():
        against = [task for task, agrees in tasks.items() if not agrees]
        said = f"disagree with it on {', '.join(against)}" if against else "agree with it"
        if tasks:
            out.print(f"   the heads about {key} {said}")
        weighed = (evidence["agreement_weighed"] or {}).get(key, {})
        if otherwise := [task for task, agrees in weighed.items() if not agrees]:
            out.print(f"   weighed, the answer about {key} is not what was measured on {', '.join(otherwise)}")
    if evidence["picture"]:
        out.print(f"   picture: {evidence['picture']}")


def weights(result: dict[str, Any]) -> None:
    out.print(f"{result['out']}: {result['tensors']} tensors, {result['parameters']:,} numbers")


def reconciled(record: dict[str, Any]) -> None:
    table = _columns("accuracy in %", [*record["accuracy"]["heads"]])
    for name, what in (
        ("heads", "the heads"),
        ("measured", "segment, then measure"),
        ("weighed", "weighed, each fold of patients by the others"),
    ):
        table.add_row(what, *("-" if value is None else f"{value:.1f}" for value in record["accuracy"][name].values()))
    out.print(table)
    out.print(f"learnt from {record['questions']:,} questions about {record['patients']} patients ({record['split']})")


def published(found: dict[str, Any]) -> None:
    for name, count in found["files"].items():
        out.print(f"{_size(count):>10}  {name}")
    out.print(f"{_size(sum(found['files'].values())):>10}  in {found['out']}")


def segmented(found: dict[str, Any]) -> None:
    table = _columns(f"{found['out']}, values of {found['profile']}", ["value", "mL"])
    for key, label in found["labels"].items():
        table.add_row(key, str(label["value"]), f"{label['volume_mm3'] / 1000:.1f}")
    out.print(table)


def report(found: dict[str, Any]) -> None:
    out.print(found["text"])


def plan(found: list[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("dataset", "model", "trained", "changes to the recipe"):
        table.add_column(column)
    for run in found:
        table.add_row(run["dataset"], run["model"], "yes" if run["there"] else "no", " ".join(run["changes"]))
    out.print(table)


def reproduction(found: list[dict[str, Any]]) -> None:
    from voxmoe.reproduction.ct import ct_footnote, ct_table
    from voxmoe.reproduction.table import footnote, margins, to_table

    for each in found:
        if "variations" in each:
            _tables([ct_table(each)])
            out.print(ct_footnote(each))
        elif "rows" in each:
            _tables([to_table(each), *([compared] if (compared := margins(each)) else [])])
            out.print(footnote(each))
        else:
            (router if "correlation" in each else bench)(each)


def markdown(found: list[dict[str, Any]]) -> None:
    from voxmoe.bench.memory_tables import headline, memory_tables
    from voxmoe.evaluation import tables
    from voxmoe.reproduction.ct import ct_footnote, ct_table
    from voxmoe.reproduction.table import footnote, margins, to_markdown

    for each in found:
        if "variations" in each:
            text = f"{tables.to_markdown([ct_table(each)])}\n\n{ct_footnote(each)}"
        elif "rows" in each:
            compared = margins(each)
            more = "" if compared is None else f"\n\n{tables.to_markdown([compared])}"
            text = f"{to_markdown(each)}\n\n{footnote(each)}{more}"
        elif "correlation" in each:
            text = tables.to_markdown(tables.router(each))
        else:
            text = f"{headline(each)}\n\n{tables.to_markdown(memory_tables(each))}"
        out.print(f"{text}\n", markup=False, soft_wrap=True)


def bench(result: dict[str, Any]) -> None:
    if result["name"] == "memory":
        _memory(result)
        return
    if result["name"] == "slices":
        _slices(result)
        return
    low, high = result["ratio_range"]
    out.print(
        f"{result['name']}: {result['ratio']:.1f} times as fast ({low:.1f} to {high:.1f}; median of {result['cases']} "
        f"cases, {result['runs']} runs each, {result['data']}): {1000 * result['ours_s']:.1f} ms against "
        f"{1000 * result['reference_s']:.1f} ms a case"
    )
    for other in result.get("others", ()):
        bench(other)
    if gli := result.get("gli"):
        out.print(
            f"a build takes {result['build_over_reading']:.2f} times as long as reading its files: "
            f"{result['studies_per_s']:.1f} studies/s in one process; {gli['studies']:,} studies would take "
            f"{gli['reading_s']:.0f} s to read and {gli['beyond_reading_s']:.0f} s beyond"
        )


def _slices(result: dict[str, Any]) -> None:
    low, high = result["ratio_range"]
    out.print(
        f"slices: all layers across slices take {result['ratio']:.1f} times the time of the last third ({low:.1f} to "
        f"{high:.1f}; {result['runs']} runs each; {result['data']}); forward and backward of one volume: seconds, peak "
        "in MB, and GFLOP of attention forward"
    )
    ways = next(iter(result["by_case"].values()))
    table = _columns("slices", list(ways))
    for depth, found in result["by_case"].items():
        cells = (
            f"{way['seconds']:.2f} s, {way['peak_bytes'] / 1e6:,.0f} MB, {way['attention_flops'] / 1e9:.2f}"
            for way in found.values()
        )
        table.add_row(depth, *cells)
    out.print(table)


def _memory(result: dict[str, Any]) -> None:
    from voxmoe.bench.memory_tables import headline, memory_tables

    out.print(headline(result))
    _tables(memory_tables(result))


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def cache(found: dict[str, Any]) -> None:
    out.print(f"{found['folder']}: {_size(found['bytes'])}")
    table = Table(box=None, pad_edge=False)
    for column in ("kind", "files", "size", "what"):
        table.add_column(column, justify="right" if column in ("files", "size") else "left")
    for kind, held in found["kinds"].items():
        table.add_row(kind, f"{held['files']:,}", _size(held["bytes"]), held["what"])
    out.print(table)


def pruned(found: dict[str, int]) -> None:
    out.print(f"{found['files']:,} files removed, {_size(found['bytes'])}")


def info(found: dict[str, Any]) -> None:
    versions = found["versions"]
    out.print("   ".join(f"{name} {number or 'missing'}" for name, number in versions.items()))
    out.print(f"\nmodalities   {', '.join(found['modalities'])}")
    default = found["default_model"]
    out.print("default model   " + (f"{default['folder']} ({default['source']})" if default["folder"] else "none"))
    if default["gone"]:
        out.print(f"                {default['gone']}, which was made the default, is no longer there")
    table = Table(box=None, pad_edge=False, title="\nprofiles", title_justify="left")
    for column in ("name", "also", "labels (value key name)", "what"):
        table.add_column(column, overflow="fold")
    for name, profile in found["profiles"].items():
        labels = "; ".join(f"{label['value']} {key} {label['name']}" for key, label in profile["labels"].items())
        if profile["labels_from"]:
            labels = f"as the dataset's own {profile['labels_from']} says"
        table.add_row(name, ", ".join(profile["aliases"]), labels, profile["summary"])
    out.print(table)
    out.print("\nprotocols   " + ", ".join(found["protocols"]))
    out.print(f"type weights   {', '.join(found['type_weights'])}   wordings   {found['grammar']}")
    for task, classes in found["tasks"].items():
        out.print(f"{task:<12} {', '.join(classes)}")
    out.print(f"\natlases (default {found['default_atlas']})")
    for name, licence in found["atlases"].items():
        out.print(f"  {name:<20} {licence}")

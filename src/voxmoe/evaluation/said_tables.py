"""A record of what was said about CTs (`voxmoe.evaluation.said`) as tables, for a terminal or a page."""

from collections.abc import Iterable, Mapping, Sequence
from math import exp
from typing import Any

from voxmoe.evaluation.tables import Table, number, sure, sure_interval
from voxmoe.vocabulary import CTTask

Record = Mapping[str, Any]
_NAMES = {
    "accuracy": "accuracy",
    "m3d_compat": "M3D's rule",
    "unparsed": "no choice named",
    "bleu1": "BLEU-1",
    "rouge1": "ROUGE-1",
    "meteor": "METEOR",
    "meteor_greedy": "METEOR, greedy",
    "bertscore": "BERTScore",
    "meteor_wordnet": "METEOR, greedy, WordNet",
    "exact_match": "exact match",
}
_TITLES = {
    CTTask.CLOSED: "closed questions",
    CTTask.OPEN: "open questions",
    CTTask.REPORT: "reports",
}


def headline(record: Record) -> list[str]:
    """What was asked, and by which rules texts are compared."""
    asked, rules = record["counts"]["asked"], record["manifest"]["rules"]
    tasks = ", ".join(f"{sum(kinds.values()):,} {task}" for task, kinds in asked["tasks"].items())
    lines = [
        f"{asked['exchanges']:,} exchanges ({tasks}) about {asked['images']:,} CTs of {asked['patients']:,} patients; "
        f"baselines from {record['counts']['learnt']['exchanges']:,} training exchanges",
        f"BLEU-1: {rules['bleu1']}; ROUGE-1: {rules['rouge1']}; METEOR: {rules['meteor']}",
    ]
    for name, cut in record.get("cut", {}).items():
        if any(cut.values()):
            longest = record["manifest"]["settings"]["longest"]
            told = ", ".join(f"{number:,} {task} at {longest[task]}" for task, number in cut.items() if number)
            lines.append(f"{name}: answers that were cut at the number of tokens that may be said: {told}")
    if asked["patients"] == 1:
        lines.append("a single patient tells nothing about others: there are no deviations")
    return lines


def _asked(record: Record) -> Iterable[tuple[CTTask, dict[str, Record]]]:
    """Each task that is asked, with the methods that answered it."""
    for task in CTTask:
        told = {name: one[str(task)] for name, one in record["methods"].items() if str(task) in one}
        if told:
            yield task, told


def _rows(found: Mapping[str, Record], names: Sequence[str]) -> list[list[str]]:
    return [[name, *(sure(one[measure]["all"]) for measure in names)] for name, one in found.items()]


def _closed(found: Mapping[str, Record]) -> Table:
    """Accuracy of each kind, their mean, that over all questions, and how it was said."""
    kinds = list(next(iter(found.values()))["accuracy"]["by_kind"])
    rows = []
    for name, one in found.items():
        accuracy = one["accuracy"]
        rows.append(
            [
                name,
                *(sure(accuracy["by_kind"][kind]) for kind in kinds),
                sure(accuracy["mean"]),
                sure_interval(accuracy["mean"]),
                sure(accuracy["all"]),
                number(one["unparsed"]["all"]["value"]),
                sure(one["m3d_compat"]["mean"]),
            ]
        )
    columns = (*kinds, "mean of kinds", "95 % of the mean", "all", _NAMES["unparsed"], f"{_NAMES['m3d_compat']}, mean")
    return Table("closed questions: accuracy in %, ± deviation by patient", columns, rows)


def _worded(task: CTTask, found: Mapping[str, Record]) -> Table:
    measures = list(next(iter(found.values())))
    title = f"{_TITLES[task]}: means over texts in %, ± deviation by patient"
    return Table(title, [_NAMES[measure] for measure in measures], _rows(found, measures))


def summary(record: Record) -> list[Table]:
    """One table for each task that is asked, and one of what a reader's experts did."""
    found = [_closed(found) if task is CTTask.CLOSED else _worded(task, found) for task, found in _asked(record)]
    return [*found, _experts(record["experts"])] if record.get("experts") else found


def _experts(told: Record) -> Table:
    rows = []
    for layer, shares, entropies in zip(told["layers"], told["shares"], told["entropy"], strict=True):
        for task, own, entropy in zip(CTTask, shares, entropies, strict=True):
            in_effect = exp(entropy) if sum(own) else None  # a group that no prompt went to
            rows.append([f"layer {layer}, {task}", *(number(100 * share) for share in own), number(in_effect)])
    columns = [*(f"expert {place + 1}" for place in range(len(told["shares"][0][0]))), "in effect"]
    router = number(told["task_router"]["accuracy"])
    title = f"task experts: share of their group's tokens in % (the task router chose the right group in {router} %)"
    return Table(title, columns, rows)


def details(record: Record) -> list[Table]:
    """By how much each system is better than each other method, and every measure of a question by its kind."""
    found = [_differences(task, record) for task, _ in _asked(record)]
    for task, told in _asked(record):
        measures = list(next(iter(told.values())))
        kinds = list(next(iter(told.values()))[measures[0]]["by_kind"])
        if task is not CTTask.REPORT:
            rows = [
                [f"{kind}: {name}", *(sure(one[measure]["by_kind"][kind]) for measure in measures)]
                for kind in kinds
                for name, one in told.items()
            ]
            title = f"{_TITLES[task]} by kind, in %, ± deviation by patient"
            found.append(Table(title, [_NAMES[measure] for measure in measures], rows))
    return [table for table in found if table.rows]


def _differences(task: CTTask, record: Record) -> Table:
    rows, measures = [], []
    for name, others in record["differences"].items():
        for other, tasks in others.items():
            if str(task) in tasks:
                measures = list(tasks[str(task)])
                told = (tasks[str(task)][measure]["all"] for measure in measures)
                rows.append([f"{name} than {other}", *(f"{sure(one)} ({sure_interval(one)})" for one in told)])
    title = f"{_TITLES[task]}: by how much better, in percent points, ± deviation by patient (95 %)"
    return Table(title, [_NAMES[measure] for measure in measures], rows)

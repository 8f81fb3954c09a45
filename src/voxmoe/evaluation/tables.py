"""Results as tables of text, for a terminal or a page: what `voxmoe evaluate`, `voxmoe results`, `voxmoe router` and
`voxmoe readers score` print."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from voxmoe.evaluation.methods import AND_MEASURED, FROM_TEXT, LABEL_MAJORITY, MAJORITY, MEASURED
from voxmoe.vocabulary import REGIONS, Task

Record = Mapping[str, Any]
MEASURES = (*map(str, Task), "mean")


@dataclass(frozen=True)
class Table:
    """A title, the names of the columns after the first one, and rows that begin with their name."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def markdown(rows: Sequence[Sequence[str]], named: int = 1) -> str:
    """Rows, the first with the names of the columns, for a page of documentation; all columns but the first `named`
    hold numbers."""
    rule = [*["---"] * named, *["---:"] * (len(rows[0]) - named)]
    lines = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in (lines[0], rule, *lines[1:]))


def to_markdown(tables: Iterable[Table]) -> str:
    """Tables for a page, each below its title."""
    return "\n\n".join(f"{table.title}\n\n{markdown([['', *table.columns], *table.rows])}" for table in tables)


def number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def sure(estimate: Record | None) -> str:
    """A mean with its deviation by patient, where there is one."""
    if estimate is None:
        return "-"
    deviation = estimate["sd_by_patient"]
    return number(estimate["value"]) + ("" if deviation is None else f" ± {deviation:.1f}")


def sure_interval(estimate: Record | None) -> str:
    bounds = None if estimate is None else estimate["interval_by_patient"]
    return "-" if bounds is None else f"{bounds[0]:.1f} to {bounds[1]:.1f}"


def _tasks(record: Record) -> list[str]:
    return [sure(record["tasks"][name]) for name in MEASURES]


def headline(results: Record) -> list[str]:
    """What was evaluated on what, and what to beware of."""
    manifest = results["manifest"]
    asked_about = ", ".join(manifest["dataset"]["profiles"])
    lines = [
        f"{results['model']} on the {results['split']} split of {results['dataset']} ({asked_about}): "
        f"{results['questions']:,} questions about {results['studies']} studies of {results['patients']} patients"
    ]
    if results["patients"] == 1:
        lines.append("a single patient tells nothing about others: there are no deviations")
    if cross := results["cross"]:
        new = ", ".join(cross["labels_new"]) or "none"
        lines.append(
            f"across datasets: trained on {', '.join(cross['trained_on'])}, asked about "
            f"{', '.join(cross['asked_about'])}; labels that it was not trained on: {new}"
        )
    trained_on = manifest["models"][results["method"]]["trained_on"]
    if trained_on is not None and manifest["dataset"]["sha256"] not in trained_on:
        lines.append(
            "the model was trained on another dataset or another build of this one: whether it has seen these patients "
            "is not known here (voxmoe audit)"
        )
    return lines


def _accuracy(results: Record) -> Table:
    rows = [
        [name, *_tasks(record), sure_interval(record["tasks"]["mean"]), sure(record["out_of_scope"]["accuracy"])]
        for name, record in results["methods"].items()
    ]
    return Table("accuracy in %, ± deviation by patient", (*MEASURES, "95 % of the mean", "out of scope"), rows)


def _differences(method: str, differences: Record) -> Table:
    rows = [
        [f"than {other}", *(sure(record[name]) for name in MEASURES), sure_interval(record["mean"])]
        for other, record in differences.items()
        if not other.endswith(FROM_TEXT)
    ]
    title = f"by how much {method} is better, in percent points, ± deviation by patient"
    return Table(title, (*MEASURES, "95 % of the mean"), rows)


def _own(results: Record) -> list[str]:
    """The evaluated model's methods: by its heads, and where there is such by these and measurement, and by its
    text."""
    return [name for end in ("", AND_MEASURED, FROM_TEXT) if (name := results["method"] + end) in results["methods"]]


def _grouped(results: Record, title: str, group: str, names: Iterable[str]) -> Table:
    methods = [name for name in names if name in results["methods"]]
    values = results["methods"][methods[0]][group]
    rows = []
    for value in values:
        for name in methods:
            record = results["methods"][name][group][value]
            rows.append([f"{value}: {name}", *_tasks(record), sure(record["out_of_scope"]["accuracy"])])
    return Table(title, (*MEASURES, "out of scope"), rows)


def _regions(results: Record) -> Table:
    methods = [name for name in (MAJORITY, *_own(results)) if results["methods"][name]["region"]]
    rows = []
    for region in REGIONS:
        told = [results["methods"][name]["region"]["by_region"][region] for name in methods]
        cells = [number(one[measure]) for one in told for measure in ("accuracy", "f1")]
        rows.append([region, number(told[0]["frequency"]), *cells])
    columns = [f"{name}: {measure}" for name in methods for measure in ("accuracy", "F1")]
    return Table("regions, in %", ("named in truth", *columns), rows)


def _region_sets(results: Record) -> Table:
    measures = {"f1_macro": "F1 macro", "f1_micro": "F1 micro", "iou_macro": "IoU macro", "iou_micro": "IoU micro"}
    rows = [
        [name, *(number(record["region"][measure]) for measure in (*measures, "exact"))]
        for name, record in results["methods"].items()
        if record.get("region")
    ]
    return Table("regions together, in %", (*measures.values(), "whole set right"), rows)


def _scope(results: Record) -> Table:
    rows = []
    for name, record in results["methods"].items():
        scope = record["out_of_scope"]
        rows.append([name, sure(scope["accuracy"]), number(scope["balanced_accuracy"]), number(scope["auroc"])])
    return Table("out of scope, in scope and out of scope together, in %", ("accuracy", "balanced", "AUROC"), rows)


def _calibration(results: Record) -> Table:
    heads = results["methods"][results["method"]]["calibration"]
    rows = [
        [
            name.replace("_", " "),
            f"{head['decisions']:,}",
            number(head["ece"]),
            number(head["adaptive_ece"]),
            number(head["brier"], 3),
        ]
        for name, head in heads.items()
    ]
    return Table(
        f"calibration of {results['method']}: ECE in %, Brier from 0 to 2",
        ("decisions", "ECE", "adaptive ECE", "Brier"),
        rows,
    )


def _unparsed(results: Record) -> Table:
    rows = [
        [name, *(number(record["unparsed"][str(task)]) for task in Task)]
        for name, record in results["methods"].items()
        if "unparsed" in record
    ]
    return Table("texts without a readable answer (they count as wrong), in %", tuple(map(str, Task)), rows)


def _subsets(results: Record) -> Table:
    rows = [
        [
            "+".join(subset["modalities"]),
            f"{subset['questions']:,}",
            *(_tasks(subset) if "tasks" in subset else ["-"] * len(MEASURES)),
            sure(subset["out_of_scope"]["accuracy"]) if "out_of_scope" in subset else "-",
        ]
        for subset in results["modality_subsets"]
    ]
    return Table(
        f"{results['method']} with some of the modalities: accuracy in %, ± deviation by patient",
        ("questions", *MEASURES, "out of scope"),
        rows,
    )


def _overlap(results: Record) -> Table:
    rows = [
        [name, "-" if dice is None else f"{dice['studies']:,}", sure(dice), sure_interval(dice)]
        for name, dice in results["overlap"].items()
    ]
    return Table(
        "predicted masks: mean Dice coefficient in %, ± deviation by patient",
        ("studies", "Dice", "95 % interval"),
        rows,
    )


def _agreement(results: Record) -> Table:
    name = results["method"]
    rows = {
        "the two agree": "agree",
        f"{name} is right where they agree": "where_they_agree",
        f"{name} is right where they differ": "where_they_differ",
        f"{MEASURED}, where they differ": "measured_where_they_differ",
    }
    return Table(
        f"{name} and {MEASURED}, in % of the answers of both, ± deviation by patient",
        (*MEASURES, "95 % of the mean"),
        [
            [what, *(sure(record[measure]) for measure in MEASURES), sure_interval(record["mean"])]
            for what, record in ((what, results["agreement"][key]) for what, key in rows.items())
        ],
    )


def summary(results: Record) -> list[Table]:
    """The tables that answer whether the model is any good, and those that were asked for."""
    found = [
        _accuracy(results),
        _differences(results["method"], results["differences"]),
        _grouped(results, "by label", "by_label", (LABEL_MAJORITY, *_own(results))),
    ]
    if (weighed := results.get("differences_weighed")) is not None:
        found.insert(2, _differences(results["method"] + AND_MEASURED, weighed))
    if results["method"] + FROM_TEXT in results["methods"]:
        found.append(_unparsed(results))
    if results["modality_subsets"] is not None:
        found.append(_subsets(results))
    if results.get("overlap") is not None:
        found.append(_overlap(results))
    if results.get("agreement") is not None:
        found.append(_agreement(results))
    return found


def details(results: Record) -> list[Table]:
    """All the others."""
    found = [
        _grouped(results, "by kind of question", "by_kind", (LABEL_MAJORITY, *_own(results))),
        _regions(results),
        _region_sets(results),
        _scope(results),
        _calibration(results),
    ]
    if "router" in results["methods"][results["method"]]:
        found += usage(results["methods"][results["method"]]["router"], "questions")
    return found


def usage(record: Record, what: str) -> list[Table]:
    """Entropy of the experts' weights and load of each expert."""
    entropies = record["entropy"]
    rows = [["all", *_entropy(entropies["all"])]]
    for group, values in entropies.items():
        if group.startswith("by_"):
            rows += [[value, *_entropy(one)] for value, one in values.items()]
    title = f"entropy of the experts' weights over {what}, in nats (at most {entropies['maximum']:.2f})"
    loads = {"all": record["load"]}
    for group in record.get("load_by", {}).values():
        loads |= group
    return [
        Table(title, ("questions", "mean", "deviation", "effective experts"), rows),
        Table(
            f"load of each expert in % (alike: {100 / record['experts']:.1f})",
            [str(number) for number in range(1, record["experts"] + 1)],
            [[value, *(f"{100 * share:.1f}" for share in load)] for value, load in loads.items()],
        ),
    ]


def _entropy(record: Record) -> list[str]:
    return [f"{record['questions']:,}", *(number(record[name], 2) for name in ("mean", "sd", "effective_experts"))]


def router(record: Record) -> list[Table]:
    """The tables of `voxmoe router`."""
    rows = [
        [what, *(number(record[key][pairs], 3) for pairs in ("within", "between"))]
        for key, what in (("label", "label"), ("type", "question type"))
    ]
    found = [Table("mean correlation of two template prompts (paper: Figure 3)", ("the same", "different"), rows)]
    if labels := record.get("labels"):
        rows = [[one, *(number(value, 2) for value in others.values())] for one, others in labels.items()]
        found.append(Table("mean correlation of two template prompts, by what they ask about", list(labels), rows))
    found += usage(record["templates"], "template prompts")
    if record["questions"] is not None:
        found += usage(record["questions"], f"the {record['questions']['split']} split")
    return found


def reading(record: Record) -> list[Table]:
    """The tables of `voxmoe readers score`, beside the paper's figures."""
    agreement, paper = record["agreement"], record["paper"]
    found = [
        Table(
            "reader and dataset, in % (paper: Table 9)",
            MEASURES,
            [
                ["kappa", *(number(agreement[name]["kappa"]) for name in MEASURES)],
                ["agreement", *(number(agreement[name]["agreement"]) for name in MEASURES)],
                ["kappa in the paper", *(number(paper["kappa"][name]) for name in MEASURES)],
            ],
        ),
        Table(
            "accuracy where the reader's answers are the truth, in %, ± deviation by patient (paper: Table 10)",
            (*MEASURES, "mean in the paper"),
            [
                [name, *(sure(tasks[measure]) for measure in MEASURES), number(_paper(paper["accuracy"], name))]
                for name, tasks in record["accuracy"].items()
            ],
        ),
    ]
    if quality := record["quality"]:
        rows = [["valid questions", quality["validity"], paper["validity"]["questions"]]]
        rows += [[name, one, _paper(paper["sufficiency"], name)] for name, one in quality["sufficiency"].items()]
        found.append(
            Table(
                "validity of questions, sufficiency of responses, in % (paper: Table 11)",
                ("of", "this reading", "paper"),
                [[name, f"{one['of']:,}", number(one["percent"]), number(theirs)] for name, one, theirs in rows],
            )
        )
    return found


def _paper(figures: Mapping[str, float], method: str) -> float | None:
    return figures.get(method.removesuffix(FROM_TEXT))

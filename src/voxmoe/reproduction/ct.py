"""Makes the tables of TGH-MoE: phantoms, datasets, the 2D model, every variation, evaluations, the table.

    OUT/ct/cohort, volumes, slices   CT phantoms and the two datasets about them, where none were given
    OUT/ct/runs/RUN                  a trained reader with its record and its evaluation
    OUT/TABLE.json                   the table

Everything that is finished is used again: an interrupted reproduction goes on where it was, and a run that several
variations begin with is made once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from voxmoe import __version__
from voxmoe.errors import RecipeError
from voxmoe.evaluation.methods import BY_LIKELIHOOD, TEXT_ONLY
from voxmoe.evaluation.reading import READER, evaluate_reader
from voxmoe.evaluation.results import SAID, load, save
from voxmoe.evaluation.tables import Table, sure
from voxmoe.files import sha256, write_bytes, write_json
from voxmoe.imaging.torso import write_torsos
from voxmoe.model.own_weights import weights_file
from voxmoe.reproduction.ct_variations import BLIND, FULL, SLICES, TABLES, TEXTS, TISSUES, VARIATIONS, Run
from voxmoe.reproduction.scale import Phantoms
from voxmoe.settings import Settings
from voxmoe.training.reader_recipe import ReaderRecipe
from voxmoe.training.reader_run import train_reader
from voxmoe.training.recipe import load as load_recipe
from voxmoe.training.record import is_finished
from voxmoe.vqa.ct.collect import collect
from voxmoe.vqa.ct.dataset import is_ct_dataset, open_ct_dataset

Report = Callable[[str, int, int], None]
Record = dict[str, Any]
VERSION = 1
KIND = "ct-table"
SPLIT = "test"
_VOLUMES = "volumes"
_LIKELIEST = "closed_by_likelihood"
"""In a table, the entry of a method with the mean accuracy of its likeliest choices."""


class CTScale(Settings):
    """What decides the size of a reproduction of TGH-MoE."""

    name: str
    summary: str
    phantoms: Phantoms
    recipes: Mapping[str, dict[str, Any]]
    """Of each stage; data, out and start are filled in."""


def load_ct_scale(name: str) -> CTScale:
    """The scale that ships with this package; raises `RecipeError` if there is none of that name."""
    path = Path(__file__).with_name(f"ct-{name}.yaml")
    if not path.is_file():
        known = ", ".join(sorted(one.stem.removeprefix("ct-") for one in path.parent.glob("ct-*.yaml")))
        raise RecipeError(f"the tables of TGH-MoE have no scale {name!r}; there are {known}")
    return CTScale.model_validate(yaml.safe_load(path.read_text()))


@dataclass(frozen=True)
class CTWorkshop:
    """Where the tables are made, at which scale, and who hears of the progress."""

    out: Path
    scale: CTScale
    report: Report = lambda stage, done, total: None

    def _counting(self, stage: str) -> Callable[[int, int], None]:
        return lambda done, total: self.report(stage, done, total)

    @cached_property
    def _cohort(self) -> Path:
        place, drawn = self.out / "ct" / "cohort", self.scale.phantoms
        write_torsos(place, drawn.studies, drawn.seed, jobs=-1, progress=self._counting("drawing CTs"))
        return place

    def dataset(self, name: str) -> Path:
        """That about volumes, or about single slices, made unless it is there."""
        place = self.out / "ct" / name
        if not is_ct_dataset(place):
            form = "phantom-slices" if name == SLICES else "phantom"
            images, masks = self._cohort / "volumes", self._cohort / "masks"
            collect(form, [str(self._cohort / "truth.jsonl")], place, images, masks=masks)
        return place

    def changes(self, run: Run) -> list[str]:
        """To the recipe that a run is made by."""
        steps = [self.scale.recipes[name]["fit"]["max_steps"] for name in run.as_long_as]
        return [*run.changes, *([f"fit.max_steps={sum(steps)}"] if steps else [])]

    def recipe(self, run: Run) -> ReaderRecipe:
        """The recipe of a run at this scale; raises `RecipeError`."""
        base = self.out / "ct" / f"{run.recipe}.yaml"
        write_bytes(base, yaml.safe_dump(self.scale.recipes[run.recipe], sort_keys=False).encode())
        runs = self.out / "ct" / "runs"
        data = ", ".join(str(self.out / "ct" / name) for name in _about(run))
        places = [f"name={run.name}", f"data=[{data}]", f"out={runs / run.name}"]
        places.append("start=null" if run.start is None else f"start={runs / run.start.name}")
        return load_recipe(ReaderRecipe, base, [*self.changes(run), *places])

    def trained(self, run: Run) -> Path:
        """The folder of a run, trained unless it is there."""
        for name in _about(run):
            self.dataset(name)
        if run.start is not None:
            self.trained(run.start)
        recipe = self.recipe(run)
        if not is_finished(recipe):
            train_reader(recipe, lambda stage, done, total: self.report(f"{run.name}: {stage}", done, total))
        return recipe.out

    def evaluated(self, run: Run) -> Record:
        """What a run says on the test split, beside the text-only reader."""
        place = self.trained(run)
        kept = place / f"evaluation-{SPLIT}.json"
        blind = self.trained(BLIND) if run == FULL else None
        data = self.dataset(_VOLUMES)
        if not _is_of(kept, [place] if blind is None else [place, blind], data):
            found = evaluate_reader(
                place,
                data,
                text_only=blind,
                split=SPLIT,
                report=lambda stage, done, total: self.report(f"{run.name}: {stage}", done, total),
            )
            save(kept, found)
        return load(kept, SAID)


def _about(run: Run) -> tuple[str, ...]:
    """The datasets that a run learns from."""
    return {TISSUES: (SLICES,), TEXTS: (SLICES, _VOLUMES), SLICES: (SLICES,)}.get(run.recipe, (_VOLUMES,))


def _is_of(kept: Path, readers: Sequence[Path], data: Path) -> bool:
    """Whether an evaluation is there and of these very weights and exchanges."""
    if not kept.is_file():
        return False
    manifest = load(kept, SAID)["manifest"]
    asked = {one["sha256"] for one in manifest["models"].values()}
    wanted = {sha256(Path(weights_file(reader))) for reader in readers}
    return wanted <= asked and bool(manifest["dataset"]["sha256"] == open_ct_dataset(data).manifest["sha256"])


def runs_of(name: str) -> list[Run]:
    """All runs that a table needs, each after the one that it begins with."""
    found: dict[str, Run] = {}

    def add(run: Run) -> None:
        if run.start is not None:
            add(run.start)
        found.setdefault(run.name, run)

    for variation in TABLES[name][1]:
        add(VARIATIONS[variation])
    add(BLIND)
    return list(found.values())


def ct_plan(workshop: CTWorkshop, name: str) -> list[Record]:
    """What a table needs, and what of it is there: the dry run."""
    return [
        {
            "dataset": " + ".join(_about(run)),
            "model": run.name,
            "changes": workshop.changes(run),
            "there": is_finished(workshop.recipe(run)),
        }
        for run in runs_of(name)
    ]


def _by_likelihood(methods: Mapping[str, Any], name: str) -> Record:
    """The figures of a method's likeliest choices, as one more entry; none where choices were not weighed."""
    weighed = methods.get(name + BY_LIKELIHOOD)
    return {} if weighed is None else {_LIKELIEST: weighed["closed"]["accuracy"]["mean"]}


def reproduce_ct(workshop: CTWorkshop, name: str) -> Record:
    """Train and evaluate what a table needs, and write it to OUT/TABLE.json."""
    title, variations = TABLES[name]
    rows = []
    for done, variation in enumerate(variations):
        workshop.report(name, done, len(variations))
        methods = workshop.evaluated(VARIATIONS[variation])["methods"]
        rows.append({"name": variation, "methods": methods[READER] | _by_likelihood(methods, READER)})
    methods = workshop.evaluated(FULL)["methods"]
    baselines = {
        name: told | _by_likelihood(methods, name)
        for name, told in methods.items()
        if name != READER and not name.endswith(BY_LIKELIHOOD)
    }
    table = {
        "kind": KIND,
        "version": VERSION,
        "voxmoe": __version__,
        "name": name,
        "title": title,
        "scale": workshop.scale.name,
        "summary": workshop.scale.summary,
        "counts": workshop.evaluated(FULL)["counts"],
        "variations": rows,
        "baselines": baselines,
    }
    write_json(workshop.out / f"{name}.json", table)
    return table


# --------------------------------------------------------------------------------------------------------------- words


def _cells(told: Mapping[str, Any], weighed: bool) -> list[str]:
    """Closed accuracy by kind and its mean, that of the likeliest choices where any were `weighed`, exact matches of
    open answers, and what compares the words of reports."""
    accuracy = told["closed"]["accuracy"]
    words = told.get("report", {})
    return [
        *(sure(figure) for figure in accuracy["by_kind"].values()),
        sure(accuracy["mean"]),
        *([sure(told.get(_LIKELIEST))] if weighed else []),
        sure(told["open"]["exact_match"]["all"]) if "open" in told else "-",
        *(sure(words[measure]["all"]) if words else "-" for measure in ("bleu1", "rouge1", "meteor")),
    ]


def ct_table(table: Mapping[str, Any]) -> Table:
    """For a terminal or a page."""
    kinds = list(table["variations"][0]["methods"]["closed"]["accuracy"]["by_kind"])
    weighed = any(_LIKELIEST in row["methods"] for row in table["variations"])
    means = ["closed, mean", *(["closed, likeliest"] if weighed else [])]
    columns = [*kinds, *means, "open, exact", "report BLEU-1", "report ROUGE-1", "report METEOR"]
    rows = [[row["name"], *_cells(row["methods"], weighed)] for row in table["variations"]]
    order = sorted(table["baselines"], key=lambda name: name != TEXT_ONLY)
    return Table(table["title"], columns, rows + [[name, *_cells(table["baselines"][name], weighed)] for name in order])


def ct_footnote(table: Mapping[str, Any]) -> str:
    asked = table["counts"]["asked"]
    return (
        f"Measured at {table['scale']} scale ({table['summary']}), {SPLIT} split: {asked['exchanges']:,} exchanges "
        f"about {asked['images']} CTs; in %, ± deviation by patient; METEOR by exact words and stems."
    )

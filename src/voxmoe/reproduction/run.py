"""Makes what a table needs and measures it: cohorts, datasets, models, evaluations, the table.

    OUT/cohorts/DATASET      phantoms, where no cohort was given
    OUT/datasets/DATASET     the question-answer dataset
    OUT/runs/DATASET/MODEL   a trained model with its record and its evaluations
    OUT/TABLE.json           the table

Everything that is finished is used again: an interrupted reproduction goes on where it was, and a model that several
tables need is trained once. What was made of other studies is refused, and a model or an evaluation of other terms is
made again. A pretrained encoder and the features that it gives are shared through VoxMoE's caches.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import yaml

from voxmoe import __version__
from voxmoe.bench.memory import bench_memory
from voxmoe.default import POCKET, model_at
from voxmoe.errors import RecipeError, ResultsError
from voxmoe.evaluation.evaluate import evaluate
from voxmoe.evaluation.heatmap import draw_correlations
from voxmoe.evaluation.methods import FROM_TEXT, LABEL_MAJORITY, MAJORITY, MEASURED, PRIOR, TEXT_ONLY
from voxmoe.evaluation.provenance import dataset_files, model_files
from voxmoe.evaluation.results import load, save
from voxmoe.evaluation.router import study_router
from voxmoe.files import sha256, write_bytes, write_json
from voxmoe.imaging.layouts import profile_named
from voxmoe.imaging.phantoms import write_cohort
from voxmoe.model.mpllm import MpLLMConfig
from voxmoe.pictures import check_picture
from voxmoe.reproduction.ct import CTWorkshop, ct_plan, load_ct_scale, reproduce_ct
from voxmoe.reproduction.ct_variations import TABLES
from voxmoe.reproduction.experiments import DATASETS, EXPERIMENTS, MPLLM, Experiment, Model, Row
from voxmoe.reproduction.experiments import TEXT_ONLY as TEXT_ONLY_MODEL
from voxmoe.reproduction.scale import Scale, load_scale
from voxmoe.training.recipe import Recipe, load_recipe
from voxmoe.training.record import is_finished
from voxmoe.training.run import train
from voxmoe.vqa.dataset import build_dataset
from voxmoe.vqa.protocol import PAPER_V2

Report = Callable[[str, int, int], None]
Record = dict[str, Any]
VERSION = 2
FIGURE_3, MEMORY = "figure3", "memory"
NAMES = (*EXPERIMENTS, FIGURE_3, MEMORY, *TABLES)


@dataclass(frozen=True)
class Workshop:
    """Where a reproduction works, at which scale, from which cohorts, and who hears of its progress."""

    out: Path
    scale: Scale
    cohorts: Mapping[str, Path]
    report: Report = lambda stage, done, total: None

    def _named(self, name: str) -> Report:
        return lambda stage, done, total: self.report(f"{name}: {stage}", done, total)

    def _counting(self, stage: str) -> Callable[[int, int], None]:
        return lambda done, total: self.report(stage, done, total)

    def dataset(self, name: str) -> Path:
        """The dataset of a cohort; phantoms are drawn where no cohort was given.

        Raises `RecipeError` where there is neither, and where a dataset of other studies is there.
        """
        place = self.out / "datasets" / name
        if (place / "manifest.json").is_file():
            self._check_origin(name, place)
            return place
        self.check_studies([name])
        cohort = self.cohorts.get(name) or self._phantoms(name)
        build_dataset(cohort, place, PAPER_V2, profile=name, jobs=-1, progress=self._counting(f"measuring {name}"))
        return place

    def check_studies(self, datasets: Iterable[str]) -> None:
        """Raise `RecipeError` for datasets of which there are neither studies nor phantoms."""
        there = {*self.cohorts, *self.scale.phantoms}
        lacking = [
            name
            for name in dict.fromkeys(datasets)
            if name not in there and not (self.out / "datasets" / name / "manifest.json").is_file()
        ]
        if lacking:
            needed = " ".join(f"--cohort {name}=FOLDER" for name in lacking)
            raise RecipeError(f"the scale {self.scale.name} needs real studies: {needed}")

    def _check_origin(self, name: str, place: Path) -> None:
        """Raises `RecipeError` for a dataset of another cohort than the one asked for, or of phantoms that are not the
        scale's."""
        if name not in self.cohorts and name not in self.scale.phantoms:
            return
        made_of = Path(json.loads((place / "manifest.json").read_text())["images"])
        wanted = self.cohorts.get(name) or self._cohort(name)
        other = f"{place}: was made of %s, and %s asked for; name another folder with --out"
        if made_of.resolve() != wanted.resolve():
            raise RecipeError(other % (made_of, f"{wanted} is"))
        truth = wanted / "cohort.json"
        if name in self.cohorts or not truth.is_file():
            return
        found, drawn = json.loads(truth.read_text()), self.scale.phantoms[name]
        if (found["n"], found["seed"]) != (drawn.studies, drawn.seed):
            there = f"{found['n']} phantoms of seed {found['seed']}"
            raise RecipeError(other % (there, f"{drawn.studies} of seed {drawn.seed} are"))

    def _cohort(self, name: str) -> Path:
        return self.out / "cohorts" / name

    def _phantoms(self, name: str) -> Path:
        drawn = self.scale.phantoms[name]
        cohort = self._cohort(name)
        progress = self._counting(f"drawing {name}")
        write_cohort(cohort, drawn.studies, profile_named(name), drawn.seed, jobs=-1, progress=progress)
        return cohort

    def model(self, model: Model, table: str | None = None) -> Model:
        """A model at this scale: with the scale's changes to it, and to the models of a table."""
        changes = (*model.changes, *self.scale.models.get(model.name, ()))
        if table is None or table not in self.scale.tables:
            return Model(model.name, changes)
        return Model(f"{model.name}-{table}", (*changes, *self.scale.tables[table]))

    @cached_property
    def start(self) -> Model | None:
        """The model at this scale that the others start from."""
        models = {row.model.name: row.model for experiment in EXPERIMENTS.values() for row in experiment.rows}
        return None if self.scale.start is None else self.model(models[self.scale.start])

    def _start_of(self, model: Model) -> Model | None:
        return None if model == self.start else self.start

    def rows(self, experiment: Experiment) -> list[Row]:
        """The rows of a table that are made at this scale."""
        return [row for row in experiment.rows if row.model.name not in self.scale.without]

    @cached_property
    def _base(self) -> dict[str, Any]:
        """The scale's recipe, with the shipped eye where it is asked for."""
        base = deepcopy(self.scale.recipe)
        if self.scale.eye is not None:
            base["model"] |= _shipped_eye()
        return base

    def recipe(self, model: Model, dataset: str) -> Recipe:
        """The recipe of a model of this scale on a dataset."""
        base = self.out / "recipe.yaml"
        write_bytes(base, yaml.safe_dump(self._base, sort_keys=False).encode())
        runs = self.out / "runs" / dataset
        places = [f"name={dataset}-{model.name}", f"data={self.out / 'datasets' / dataset}", f"out={runs / model.name}"]
        if (start := self._start_of(model)) is not None:
            places.append(f"start={runs / start.name}")
        return load_recipe(base, [*model.changes, *places])

    def trained(self, model: Model, dataset: str) -> Path:
        """The folder of a model of this scale, trained unless it is there."""
        self.dataset(dataset)
        if (start := self._start_of(model)) is not None:
            self.trained(start, dataset)
        recipe = self.recipe(model, dataset)
        if not is_finished(recipe):
            train(recipe, self._named(f"{dataset} {model.name}"))
        return recipe.out

    def evaluated(
        self,
        model: Model,
        dataset: str,
        split: str,
        *,
        text: bool = False,
        measure: bool = False,
        text_only: bool = False,
        rivals: Sequence[Model] = (),
    ) -> Record:
        """The results of a model on a split, evaluated unless those of this very model and dataset are there; with
        `text_only` also of the model without images, with `measure` of segment-then-measure where the model can draw,
        and with `rivals` of these models."""
        place = self.trained(model, dataset)
        blind = self.trained(self.model(TEXT_ONLY_MODEL), dataset) if text_only else None
        others = [self.trained(rival, dataset) for rival in rivals]
        kept = place / f"evaluation-{split}{'-text' * text}.json"
        data = self.out / "datasets" / dataset
        models = [place, *others, *([] if blind is None else [blind])]
        if not _is_of(kept, models, data, measure):
            report = self._named(f"{dataset} {model.name}")
            found = evaluate(
                place,
                data,
                text_only=blind,
                beside=others,
                report=report,
                split=split,
                text=text,
                measure=measure,
            )
            save(kept, found)
        return load(kept)


def _is_of(kept: Path, models: Sequence[Path], data: Path, measure: bool) -> bool:
    """Whether an evaluation is there and of these weights and questions, of a kind that can be read, and measured if
    that is asked for."""
    try:
        manifest = load(kept)["manifest"] if kept.is_file() else None
    except ResultsError:
        manifest = None
    if manifest is None:
        return False
    asked_of = [one["sha256"] for one in manifest["models"].values()]
    return (
        all(model_files(model) in asked_of for model in models)
        and manifest["dataset"]["sha256"] == dataset_files(data)
        and manifest["settings"]["measure"] >= measure
    )


def _shipped_eye() -> Record:
    """Encoder and decoder of the shipped model as parts of a recipe; raises `WeightsError` where none is shipped."""
    folder = model_at(Path(POCKET))
    settings = MpLLMConfig.from_pretrained(folder).parsed
    parts = {"vision": settings.vision, "grounding": settings.grounding}
    return {
        name: part.model_copy(update={"weights": str(folder)}).model_dump(mode="json")
        for name, part in parts.items()
        if part is not None
    }


def _measured(results: Record, method: str, measures: tuple[str, ...]) -> Record:
    tasks = results["methods"][method]["tasks"]
    return {name: tasks[name] for name in measures}


def _row(workshop: Workshop, experiment: Experiment, row: Row) -> Record:
    model = workshop.model(row.model, experiment.name)
    # mpLLM stands in every table, and the masks are the same for all who see by one eye: they are drawn for it alone.
    measure = row.model == MPLLM
    beside = [each for each in workshop.rows(experiment) if each.dataset == row.dataset and each.model != row.model]
    rivals = [each for each in beside if each.printed] if measure and experiment.compared else []
    results = workshop.evaluated(
        model,
        row.dataset,
        experiment.split,
        text=experiment.from_text,
        measure=measure,
        text_only=measure and all(each.model != TEXT_ONLY_MODEL for each in beside),
        rivals=[workshop.model(rival.model, experiment.name) for rival in rivals],
    )
    own = results["method"]
    written = own + FROM_TEXT
    return {
        "cells": list(row.cells),
        "model": model.name,
        "dataset": row.dataset,
        "printed": {name: asdict(figure) for name, figure in row.printed.items()},
        "measured": _measured(results, written if row.by_text else own, experiment.measures),
        "from_text": _measured(results, written, experiment.measures) if experiment.from_text else None,
        "baselines": {
            name: _measured(results, name, experiment.measures)
            for name in (PRIOR, MAJORITY, LABEL_MAJORITY, TEXT_ONLY, MEASURED)
            if name in results["methods"] and name != own
        },
        "better_than": {
            rival.cells[-1]: results["differences"][rival.cells[-1]]["mean"]
            | {"printed": row.printed["mean"].value - rival.printed["mean"].value}
            for rival in rivals
        },
        "questions": results["questions"],
        "patients": results["patients"],
    }


def reproduce(workshop: Workshop, experiment: Experiment) -> Record:
    """Train and evaluate what a table needs, and write the table to OUT/TABLE.json.

    Every row has what was measured, what the paper prints, and on the same questions guessing by training frequencies,
    the majority classes and, beside mpLLM, text-only and segment-then-measure if it can draw masks; where the table
    compares systems, by how much mpLLM is better than the others, question by question.
    """
    rows = []
    made = workshop.rows(experiment)
    for done, row in enumerate(made):
        workshop.report(experiment.name, done, len(made))
        rows.append(_row(workshop, experiment, row))
    table = {
        "version": VERSION,
        "voxmoe": __version__,
        "name": experiment.name,
        "title": experiment.title,
        "scale": workshop.scale.name,
        "summary": workshop.scale.summary,
        "split": experiment.split,
        "columns": list(experiment.columns),
        "measures": list(experiment.measures),
        "recipe": sha256(workshop.out / "recipe.yaml"),
        "rows": rows,
    }
    write_json(workshop.out / f"{experiment.name}.json", table)
    return table


def workshop_at(out: Path, scale: str, cohorts: Sequence[str], report: Report) -> Workshop:
    """A workshop with cohorts given as DATASET=FOLDER; raises `RecipeError` for another scale or dataset."""
    found = {}
    for given in cohorts:
        name, separator, folder = given.partition("=")
        if not separator or name not in DATASETS:
            raise RecipeError(f"--cohort {given}: write DATASET=FOLDER, with DATASET one of {', '.join(DATASETS)}")
        found[name] = Path(folder)
    return Workshop(out, load_scale(scale), found, report)


def plans(workshop: Workshop, names: Sequence[str]) -> list[Record]:
    """What some tables need, and what of it is there, each model once: the dry run."""
    rows = [(row.dataset, workshop.model(row.model, name)) for name in names for row in _rows_of(workshop, name)]
    starts = [(dataset, workshop.start) for dataset, _ in rows if workshop.start is not None]
    blind = [
        (row.dataset, workshop.model(TEXT_ONLY_MODEL))
        for name in names
        for row in _rows_of(workshop, name)
        if row.model == MPLLM and name in EXPERIMENTS
    ]
    runs = dict.fromkeys([*starts, *blind, *rows])
    ct = [run for name in names if name in TABLES for run in ct_plan(ct_workshop(workshop), name)]
    return [
        {
            "dataset": dataset,
            "model": model.name,
            "changes": list(model.changes),
            "there": is_finished(workshop.recipe(model, dataset)),
        }
        for dataset, model in runs
    ] + ct


def _experiment(name: str) -> Experiment:
    if name not in EXPERIMENTS:
        raise RecipeError(f"nothing is called {name!r}; there are {', '.join(NAMES)}")
    return EXPERIMENTS[name]


def _rows_of(workshop: Workshop, name: str) -> list[Row]:
    if name == FIGURE_3:
        return [Row((), MPLLM, "gli", {})]
    return [] if name == MEMORY or name in TABLES else workshop.rows(_experiment(name))


def reproduced(workshop: Workshop, names: Sequence[str]) -> list[Record]:
    """The tables and figures of these names, one after the other; raises `RecipeError` for a name that is unknown, and
    before anything is trained for studies that are not there."""
    workshop.check_studies(row.dataset for name in names for row in _rows_of(workshop, name))
    if FIGURE_3 in names:
        check_picture(_figure_3_at(workshop))
    ct: dict[str, Callable[[Workshop], Record]] = {name: partial(_reproduce_ct, name=name) for name in TABLES}
    others: dict[str, Callable[[Workshop], Record]] = {FIGURE_3: reproduce_figure_3, MEMORY: reproduce_memory, **ct}
    return [others[name](workshop) if name in others else reproduce(workshop, _experiment(name)) for name in names]


def ct_workshop(workshop: Workshop) -> CTWorkshop:
    """For the tables of TGH-MoE, in the same folder and at the scale of the same name."""
    return CTWorkshop(workshop.out, load_ct_scale(workshop.scale.name), workshop.report)


def _reproduce_ct(workshop: Workshop, name: str) -> Record:
    return reproduce_ct(ct_workshop(workshop), name)


def reproduce_memory(workshop: Workshop) -> Record:
    """Memory of a training step against the baselines (mpLLM, section 4.3); kept in OUT/memory.json.

    The same at every scale: measured at the size of SmolLM2-135M, and computed at that of Phi-3-Mini. What another
    version has measured is measured again.
    """
    kept = workshop.out / f"{MEMORY}.json"
    found: Record = json.loads(kept.read_text()) if kept.is_file() else {}
    if found.get("voxmoe") != __version__:
        found = {"voxmoe": __version__, **bench_memory()}
        write_json(kept, found)
    return found


def _figure_3_at(workshop: Workshop) -> Path:
    return workshop.out / f"{FIGURE_3}.png"


def reproduce_figure_3(workshop: Workshop) -> Record:
    """The router's weights for the 60 template prompts, by the model of the GLI dataset; kept in OUT/figure3.json and
    drawn to OUT/figure3.png."""
    place = workshop.trained(workshop.model(MPLLM), "gli")
    found = study_router(place, dataset=workshop.out / "datasets" / "gli", split="validation")
    write_json(workshop.out / f"{FIGURE_3}.json", found)
    draw_correlations(_figure_3_at(workshop), found)
    return found

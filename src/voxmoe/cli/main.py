"""The command `voxmoe`: arguments in, one call into the package, its result printed.

Everything heavy is imported inside the commands, so that help is instant. Progress goes to standard error, results to
standard output. Exit codes: 0 done, 1 done but something was skipped (or, by `audit`, found), 2 the input has to be
mended, 130 interrupted.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voxmoe.cli.readers import readers
from voxmoe.cli.speech import speak_logs
from voxmoe.errors import (
    CacheError,
    DatasetError,
    ImageError,
    LabelError,
    QuestionError,
    ResultsError,
    StudyError,
    VoxmoeError,
)

if TYPE_CHECKING:
    from voxmoe.cli.show import Progress
    from voxmoe.imaging.study import StudyFiles
    from voxmoe.reporting import Report
    from voxmoe.vocabulary import Modality

app = typer.Typer(
    name="voxmoe",
    help="Language models that read 3D medical images through experts chosen by the question. Research software, not a "
    "medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(readers, name="readers")

cache_app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
app.add_typer(cache_app, name="cache", help="What was computed once and kept: how much there is, and removing it.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
ProfileOption = Annotated[
    str | None, typer.Option("--profile", help="The release whose label values the masks hold, e.g. gli-2024.")
]
ModelOption = Annotated[
    Path | None,
    typer.Option(
        "--model", help="A trained model's folder, hf:OWNER/NAME, or pocket: the shipped one. Default: see voxmoe info."
    ),
]
ModelArgument = Annotated[
    Path, typer.Argument(help="A trained model's folder, hf:OWNER/NAME on the hub, or pocket: the shipped one.")
]
HeadsAloneOption = Annotated[
    bool, typer.Option("--heads-alone", help="Weigh nothing that is measured into the answers.")
]
T1Option = Annotated[Path | None, typer.Option("--t1", help="T1 image.")]
T1GDOption = Annotated[Path | None, typer.Option("--t1gd", help="Contrast-enhanced T1 image.")]
T2Option = Annotated[Path | None, typer.Option("--t2", help="T2 image.")]
FLAIROption = Annotated[Path | None, typer.Option("--flair", help="FLAIR image.")]
WithoutOption = Annotated[
    list[str] | None, typer.Option("--without", help="A modality to leave out, as if it were missing.")
]
ProtocolOption = Annotated[str, typer.Option("--protocol", help="Rules of the findings: a preset or a YAML file.")]
AtlasOption = Annotated[
    str | None,
    typer.Option("--atlas", help="Region atlas: a name, or a file of LPBA40 labels. Default: the protocol's."),
]
SpaceOption = Annotated[
    str | None, typer.Option("--space", help="SRI24 or MNI152, where the grid does not say in which space it lies.")
]
PROTOCOL = "paper-v2"
"""The rules of findings where none are named."""
SKIPPED = 1
LEAKAGE = 1
PROBLEMS = 1


def _print_version(asked: bool) -> None:
    if asked:
        from voxmoe import __version__

        print(f"voxmoe {__version__}")
        raise typer.Exit


@app.callback()
def voxmoe(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and end.")
    ] = False,
) -> None:
    """The command by itself."""


@app.command()
def info(json: Json = False) -> None:
    """Versions, profiles with their labels, protocols, tasks and their classes, models."""
    from voxmoe.cli import show
    from voxmoe.cli.facts import facts

    show.result(facts(), show.info, json)


@app.command()
def phantom(
    out: Annotated[Path, typer.Argument(help="Folder to write the cohort to.")],
    n: Annotated[int, typer.Option("--n", min=1, help="Number of studies.")] = 20,
    profile: Annotated[
        str | None, typer.Option(help="The release whose layout and labels to write.", show_default="gli")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same bytes.")] = 0,
    masks: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Shape the lesions by the masks in this folder: segmented studies in any layout, or masks alone. Only "
            "shapes are used.",
        ),
    ] = None,
    masks_profile: Annotated[
        str | None,
        typer.Option(help="The release whose label values those masks hold, where neither layout nor names say it."),
    ] = None,
    ct: Annotated[bool, typer.Option("--ct", help="CTs of chest and upper abdomen in place of brain MRI.")] = False,
    jobs: Annotated[int, typer.Option(help="Processes; -1 for one a core.")] = -1,
) -> None:
    """Write a synthetic cohort with known truth in the layout of a release, or as msd-task01, nnunet or bids.

    With --ct: volumes, masks and truth.jsonl (docs/ct-phantoms.md). Exit code 1 if masks had to be left out.
    """
    from voxmoe.cli import show
    from voxmoe.imaging.layouts import profile_named
    from voxmoe.imaging.phantoms import read_masks, write_cohort

    if ct:
        from voxmoe.imaging.torso import write_torsos

        given = {"--profile": profile, "--masks": masks, "--masks-profile": masks_profile}
        if unread := [name for name, value in given.items() if value is not None]:
            raise StudyError(f"{', '.join(unread)}: for brain MRI; leave it out beside --ct")
        with show.Progress() as progress:
            write_torsos(out, n, seed, jobs=jobs, progress=progress.of("drawing CTs"))
        show.note(f"{n} CTs in {out}")
        return
    layout, real = profile_named(profile or "gli"), None
    with show.Progress() as progress:
        if masks is not None:
            real = read_masks(masks, masks_profile, progress.of("reading masks"))
        write_cohort(out, n, layout, seed, jobs=jobs, progress=progress.of("drawing studies"), masks=real)
    show.note(f"{n} studies in {out}")
    if real is not None:
        show.note(f"lesions shaped by {len(real.kept)} masks, each any number of times")
        for reason in real.skipped:
            show.note(f"left out: {reason}")
        if real.skipped:
            raise typer.Exit(SKIPPED)


@app.command()
def findings(
    target: Annotated[Path, typer.Argument(help="A study's folder (or DATASET/STUDY), or a mask alone.")],
    profile: ProfileOption = None,
    protocol: ProtocolOption = "paper-v2",
    t1: Annotated[Path | None, typer.Option("--t1", help="T1 image for the brain's volume, with a mask alone.")] = None,
    atlas: AtlasOption = None,
    space: SpaceOption = None,
    table: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT.csv",
            help="Measure every mask at or below the folder into this table, a row a label (.csv or .parquet).",
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(help="Processes for a table; -1 for one a core.")] = -1,
    json: Json = False,
) -> None:
    """Volume, region, shape and spread of each label of a mask, or with --table of all masks of a folder.

    Exit code 1 if studies had to be left out of a table.
    """
    from voxmoe.cli import show
    from voxmoe.vqa.findings import to_json
    from voxmoe.vqa.measure import measure

    if table is not None:
        if t1 is not None:
            raise StudyError(
                "--t1 is the image of one study; leave it out beside --table, which reads each study's own"
            )
        _findings_table(target, table, profile, protocol, atlas, space, jobs, json)
        return
    found = to_json(measure(target, profile=profile, protocol=protocol, t1=t1, atlas=atlas, space=space))
    show.result(found, show.findings, json)


def _findings_table(
    folder: Path,
    table: Path,
    profile: str | None,
    protocol: str,
    atlas: str | None,
    space: str | None,
    jobs: int,
    json: bool,
) -> None:
    from voxmoe.cli import show
    from voxmoe.vqa.findings_table import check_suffix, findings_table, write_table
    from voxmoe.vqa.measure import measure_all

    check_suffix(table)
    _check_writable(table)
    with show.Progress() as progress:
        outcomes = measure_all(
            folder,
            profile=profile,
            protocol=protocol,
            atlas=atlas,
            space=space,
            jobs=jobs,
            progress=progress.of("measuring studies"),
        )
    measured = [(files, found) for files, found in outcomes if not isinstance(found, str)]
    skipped = {str(files.mask): reason for files, reason in outcomes if isinstance(reason, str)}
    if not measured:
        first, reason = next(iter(skipped.items()))
        raise StudyError(f"{folder}: none of {len(outcomes)} masks can be measured; the first, {first}: {reason}")
    rows = findings_table(measured)
    write_table(table, rows)
    report = {"studies": len(measured), "rows": len(rows), "skipped": skipped, "out": str(table)}
    show.result(report, show.findings_table, json)
    if skipped:
        raise typer.Exit(SKIPPED)


@app.command()
def build(
    cohort: Annotated[Path, typer.Argument(help="A folder of segmented studies.")],
    out: Annotated[Path, typer.Argument(help="Folder to write the dataset to.")],
    profile: ProfileOption = None,
    protocol: ProtocolOption = "paper-v2",
    atlas: AtlasOption = None,
    space: SpaceOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Of questions and splits.")] = 0,
    wordings: Annotated[
        Path | None, typer.Option(help="A file that `wordings` wrote, to draw from instead of the grammar.")
    ] = None,
    type_weights: Annotated[
        str, typer.Option(help="How often each question type is drawn: uniform, paper or a YAML file.")
    ] = "uniform",
    jobs: Annotated[int, typer.Option(help="Processes; -1 for one a core.")] = -1,
    cluster: Annotated[
        str | None, typer.Option(help="A Dask scheduler's address; its workers do what --jobs would do here.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="End at a study that cannot be used.")] = False,
    json: Json = False,
) -> None:
    """Build the question-answer dataset of a cohort. Exit code 1 if studies had to be left out.

    A build that was interrupted goes on where it was.
    """
    from dataclasses import asdict

    from voxmoe.cli import show
    from voxmoe.vqa.card import write_card
    from voxmoe.vqa.dataset import build_dataset, open_dataset
    from voxmoe.vqa.protocol import protocol_named
    from voxmoe.vqa.type_weights import type_weights_named

    with show.Progress() as progress:
        report = build_dataset(
            cohort,
            out,
            protocol_named(protocol),
            profile=profile,
            atlas=atlas,
            space=space,
            seed=seed,
            wordings=wordings,
            type_weights=type_weights_named(type_weights),
            jobs=jobs,
            cluster=cluster,
            strict=strict,
            progress=progress.of("measuring studies"),
        )
    write_card(open_dataset(out))
    show.result({**asdict(report), "out": str(out)}, show.build, json)
    if report.skipped:
        raise typer.Exit(SKIPPED)


@app.command()
def collect(
    form: Annotated[
        str,
        typer.Argument(
            metavar="FORMAT", help="m3d-vqa, m3d-cap, ct-rate, radgenome, 3d-rad, own, phantom or phantom-slices."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="Folder to write the dataset to.")],
    tables: Annotated[
        list[str],
        typer.Argument(metavar="TABLE..", help="Its tables or their folder; SPLIT=TABLE says which split one is."),
    ],
    images: Annotated[Path, typer.Option(help="The folder that the paths of images are relative to.")],
    metadata: Annotated[
        Path | None, typer.Option(help="CT-RATE's table with slope and intercept, if the files hold stored values.")
    ] = None,
    masks: Annotated[Path | None, typer.Option(help="A folder of masks with the names of the images.")] = None,
    draw_splits: Annotated[
        bool, typer.Option("--draw-splits", help="Draw the splits by patient, whatever the tables say.")
    ] = False,
    no_check_files: Annotated[
        bool, typer.Option("--no-check-files", help="Keep rows whose image is not there, too.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of splits that are drawn.")] = 0,
    json: Json = False,
) -> None:
    """Collect the dataset of a published set of CT questions and reports, or of own data (docs/ct-data.md).

    Exit code 1 if rows had to be left out.
    """
    from voxmoe.cli import show
    from voxmoe.vqa.ct.collect import collect as run_collect

    collected = run_collect(
        form,
        tables,
        out,
        images,
        metadata=metadata,
        masks=masks,
        draw_splits=draw_splits,
        check_files=not no_check_files,
        seed=seed,
    )
    show.result({**collected.manifest, "skipped": collected.skipped, "out": str(out)}, show.collected, json)
    if collected.skipped:
        raise typer.Exit(SKIPPED)


@app.command()
def validate(
    file: Annotated[Path, typer.Argument(help="Own data, .csv or .jsonl, of the schema in docs/ct-data.md.")],
    images: Annotated[Path | None, typer.Option(help="Look for the images, too, in this folder.")] = None,
    json: Json = False,
) -> None:
    """Name every problem of a file of own data, with its line. Exit code 1 if there is any."""
    from voxmoe.cli import show
    from voxmoe.vqa.ct.formats.own import validate as run_validate

    found = run_validate(file, images)
    show.result({"file": str(file), "rows": found.rows, "problems": list(found.problems)}, show.validation, json)
    if found.problems:
        raise typer.Exit(PROBLEMS)


@app.command()
def export(
    dataset: Annotated[Path, typer.Argument(help="A dataset that `build` wrote.")],
    out: Annotated[Path, typer.Argument(help="Folder to write to.")],
    form: Annotated[
        str, typer.Option("--format", help="mpllm: JSON as the authors' code reads it. nifti: Parquet with the images.")
    ],
) -> None:
    """Write a dataset in another form."""
    from voxmoe.cli import show
    from voxmoe.vqa.dataset import open_dataset
    from voxmoe.vqa.export import export_dataset

    with show.Progress() as progress:
        export_dataset(open_dataset(dataset), out, form, progress.of("exporting"))
    show.note(f"{form} in {out}")


@app.command()
def wordings(
    out: Annotated[Path, typer.Argument(metavar="OUT.jsonl", help="File to write, for `build --wordings`.")],
    endpoint: Annotated[str, typer.Option(help="An OpenAI-compatible API, e.g. http://localhost:8000/v1.")],
    model: Annotated[str, typer.Option(help="The model's name there.")],
    partial_model: Annotated[
        str | None, typer.Option(help="Another for what is partially out of scope, as in the paper.")
    ] = None,
    repetitions: Annotated[int, typer.Option(min=1, help="Requests for each of the 15 types.")] = 40,
    partial_repetitions: Annotated[int, typer.Option(min=1, help="The same, partially out of scope.")] = 10,
    out_of_scope_repetitions: Annotated[int, typer.Option(min=1, help="Requests out of scope.")] = 10,
    temperature: Annotated[float, typer.Option(min=0, max=2)] = 1.0,
    top_p: Annotated[float, typer.Option(min=0.01, max=1)] = 1.0,
    parallel: Annotated[int, typer.Option(min=1, help="Requests under way at a time.")] = 4,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for a reply.")] = 600.0,
    json: Json = False,
) -> None:
    """Have a language model word the questions, by the paper's prompts; the defaults are the paper's.

    The key is read from the environment variable OPENAI_API_KEY. Replies are kept in OUT.jsonl.replies: a run that was
    interrupted goes on, and nothing is asked twice. Exit code 1 if a question type has no wording.
    """
    from dataclasses import asdict

    from voxmoe.cli import show
    from voxmoe.vqa.wordings.endpoint import Endpoint
    from voxmoe.vqa.wordings.rewording import RewordingSettings, reword

    settings = RewordingSettings(
        model=model,
        partial_model=partial_model,
        repetitions=repetitions,
        partial_repetitions=partial_repetitions,
        out_of_scope_repetitions=out_of_scope_repetitions,
        temperature=temperature,
        top_p=top_p,
    )
    with show.Progress() as progress:
        report = reword(
            out, settings, Endpoint(endpoint, timeout), parallel=parallel, progress=progress.of("asking for wordings")
        )
    show.result({**asdict(report), "out": str(out)}, show.wordings, json)
    if not all(report.kept.values()):
        raise typer.Exit(SKIPPED)


@app.command()
def stats(
    dataset: Annotated[Path, typer.Argument(help="A dataset that `build` or `collect` wrote.")],
    json: Json = False,
) -> None:
    """Counts, examples and frequencies of a dataset, beside those of the paper's; of CT data, letters and lengths."""
    from voxmoe.cli import show
    from voxmoe.vqa.ct.dataset import CTDataset, open_any
    from voxmoe.vqa.ct.statistics import statistics as ct_statistics
    from voxmoe.vqa.statistics import statistics

    opened = open_any(dataset)
    if isinstance(opened, CTDataset):
        show.result(ct_statistics(opened), show.ct_statistics, json)
    else:
        show.result(statistics(opened), show.statistics, json)


@app.command()
def audit(
    datasets: Annotated[
        list[Path], typer.Argument(metavar="DATASET..", help="Datasets that `build` or `collect` wrote.")
    ],
    jobs: Annotated[int, typer.Option(help="Processes; -1 for one a core.")] = -1,
    json: Json = False,
) -> None:
    """Look for leakage: the same patient, file, scan or report in two splits or two datasets.

    Exit code 0 if there is none, 1 if there is, 2 if something cannot be read. Scans are known again after
    re-compression, in other axis orders and intensities, and with noise. Their fingerprints are kept in
    DATASET/meta/fingerprints.json.
    """
    from voxmoe.cli import show
    from voxmoe.vqa.audit import audit as run_audit
    from voxmoe.vqa.ct.dataset import open_any

    with show.Progress() as progress:
        found = run_audit(
            [open_any(dataset) for dataset in datasets], jobs=jobs, progress=progress.of("fingerprinting images")
        )
    show.result(found.to_json(), show.audit, json)
    if found.leaks:
        raise typer.Exit(LEAKAGE)


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe (YAML).")],
    settings: Annotated[list[str] | None, typer.Argument(help="Changes to it, e.g. fit.epochs=1 out=run2.")] = None,
    default: Annotated[bool, typer.Option("--default", help="Make it the model that `ask` uses by itself.")] = False,
) -> None:
    """Train a model by a recipe. A run that has finished is not repeated, one that was interrupted goes on.

    Several processes: torchrun --nproc_per_node 2 -m voxmoe train RECIPE, or accelerate launch
    (docs/training.md).
    """
    from voxmoe.cli import show
    from voxmoe.training.any_recipe import load_any
    from voxmoe.training.record import is_finished
    from voxmoe.training.run import make_default

    loaded, run_training = load_any(recipe, settings or [])
    if is_finished(loaded):
        show.note(f"{loaded.out}: already trained by this recipe on this dataset")
    else:
        try:
            with show.Progress() as progress:
                run_training(loaded, progress.report)
        except KeyboardInterrupt:
            show.note(f"{loaded.out}: the same command goes on from the last checkpoint, if there is one")
            raise
        show.note(f"model in {loaded.out}")
    if default:
        make_default(loaded.out)


@app.command()
def pretrain(
    recipe: Annotated[Path, typer.Argument(help="A recipe of an eye (see recipes/eye.yaml).")],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]..", help="Changes, e.g. fit.steps=100.")
    ] = None,
) -> None:
    """Train an encoder and its decoder on phantoms alone, drawn meanwhile. What was interrupted goes on."""
    from voxmoe.cli import show
    from voxmoe.training.pretraining import is_pretrained
    from voxmoe.training.pretraining import pretrain as run_pretraining
    from voxmoe.training.recipe import EyeRecipe, load

    loaded = load(EyeRecipe, recipe, settings or [])
    if is_pretrained(loaded):
        show.note(f"{loaded.out}: already trained by this recipe")
        return
    try:
        with show.Progress() as progress:
            run_pretraining(loaded, progress.report, show.note)
    except KeyboardInterrupt:
        show.note(f"{loaded.out}: the same command goes on from the last checkpoint, if there is one")
        raise
    show.note(f"eye in {loaded.out}")


@app.command()
def publish(
    model: Annotated[Path, typer.Argument(help="A trained model's folder.")],
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    results: Annotated[
        list[Path] | None, typer.Option("--results", help="Results that `evaluate --out` wrote, for the card.")
    ] = None,
    about: Annotated[Path | None, typer.Option(help="A text about its data and limits, for the card.")] = None,
    json: Json = False,
) -> None:
    """Make a trained model ready to be shared: half the bytes, its record, a model card, no place of this machine."""
    from voxmoe.cli import show
    from voxmoe.publishing import publish as run_publishing

    show.result(run_publishing(model, out, results or [], about), show.published, json)


@app.command()
def reconcile(
    model: Annotated[Path, typer.Argument(help="A trained model's folder; its weights gain a few hundred numbers.")],
    datasets: Annotated[list[Path], typer.Argument(help="Datasets that `build` wrote.")],
    split: Annotated[
        str, typer.Option(help="A split that the model has not learnt from, or all of a dataset.")
    ] = "validation",
    json: Json = False,
) -> None:
    """Learn how far to trust a model's heads and what is measured in its masks; its answers then weigh the two."""
    from voxmoe.cli import show
    from voxmoe.reconciling import reconcile as run_reconciling

    with show.Progress() as progress:
        record = run_reconciling(model, datasets, split, progress.report)
    show.result(record, show.reconciled, json)


@app.command()
def weights(
    source: Annotated[Path, typer.Argument(metavar="FILE.bin", help="A PyTorch pickle of tensors.")],
    target: Annotated[Path, typer.Argument(metavar="OUT.safetensors", help="The file to write.")],
    json: Json = False,
) -> None:
    """Convert a pickle of weights to safetensors, which is all that is loaded.

    PyTorch reads tensors and plain containers from it and refuses anything else.
    """
    from voxmoe.cli import show
    from voxmoe.model.weights import convert_pickle

    tensors = convert_pickle(source, target)
    parameters = sum(tensor.numel() for tensor in tensors.values())
    show.result({"out": str(target), "tensors": len(tensors), "parameters": parameters}, show.weights, json)


@app.command()
def evaluate(
    model: ModelArgument,
    dataset: Annotated[Path, typer.Argument(help="A dataset that `build` wrote.")],
    text_only: Annotated[
        Path | None, typer.Option("--text-only", help="A model trained by the same recipe with model.vision=null.")
    ] = None,
    beside: Annotated[
        list[Path] | None, typer.Option(help="Another model, to compare with question by question.")
    ] = None,
    split: Annotated[
        str, typer.Option(help="train, validation, test, or all of a dataset that nothing was trained on.")
    ] = "test",
    text: Annotated[bool, typer.Option("--text", help="Also write every answer and read it.")] = False,
    modality_subsets: Annotated[
        bool, typer.Option("--modality-subsets", help="Also with each of the 15 subsets of the modalities.")
    ] = False,
    cross: Annotated[
        bool, typer.Option("--cross", help="Allow a dataset about other labels than the model's.")
    ] = False,
    also: Annotated[
        list[str] | None, typer.Option(help="Also compare texts about CTs by bertscore or meteor_wordnet.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Also write the results here (JSON).")] = None,
    predictions: Annotated[
        Path | None, typer.Option(help="Also write what every method says to every question here (Parquet).")
    ] = None,
    json: Json = False,
) -> None:
    """Accuracy of a model on a dataset, beside guessing, majority class and text-only."""
    from voxmoe.cli import show
    from voxmoe.default import model_at
    from voxmoe.evaluation.results import save
    from voxmoe.vqa.ct.dataset import is_ct_dataset

    for file in (out, predictions):
        if file is not None:
            _check_writable(file)
    with show.Progress() as progress:
        if is_ct_dataset(dataset):
            from voxmoe.evaluation.reading import evaluate_reader

            if text or modality_subsets or cross or beside or predictions is not None:
                raise DatasetError(
                    f"{dataset}: is about CTs, whose answers are always texts; leave out --text, --modality-subsets, "
                    "--cross, --beside and --predictions"
                )
            found = evaluate_reader(
                model_at(model),
                dataset,
                text_only=text_only,
                split=split,
                seed=seed,
                also=also or (),
                report=progress.report,
            )
        else:
            if also:
                raise DatasetError(f"{dataset}: is about MRI, whose texts are read as answers; leave out --also")
            from voxmoe.evaluation.evaluate import evaluate as run_evaluation

            found = run_evaluation(
                model_at(model),
                dataset,
                text_only=text_only,
                beside=[model_at(other) for other in beside or ()],
                split=split,
                text=text,
                modality_subsets=modality_subsets,
                cross=cross,
                predictions=predictions,
                seed=seed,
                report=progress.report,
            )
    if out is not None:
        save(out, found)  # before anything is printed: a pipe that was closed must not lose it
    show.result(found, show.evaluation, json)
    if out is not None:
        show.note(f"all tables: voxmoe results {out}")


def _check_writable(file: Path) -> None:
    """Make the folder of a file that long work ends with; raise `ResultsError` where it could not be written."""
    if file.is_dir():
        raise ResultsError(f"{file}: is a folder; name a file to write")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResultsError(f"{file}: cannot be written ({error.strerror}); name another file") from None
    if not os.access(file.parent, os.W_OK):
        raise ResultsError(f"{file}: cannot be written, as its folder is not to be written to; name another file")


@app.command()
def results(
    files: Annotated[list[Path], typer.Argument(metavar="FILE..", help="Results that `evaluate --out` wrote.")],
    markdown: Annotated[bool, typer.Option("--markdown", help="Print tables for a page of documentation.")] = False,
    json: Json = False,
) -> None:
    """Print evaluations again, with all their tables: kinds of question, regions, scope, calibration, experts.

    Of what was said about CTs: every measure by kind of question, every difference.
    """
    from voxmoe.cli import show
    from voxmoe.evaluation.results import load_any

    loaded = [load_any(file) for file in files]
    render = show.evaluation_page if markdown else show.evaluation_in_full
    if json:
        show.result(loaded if len(loaded) > 1 else loaded[0], render, as_json=True)
    else:
        for found in loaded:
            render(found)


@app.command()
def router(
    model: ModelArgument,
    dataset: Annotated[Path | None, typer.Option(help="Also weigh the questions of this dataset.")] = None,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    out: Annotated[Path | None, typer.Option(help="Also write weights and correlations here (JSON).")] = None,
    figure: Annotated[
        Path | None, typer.Option(help="Also draw the correlations here (png, pdf, svg), with the JSON beside.")
    ] = None,
    json: Json = False,
) -> None:
    """The experts' weights by prompt: correlations of the 15 template questions about every label, entropy, load."""
    from voxmoe.cli import show
    from voxmoe.default import model_at
    from voxmoe.evaluation.heatmap import draw_correlations
    from voxmoe.evaluation.results import save
    from voxmoe.evaluation.router import is_study, study_router
    from voxmoe.pictures import check_picture

    if figure is not None:
        check_picture(figure)
        if out is None:
            out = figure.with_suffix(".json")
            if out.exists() and not is_study(out):
                raise ResultsError(f"{out}: holds something else, which the router's would replace; name --out")
    record = study_router(model_at(model), dataset=dataset, split=split)
    if out is not None:
        save(out, record)
    if figure is not None:
        draw_correlations(figure, record)
    show.result(record, show.router, json)


@app.command()
def ask(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="[SCAN] QUESTION..",
            help="A study's folder (or DATASET/STUDY), unless files are named; where the model reads CT a NIfTI file, "
            "a DICOM folder or M3D's .npy; questions.",
        ),
    ],
    model: ModelOption = None,
    t1: T1Option = None,
    t1gd: T1GDOption = None,
    t2: T2Option = None,
    flair: FLAIROption = None,
    without: WithoutOption = None,
    evidence: Annotated[
        bool,
        typer.Option("--evidence", help="Show what is measured in the mask that the model draws."),
    ] = False,
    heads_alone: HeadsAloneOption = False,
    mask: Annotated[Path | None, typer.Option("--mask", help="Measure this mask; the heads alone answer.")] = None,
    picture: Annotated[
        Path | None, typer.Option("--picture", help="Also draw what was measured here (png, pdf, svg).")
    ] = None,
    profile: ProfileOption = None,
    space: SpaceOption = None,
    choice: Annotated[
        list[str] | None, typer.Option("--choice", help="A choice of a closed question about a CT; give each in turn.")
    ] = None,
    json: Json = False,
) -> None:
    """Ask questions about a brain MRI study, and have the answers measured; or about a CT, as the model reads it."""
    from voxmoe.cli import scans, show
    from voxmoe.default import model_at

    named = _named(t1, t1gd, t2, flair)
    folder, questions = (None, arguments) if named else (arguments[0], arguments[1:])
    there = os.path.exists(arguments[0])  # noqa: PTH110 - False, too, for long questions
    if named and there:
        raise StudyError(f"{arguments[0]}: a study or CT was named beside files of images; give the one or the other")
    if not questions and not there:
        raise StudyError(f'no study is named beside the question; ask e.g. voxmoe ask STUDY "{arguments[0]}"')
    if not questions:
        raise QuestionError('no question was given; ask e.g. voxmoe ask STUDY "How large is the enhancing tissue?"')

    place = model_at(model)
    if scans.reads_ct(place):
        files_named = {f"--{modality.lower()}": True for modality in named}
        measured_by = {
            "--evidence": evidence,
            "--heads-alone": heads_alone,
            "--mask": mask,
            "--picture": picture,
            "--profile": profile,
            "--space": space,
        }
        scans.refuse_beside_ct(place, {**files_named, "--without": without, **measured_by})
        scans.ask(place, arguments[0], questions, choice or [], json)
        return
    scans.refuse_choices(place, choice or [])
    scans.check_study(folder, place)
    measures = evidence or mask is not None or picture is not None
    if picture is not None:
        from voxmoe.pictures import check_picture

        check_picture(picture)
    with show.Progress() as progress:
        progress.report("reading the study", 0, 1)
        from voxmoe.imaging.layouts import require_profile
        from voxmoe.imaging.study import load_study

        files = _files(folder, named, without or [], space)
        if mask is not None or profile is not None:
            files = require_profile(files, profile)
        study = load_study(files)
        progress.report("loading the model", 0, 1)
        from voxmoe.answering import Answerer
        from voxmoe.evidence import ask_all, gather

        answers, measured = ask_all(
            Answerer.from_pretrained(place),
            study,
            questions,
            profile=files.profile,
            given=mask,
            evidence=measures,
            heads_alone=heads_alone,
            space=files.space,
            report=progress.report,
        )
        said = [answer.to_json() for answer in answers]
        if measured is not None:
            for answer, found in zip(said, gather(measured, answers, picture), strict=True):
                answer["evidence"] = found.to_json()
    show.result(said if len(said) > 1 else said[0], show.answers, json)


@cache_app.callback(invoke_without_command=True)
def cache(context: typer.Context, json: Json = False) -> None:
    """Show how much was computed once and kept, and where."""
    if context.invoked_subcommand is not None:
        return
    from voxmoe.cli import show
    from voxmoe.training.cache import usage

    show.result(usage(), show.cache, json)


@cache_app.command()
def prune(
    older_than: Annotated[
        float | None, typer.Option("--older-than", min=0, metavar="DAYS", help="Remove what was not used for so long.")
    ] = None,
    max_size: Annotated[
        float | None, typer.Option("--max-size", min=0, metavar="GB", help="Remove the longest unused above this size.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Remove all of it.")] = False,
    json: Json = False,
) -> None:
    """Remove from the cache. Nothing in it is needed: what is gone is computed again."""
    from voxmoe.cli import show
    from voxmoe.training.cache import prune as run_pruning

    if older_than is None and max_size is None and not everything:
        raise CacheError("nothing to remove was named; give --older-than DAYS, --max-size GB or --all")
    show.result(run_pruning(older_than, max_size, everything), show.pruned, json)


@app.command()
def segment(
    arguments: Annotated[
        list[str],
        typer.Argument(metavar="[STUDY] OUT", help="A study's folder, unless files are named; the mask to write."),
    ],
    model: Annotated[
        Path | None,
        typer.Option(help="A trained model's or an eye's folder, or pocket. Default: see voxmoe info."),
    ] = None,
    profile: ProfileOption = None,
    t1: T1Option = None,
    t1gd: T1GDOption = None,
    t2: T2Option = None,
    flair: FLAIROption = None,
    without: WithoutOption = None,
    json: Json = False,
) -> None:
    """Write the predicted mask of a study as NIfTI, on the study's own grid."""
    from voxmoe.cli import scans, show
    from voxmoe.default import model_at

    named = _named(t1, t1gd, t2, flair)
    if len(arguments) != (1 if named else 2):
        raise StudyError(
            "name the mask to write, and either a study or its files: voxmoe segment STUDY OUT.nii.gz, or voxmoe "
            "segment OUT.nii.gz --t1 FILE .."
        )
    folder, out = (None if named else arguments[0]), Path(arguments[-1])
    if not out.name.endswith((".nii", ".nii.gz")):
        raise ImageError(f"{out}: a mask is written as .nii or .nii.gz")
    with show.Progress() as progress:
        progress.report("reading the study", 0, 1)
        from voxmoe.imaging.layouts import require_profile
        from voxmoe.imaging.places import file_of
        from voxmoe.imaging.study import load_study

        scans.check_study(folder, model_at(model))
        whole = _files(folder, named, [])
        inputs = [file_of(place) for place in whole.images.values()] + ([whole.mask] if whole.mask else [])
        if out.exists() and any(out.samefile(file) for file in inputs):
            raise ImageError(f"{out}: is a file of the study itself; name another one to write the mask to")
        files = require_profile(_files(folder, named, without or []), profile)
        assert files.profile is not None
        study = load_study(files)
        progress.report("loading the eye", 0, 1)
        from voxmoe.imaging.volume import write_volume
        from voxmoe.segmenting import Segmenter, summary

        mask = Segmenter.from_pretrained(model_at(model)).segment(study, files.profile)
        write_volume(mask, out)
    show.result({"out": str(out), **summary(mask, files.profile)}, show.segmented, json)


@app.command()
def report(
    study: Annotated[
        str | None, typer.Argument(help="A study's folder, with --mask a mask alone; or a CT; unless files are named.")
    ] = None,
    model: ModelOption = None,
    mask: Annotated[
        bool, typer.Option("--mask", help="Report what the study's own mask shows, not what a model sees.")
    ] = False,
    heads_alone: HeadsAloneOption = False,
    profile: ProfileOption = None,
    protocol: ProtocolOption = PROTOCOL,
    space: SpaceOption = None,
    t1: T1Option = None,
    t1gd: T1GDOption = None,
    t2: T2Option = None,
    flair: FLAIROption = None,
    without: WithoutOption = None,
    json: Json = False,
) -> None:
    """Write a findings report of a study: every label and task, how sure, and what it does not cover; or of a CT."""
    from voxmoe.cli import scans, show
    from voxmoe.default import model_at

    named = _named(t1, t1gd, t2, flair)
    if study is None and not named:
        raise StudyError("no study was named; give a study's folder, or files with --t1, --t1gd, --t2, --flair")
    # a mask is reported without a model
    place = None if mask and model is None else model_at(model)
    if place is not None and scans.reads_ct(place):
        files_named = {f"--{modality.lower()}": True for modality in named}
        others = {
            "--mask": mask,
            "--heads-alone": heads_alone,
            "--profile": profile,
            "--protocol": protocol != PROTOCOL,
            "--space": space,
            "--without": without,
        }
        scans.refuse_beside_ct(place, {**files_named, **others})
        assert study is not None
        scans.report(place, study, json)
        return
    _refuse_in_report(study, named, mask, {"--model": model, "--heads-alone": heads_alone}, protocol)
    if place is not None and not mask:
        scans.check_study(study, place)
    with show.Progress() as progress:
        if mask:
            if study is None:
                raise StudyError("--mask reports a study's folder or a mask; name it")
            progress.report("measuring the mask", 0, 1)
            found = _report_of_mask(Path(study), named, profile, protocol, space, without or [])
        else:
            assert place is not None
            files = _files(study, named, without or [], space)
            found = _report_by_model(place, files, profile, heads_alone, progress)
    show.result(found.to_json(), show.report, json)


def _report_of_mask(
    target: Path,
    named: "dict[Modality, Path]",
    profile: str | None,
    protocol: str,
    space: str | None,
    without: list[str],
) -> "Report":
    from voxmoe.imaging.layouts import require_profile
    from voxmoe.reporting import report_of_mask
    from voxmoe.vocabulary import Modality
    from voxmoe.vqa.measure import files_of, measure

    if unread := [f"--{modality.lower()}" for modality in named if modality is not Modality.T1]:
        raise StudyError(f"--mask reports a mask, beside which T1 alone is read; leave out {', '.join(unread)}")
    files = require_profile(files_of(target, profile), profile)
    left_out = _left_out(without)
    t1 = named.get(Modality.T1)
    findings = measure(target, profile=profile, protocol=protocol, t1=t1, space=space, without=left_out)
    there = tuple(m for m in Modality if m in {*files.images, *named} - left_out)
    assert files.profile is not None
    return report_of_mask(target.name, files.profile, findings, there)


def _report_by_model(
    place: Path, files: "StudyFiles", profile: str | None, heads_alone: bool, progress: "Progress"
) -> "Report":
    progress.report("reading the study", 0, 1)
    from voxmoe.imaging.layouts import require_profile
    from voxmoe.imaging.study import load_study

    if profile is not None:
        files = require_profile(files, profile)
    study = load_study(files)
    progress.report("loading the model", 0, 1)
    from voxmoe.answering import Answerer
    from voxmoe.evidence import drawn_by
    from voxmoe.reporting import report_by_model

    answerer = Answerer.from_pretrained(place)
    asked = answerer.profile(files.profile)
    if profile is not None and asked is not files.profile:
        raise LabelError(
            f"--profile {profile}: {place} was not trained on its labels; it reports those of "
            f"{', '.join(answerer.model.settings.profiles)}: name one of these, or leave it out"
        )
    drawn = None
    if not heads_alone:
        progress.report("measuring", 0, 1)
        drawn = drawn_by(answerer, study, asked, files.space)
    return report_by_model(answerer, study, asked, drawn)


@app.command()
def reproduce(
    tables: Annotated[
        list[str],
        typer.Argument(
            metavar="TABLE..",
            help="table2, table3, table4, table12, table13, table14, figure3, memory, ablations, ct-main, ct-ablation.",
        ),
    ],
    scale: Annotated[str, typer.Option(help="pocket: phantoms, two cores; paper: BraTS, a GPU.")] = "pocket",
    out: Annotated[Path, typer.Option(help="Folder for cohorts, models and tables.")] = Path("runs/reproduction"),
    cohort: Annotated[
        list[str] | None, typer.Option("--cohort", help="A real cohort instead of phantoms, e.g. gli=FOLDER.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be trained, and do nothing.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print tables for a page of documentation.")] = False,
    json: Json = False,
) -> None:
    """Make the paper's tables again, beside the paper's figures. Goes on where it was interrupted."""
    from voxmoe.cli import show
    from voxmoe.reproduction.run import plans, reproduced, workshop_at

    with show.Progress() as progress:
        workshop = workshop_at(out, scale, cohort or [], progress.report)
        if not dry_run:
            found = reproduced(workshop, tables)
    if dry_run:
        show.result(plans(workshop, tables), show.plan, json)
    else:
        show.result(found, show.markdown if markdown else show.reproduction, json)


@app.command()
def bench(
    name: Annotated[str, typer.Argument(help="What to measure; a wrong name lists what there is.")],
    json: Json = False,
) -> None:
    """Measure a part of VoxMoE and the ordinary way of doing the same, in turn, on the same data."""
    from voxmoe.bench import bench_named
    from voxmoe.cli import show

    show.result(bench_named(name)(), show.bench, json)


def _named(*paths: Path | None) -> "dict[Modality, Path]":
    """The files given by modality, in the vocabulary's order."""
    from voxmoe.vocabulary import Modality

    return {modality: path for modality, path in zip(Modality, paths, strict=True) if path is not None}


def _refuse_in_report(
    study: str | None,
    named: "dict[Modality, Path]",
    mask: bool,
    of_models: "dict[str, object]",
    protocol: str,
) -> None:
    """Raise `StudyError` for what a report would not heed."""
    if mask and (unread := [name for name, given in of_models.items() if given]):
        raise StudyError(f"--mask reports a mask, which no model reads; leave out {', '.join(unread)}")
    if not mask and protocol != PROTOCOL:
        raise StudyError(f"--protocol {protocol}: masks alone are measured by it; say --mask, or leave it out")
    if not mask and study is not None and named:
        files = ", ".join(f"--{modality.lower()}" for modality in named)
        raise StudyError(f"{study}: was named beside {files}; give the study or its files")


def _files(
    folder: str | None, named: "dict[Modality, Path]", without: list[str], space: str | None = None
) -> "StudyFiles":
    """The files of a study without the modalities that are left out, in the space that is named, if any is; raises
    `AtlasError` for one that is unknown."""
    from dataclasses import replace

    from voxmoe.imaging.layouts import find_study, study_from_paths

    files = study_from_paths(named) if folder is None else find_study(folder)
    if space is not None:
        from voxmoe.imaging.atlas import space_named

        files = replace(files, space=space_named(space).name)
    left_out = _left_out(without)
    return replace(files, images={m: path for m, path in files.images.items() if m not in left_out})


def _left_out(without: list[str]) -> "set[Modality]":
    """The modalities of these names; raises `StudyError` for one that is unknown."""
    from voxmoe.vocabulary import Modality

    by_name = {modality.lower(): modality for modality in Modality}
    if unknown := {name.lower() for name in without} - by_name.keys():
        raise StudyError(f"no modality is called {min(unknown)!r}; there are {', '.join(Modality)}")
    return {by_name[name.lower()] for name in without}


def run() -> None:
    """The entry point: errors that a user can mend are printed without a traceback."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # gradients are new memory in every step: fewer, larger pages
    speak_logs()
    try:
        app()
    except VoxmoeError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print(f"error: {place}{error.strerror or error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None


if __name__ == "__main__":
    run()

"""The commands `voxmoe readers`: arguments in, one call into the package, its result printed."""

from pathlib import Path
from typing import Annotated

import typer

readers = typer.Typer(
    no_args_is_help=True, help="Clinical validation: give studies to a reader, score what comes back."
)


@readers.command("export")
def export_reading(
    dataset: Annotated[Path, typer.Argument(help="A dataset that `build` wrote.")],
    out: Annotated[Path, typer.Argument(help="Folder to write the sheets to.")],
    n: Annotated[int, typer.Option("--n", min=1, help="Number of studies.")] = 10,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    seed: Annotated[int, typer.Option(min=0, help="Which studies are drawn.")] = 0,
    predictions: Annotated[
        Path | None, typer.Option(help="Written answers to be judged (from `evaluate --text --predictions`).")
    ] = None,
) -> None:
    """Write the sheets that a reader fills in: four tasks for each label of n studies, and questions to judge."""
    from voxmoe.cli import show
    from voxmoe.evaluation.reading_sheet import export
    from voxmoe.vqa.dataset import open_dataset

    manifest = export(open_dataset(dataset), out, studies=n, split=split, seed=seed, predictions=predictions)
    show.note(
        f"sheets for {n} studies ({manifest['questions']} questions) in {out}; the reader begins with INSTRUCTIONS.md"
    )


@readers.command("score")
def score_reading(
    sheets: Annotated[Path, typer.Argument(help="The folder that `export` wrote, its sheets filled in.")],
    dataset: Annotated[Path, typer.Argument(help="The dataset that it was exported from.")],
    predictions: Annotated[
        Path | None, typer.Option(help="Predictions to hold against the reader (from `evaluate --predictions`).")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Kappa of reader and dataset, accuracy of models against the reader, validity and sufficiency."""
    from voxmoe.cli import show
    from voxmoe.evaluation.readers import score
    from voxmoe.vqa.dataset import open_dataset

    show.result(score(sheets, open_dataset(dataset), predictions), show.reading, json)

"""CT phantoms on disk: OUT/volumes/ID.nii.gz in HU, OUT/masks/ID.nii.gz, and OUT/truth.jsonl with a line for each."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import joblib

from voxmoe import __version__
from voxmoe.errors import DatasetError, check_jobs
from voxmoe.files import write_bytes
from voxmoe.imaging.phantoms.geometry import Shape
from voxmoe.imaging.torso.frame import SHAPE
from voxmoe.imaging.torso.phantom import draw_torso, torso_id
from voxmoe.imaging.torso.truth import TorsoTruth
from voxmoe.imaging.volume import write_volume

TRUTHS = "truth.jsonl"
_PARTS = ".truths"
"""The truths of a run that has not ended, a file each."""


def volume_path(id: str) -> str:
    """Of a phantom's CT, below the folder of its cohort."""
    return f"volumes/{id}.nii.gz"


def mask_path(id: str) -> str:
    return f"masks/{id}.nii.gz"


def _line(truth: TorsoTruth) -> str:
    return json.dumps(truth.to_json(), ensure_ascii=False)


def _kept(file: Path, images: list[Path], seed: int, index: int, shape: Shape) -> str | None:
    """The line of a phantom that is already there, complete and drawn from the same."""
    try:
        line = file.read_text().strip()
        truth = TorsoTruth.from_json(json.loads(line))
    except (OSError, ValueError, DatasetError):
        return None
    same = (truth.version, truth.seed, truth.index, truth.shape) == (__version__, seed, index, shape)
    return line if same and all(image.is_file() for image in images) else None


def _write_torso(out: Path, seed: int, index: int, shape: Shape) -> str:
    """Write a phantom unless it is there; its truth comes last and says that it is complete."""
    id = torso_id(index)
    images = [out / volume_path(id), out / mask_path(id)]
    part = out / _PARTS / f"{id}.json"
    if line := _kept(part, images, seed, index, shape):
        return line
    for file in (*images, part):
        for stray in file.parent.glob(f".{file.name}.*.tmp"):  # of a process that was killed while it wrote
            stray.unlink()
    torso = draw_torso(seed, index, shape)
    for volume, path in zip((torso.volume, torso.mask), images, strict=True):
        write_volume(volume, path)
    line = _line(torso.truth)
    write_bytes(part, (line + "\n").encode())
    return line


def _whole(out: Path) -> list[TorsoTruth]:
    """The truths of a cohort that is there already; none if there is none, or its list is broken."""
    try:
        return list(read_truths(out))
    except DatasetError:
        return []


def _take_up(out: Path) -> None:
    """Of a cohort that is there already, possibly a smaller one: each line becomes the mark of its phantom again."""
    for truth in _whole(out):
        part = out / _PARTS / f"{truth.id}.json"
        if not part.exists():
            write_bytes(part, (_line(truth) + "\n").encode())


def _check_count(out: Path, count: int) -> None:
    """Raises `DatasetError` if more phantoms are there than asked for."""
    there = {truth.id for truth in _whole(out)} | {part.stem for part in (out / _PARTS).glob("*.json")}
    asked = {torso_id(index) for index in range(count)}
    if more := len(there - asked):
        raise DatasetError(
            f"{out}: holds {more} CT phantoms more than the {count} asked for; ask for {count + more} or more, or "
            "choose another folder"
        )


def write_torsos(
    out: Path,
    count: int,
    seed: int,
    jobs: int = 1,
    progress: Callable[[int, int], None] | None = None,
    shape: Shape = SHAPE,
) -> None:
    """Write `count` phantoms below `out`.

    Those that are already there, drawn from the same, are kept: an interrupted run is called again and ends with the
    same bytes, whatever `jobs` (processes; -1 for one a core) is. `progress` hears (done, count) after each. Raises
    `JobsError` for 0 jobs, and `DatasetError` if a larger cohort is there: none of its phantoms is removed.
    """
    check_jobs(jobs)
    _check_count(out, count)
    _take_up(out)
    work = joblib.Parallel(n_jobs=jobs, return_as="generator")(
        joblib.delayed(_write_torso)(out, seed, index, shape) for index in range(count)
    )
    lines = []
    for line in work:
        lines.append(line)
        if progress:
            progress(len(lines), count)
    write_bytes(out / TRUTHS, "".join(f"{line}\n" for line in lines).encode())
    shutil.rmtree(out / _PARTS)


def read_truths(folder: Path) -> Iterator[TorsoTruth]:
    """The truths of a cohort; raises `DatasetError` if there is none, or a line that is broken."""
    path = Path(folder) / TRUTHS
    try:
        lines = path.read_text().splitlines()
    except OSError:
        raise DatasetError(f"{path}: no such file; `voxmoe phantom OUT --ct` writes it") from None
    for number, line in enumerate(lines, 1):
        try:
            yield TorsoTruth.from_json(json.loads(line))
        except (ValueError, DatasetError) as error:
            raise DatasetError(f"{path}, line {number}: {error}") from None

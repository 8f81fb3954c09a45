"""The log of a run that goes on."""

import json
from pathlib import Path

from voxmoe.training.log import TrainingLog


def test_it_goes_on_after_the_step_of_the_checkpoint(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path / "training.jsonl")
    log.rewind({"eye": [0.5, 0.25]}, 0)
    for step in range(1, 6):
        log.write(stage="fit", step=step, loss=1 / step)
    with log.path.open("a") as stream:
        stream.write('{"stage": "fit", "st')  # killed while it wrote
    log.rewind({"eye": [0.5, 0.25]}, 3)
    log.write(stage="fit", step=4, loss=0.0)
    lines = [json.loads(line) for line in log.path.read_text().splitlines()]
    assert [(line["stage"], line["step"]) for line in lines] == [
        ("eye", 1), ("eye", 2), ("fit", 1), ("fit", 2), ("fit", 3), ("fit", 4),
    ]  # fmt: skip
    assert lines[-1]["loss"] == 0.0


def test_nothing_is_left_of_another_run(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path / "training.jsonl")
    log.write(stage="fit", step=1, loss=1.0)
    log.rewind({}, 0)
    assert log.path.read_text() == ""

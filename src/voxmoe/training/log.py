"""training.jsonl: one line a step, which a run that goes on from a checkpoint continues there."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from voxmoe.files import write_bytes


class TrainingLog:
    """Lines of JSON in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def _lines(self) -> list[dict[str, Any]]:
        """The lines that are whole."""
        lines = []
        for text in self.path.read_text().splitlines() if self.path.is_file() else []:
            try:
                lines.append(json.loads(text))
            except ValueError:  # of a process that was killed while it wrote
                break
        return lines

    def rewind(self, before: Mapping[str, Sequence[float]], step: int) -> None:
        """Start with the losses of the stages before fitting, by their names, and the lines of fitting up to a step."""
        fitted = [line for line in self._lines() if line["stage"] == "fit" and line["step"] <= step]
        earlier = [
            {"stage": stage, "step": number, "loss": loss}
            for stage, losses in before.items()
            for number, loss in enumerate(losses, 1)
        ]
        write_bytes(self.path, "".join(json.dumps(line) + "\n" for line in [*earlier, *fitted]).encode())

    def write(self, **line: Any) -> None:
        with self.path.open("a") as stream:
            stream.write(json.dumps(line) + "\n")

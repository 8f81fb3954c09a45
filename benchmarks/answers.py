"""How long the first answer of the shipped model about a study takes, and later ones. docs/pocket.md has the figures.

    OMP_NUM_THREADS=1 python benchmarks/answers.py STUDY [--heads-alone]

With an empty cache, and with the measurement that is weighed in or by the heads alone; the model is loaded before.
"""

import argparse
import os
import tempfile
import time
from itertools import pairwise
from pathlib import Path

QUESTIONS = ("How large is the {}?", "Where is the {}?", "What shape has the {}?", "Where is the {}?")


def answer(place: Path, heads_alone: bool) -> tuple[float, list[float]]:
    """Seconds of measuring, and of each answer after it."""
    from voxmoe.answering import Answerer
    from voxmoe.default import SHIPPED
    from voxmoe.evidence import measure_study
    from voxmoe.imaging.layouts import find_study
    from voxmoe.imaging.study import load_study

    answerer, files = Answerer.from_pretrained(SHIPPED), find_study(str(place))
    study, profile = load_study(files), answerer.profile(files.profile)
    started = time.perf_counter()
    drawn = None if heads_alone else measure_study(answerer, study, profile, space=files.space).drawn
    times = [time.perf_counter()]
    for question in QUESTIONS:
        answerer.ask(study, question.format(profile.labels[0].name), drawn=drawn)
        times.append(time.perf_counter())
    return times[0] - started, [after - before for before, after in pairwise(times)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("--heads-alone", action="store_true")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ["VOXMOE_HOME"] = home
        measured, took = answer(chosen.study, chosen.heads_alone)
    first = measured + took[0]
    print(f"first answer            {first:.2f} s, of which measuring {measured:.2f}")
    print(f"later, new questions    {took[1]:.3f} and {took[2]:.3f} s, {first / max(took[1:3]):.0f} times faster")
    print(f"later, asked before     {took[3]:.3f} s, {first / took[3]:.0f} times faster")


if __name__ == "__main__":
    main()

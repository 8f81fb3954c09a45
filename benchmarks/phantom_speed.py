"""What a phantom costs: seconds of one core for its anatomy and lesions, its four images, and writing them.

    python benchmarks/phantom_speed.py [PROFILE] [STUDIES]

docs/phantoms.md keeps the figures.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from voxmoe.imaging.layouts import profile_named
from voxmoe.imaging.phantoms import draw_subject
from voxmoe.imaging.study import Study
from voxmoe.imaging.volume import write_volume

T = TypeVar("T")


def timed(seconds: list[float], work: Callable[[], T]) -> T:
    start = time.process_time()
    result = work()
    seconds.append(time.process_time() - start)
    return result


def write(study: Study, folder: str) -> None:
    for number, volume in enumerate([*study.images.values(), study.mask]):
        if volume is not None:
            write_volume(volume, Path(folder) / f"{number}.nii.gz")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("profile", nargs="?", default="brats-2021")
    parser.add_argument("studies", nargs="?", type=int, default=8)
    arguments = parser.parse_args()
    profile = profile_named(arguments.profile)
    print(f"{'voxels':8}{'subject':>9}{'images':>9}{'files':>9}   seconds of one core, median of {arguments.studies}")
    for spacing in (1.0, 2.0, 3.0):
        draw_subject(profile, 0, 0, spacing).image()  # reads the template
        seconds: tuple[list[float], list[float], list[float]] = ([], [], [])
        for index in range(arguments.studies):
            subject = timed(seconds[0], partial(draw_subject, profile, 1, index, spacing))
            study = timed(seconds[1], subject.image).study
            with TemporaryDirectory() as folder:
                timed(seconds[2], partial(write, study, folder))
        print(f"{spacing:g} mm    " + "".join(f"{statistics.median(times):9.2f}" for times in seconds))


if __name__ == "__main__":
    main()

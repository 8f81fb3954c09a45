"""A process that keeps the images of a cohort for an encoder that learns: keep_views.py COHORT, in VOXMOE_HOME."""

import sys

from voxmoe.imaging.layouts import find_studies
from voxmoe.training.augment import AugmentSettings
from voxmoe.training.features import ImageCache

GRID, VIEWS = (16, 16, 16), AugmentSettings(variants=6)


if __name__ == "__main__":
    files = {study.id: study for study in find_studies(sys.argv[1])}
    ImageCache(GRID, "float32").of_all(files, lambda *_: None, VIEWS, 3)

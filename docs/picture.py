"""Draw the picture of the README: a study's four modalities through its largest lesion, with the mask's outline.

python docs/picture.py .demo/cohort/BraTS-GLI-00002-100 docs/picture.png
"""

import sys

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot as plt

from voxmoe.imaging.grid import bounding_box
from voxmoe.imaging.layouts import find_study
from voxmoe.imaging.study import load_study

COLOURS = ("#4c78a8", "#72b7b2", "#e45756", "#f2cf5b")


def main(folder: str, target: str) -> None:
    files = find_study(folder)
    study = load_study(files, with_mask=True)
    assert study.mask is not None
    assert files.profile is not None
    mask = study.mask.data
    level = int((mask > 0).sum(axis=(0, 1)).argmax())
    x, y, _ = bounding_box(study.foreground).slices
    figure, panels = plt.subplots(1, 4, figsize=(12, 3.9), facecolor="black")
    for panel, modality in zip(panels, study.modalities, strict=True):
        image = study.images[modality].data[x, y, level].T
        panel.imshow(image, cmap="gray", origin="lower", vmin=0, vmax=np.percentile(image[image > 0], 99.5))
        for label, colour in zip(files.profile.labels, COLOURS, strict=False):
            outline = (mask[x, y, level] == label.value).T
            if outline.any():
                panel.contour(outline, levels=[0.5], colors=colour, linewidths=0.8)
        panel.set_title(str(modality), color="white", fontsize=11)
        panel.axis("off")
    keys = [
        plt.Line2D([], [], color=colour, label=label.name)
        for label, colour in zip(files.profile.labels, COLOURS, strict=False)
    ]
    figure.legend(handles=keys, loc="lower center", ncols=4, fontsize=9, labelcolor="white", frameon=False)
    figure.tight_layout(rect=(0, 0.07, 1, 0.97), pad=0.3)
    figure.savefig(target, dpi=100, facecolor="black")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""What the tokens of a CT reader tell apart before any text: for each label of its masks, how often a token that shows
it is surer of its name than one that does not, and a volume by its surest token. docs/ct-pocket.md has the figures.

    python benchmarks/tissues_seen.py RUN DATASET

RUN is a run of stage `tissues` or `slices`, DATASET one of CT phantoms with masks; its test split is looked at, 16
slices of each volume. What a label covers in part neither shows it nor not.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import yaml
from sklearn.metrics import roc_auc_score
from torch import Tensor

from voxmoe.model.naming import shown as shown_by
from voxmoe.model.reader import ReaderConfig, VolumeReader
from voxmoe.training.pictures import PictureCache
from voxmoe.training.reader_recipe import ReaderRecipe
from voxmoe.training.reader_run import scans_of
from voxmoe.vqa.ct.dataset import open_ct_dataset

DEPTH = 16


def auc(sure: Tensor, shown: Tensor) -> float:
    """The area under the curve of `sure` where labels are certainly there or certainly not; nan if all are alike."""
    told = (shown == 0) | (shown == 1)
    truth = shown[told].numpy() == 1
    return float(roc_auc_score(truth, sure[told].numpy())) if 0 < truth.sum() < len(truth) else float("nan")


@torch.no_grad()
def main() -> None:
    run, data = Path(sys.argv[1]), Path(sys.argv[2])
    recipe = ReaderRecipe.model_validate(yaml.safe_load((run / "recipe.yaml").read_text()))
    pictures = recipe.model.pictures.model_copy(update={"depth": DEPTH})
    settings = recipe.model.model_copy(update={"pictures": pictures})
    reader = VolumeReader(ReaderConfig.of(settings)).eval()
    reader.start_from(run)
    dataset = open_ct_dataset(data)
    scans = scans_of(dataset, dataset.exchanges("test"), with_masks=True)
    kept = PictureCache(pictures, recipe.dense, pictures.size // settings.base.patch).of_all(scans, lambda *_: None)
    found = []
    for image in scans:
        tokens = reader.look(kept.pixels(image)[None]).tokens[0]
        found.append((reader.naming(tokens).flatten(0, 1), shown_by(kept.shares(image), tokens.shape[1]).flatten(0, 1)))
    sure, shown = (torch.stack(parts) for parts in zip(*found, strict=True))  # volume, token, label
    print("label", "tokens", "volumes", sep="\t")
    rows = []
    for place, label in enumerate(settings.labels):
        of_tokens = auc(sure[..., place].flatten(), shown[..., place].flatten())
        of_volumes = auc(sure[..., place].amax(dim=1), shown[..., place].amax(dim=1))
        rows.append((of_tokens, of_volumes))
        print(label, f"{of_tokens:.3f}", f"{of_volumes:.3f}", sep="\t")
    print("mean", *(f"{np.nanmean(part):.3f}" for part in zip(*rows, strict=True)), f"({len(scans)} volumes)", sep="\t")


if __name__ == "__main__":
    main()

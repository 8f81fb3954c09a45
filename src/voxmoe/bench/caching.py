"""One training sample with the study's features from the cache, against one that reads and encodes the study anew.

The encoder has M3D-CLIP's size (ViT-B, 2,048 patches a modality), the language model that of the pocket model's, the
first 12 layers of SmolLM2-135M, and then of all 30; both are random, which changes no time. A sample is one question:
the study's features, then forward and backward of all that learns.
"""

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from voxmoe.bench.cases import real_files
from voxmoe.bench.memory import SMOLLM2, Work
from voxmoe.bench.step import PARTS, make_batch, make_model
from voxmoe.bench.timing import summary, time_in_turn
from voxmoe.errors import BenchError
from voxmoe.imaging.grid import to_grid
from voxmoe.imaging.layouts import find_studies, find_study, profile_named
from voxmoe.imaging.phantoms import write_cohort
from voxmoe.imaging.study import StudyFiles, load_study
from voxmoe.model.encoder import make_encoder
from voxmoe.model.mpllm import MpLLM
from voxmoe.training.features import FeatureCache, KeptFeatures, stack
from voxmoe.training.tensors import write_tensors

POCKET_LANGUAGE = SMOLLM2 | {"num_hidden_layers": 12}
ROUNDING = 2e-3
"""Features are kept in 16 bits."""


@torch.no_grad()
def encoded_anew(model: MpLLM, files: StudyFiles) -> dict[str, Tensor]:
    """Read, crop, resample and encode a study."""
    study = to_grid(load_study(files), model.vision.settings.grid)
    images, present = torch.from_numpy(study.images)[None], torch.from_numpy(study.present)[None]
    return model.encode_images(images, present).inputs()


def _kept(model: MpLLM, studies: list[StudyFiles], folder: Path) -> KeptFeatures:
    """The features of the studies, in files of the cache's form."""
    cache = FeatureCache(model)
    paths = {study.id: folder / f"{study.id}.safetensors" for study in studies}
    for study in studies:
        write_tensors(paths[study.id], cache.see(to_grid(load_study(study), model.vision.settings.grid)))
    return KeptFeatures({name: [path] for name, path in paths.items()})


def _time(studies: list[StudyFiles], data: str, runs: int, folder: Path, language: dict[str, Any]) -> dict[str, Any]:
    """With one size of language model."""
    torch.manual_seed(0)
    work = Work("mpllm", 1, False, language, str(_made_for(folder, language)), str(folder / "result.json"))
    model, batch = make_model(work), make_batch(work)
    model.vision = make_encoder(PARTS["mpllm"][1]).requires_grad_(False).eval()
    features = _kept(model, studies, folder)

    def learn(seen: dict[str, Tensor]) -> None:
        torch.autograd.backward(model(**{**batch, **seen}).loss)
        model.zero_grad()

    timings = []
    for study in studies:
        cached, anew = stack([features[study.id]]), encoded_anew(model, study)
        if not torch.allclose(cached["tokens"], anew["tokens"], atol=ROUNDING, rtol=ROUNDING):
            raise BenchError(f"{study.id}: the cached features are not those that the encoder gives")
        timings.append(
            time_in_turn(
                study.id,
                partial(lambda name: learn(stack([features[name]])), study.id),
                partial(lambda files: learn(encoded_anew(model, files)), study),
                runs,
            )
        )
    return summary("cache", f"{data}, {language['num_hidden_layers']} layers of a language model", runs, timings)


def _made_for(folder: Path, language: dict[str, Any]) -> Path:
    """Where a random language model of this size is kept."""
    return folder / f"language-{language['num_hidden_layers']}"


def bench_cache(
    studies: int = 2, runs: int = 3, languages: Sequence[dict[str, Any]] = (POCKET_LANGUAGE, SMOLLM2)
) -> dict[str, Any]:
    """Time both ways on a few studies; `ratio` is training samples a second with the cache over those without, by the
    first of the sizes of language models; `others` are the results by the rest.

    Raises `BenchError` where the cached features are not those that the encoder gives.
    """
    with tempfile.TemporaryDirectory(prefix="voxmoe-") as name:
        folder = Path(name)
        if masks := real_files("brats/*/*[-_]seg.nii.gz"):
            files, data = [find_study(mask.parent) for mask in masks[:studies]], "real studies"
        else:
            write_cohort(folder / "cohort", studies, profile_named("gli-2024"), seed=0, jobs=1)
            files, data = find_studies(folder / "cohort"), "phantoms"
        first, *others = (_time(files, data, runs, folder, language) for language in languages)
        return first | {"others": others}

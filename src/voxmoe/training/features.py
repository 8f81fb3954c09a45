"""What the frozen encoder sees of each study, computed once and kept on disk.

An entry is found by the hash of all that decides it: the images' bytes, the model's grid, the encoder's settings and
weights, and the change that makes a variant.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import joblib
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from voxmoe.imaging.grid import GriddedStudy, GridShape, to_grid
from voxmoe.imaging.places import digests
from voxmoe.imaging.study import StudyFiles, load_study
from voxmoe.imaging.transforms import UNCHANGED, AugmentSettings, Transform, apply_transform, draw_transform
from voxmoe.model.encoder import Encoder
from voxmoe.model.features import VisionFeatures
from voxmoe.training.store import FeatureStore

PREPROCESSING = 1
"""Raised whenever the same files would come out of `to_grid` or `apply_transform` otherwise."""

PLAIN = AugmentSettings()

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class StudyFeatures:
    """Pooled tokens and CLS of every modality of one study, and low-level tokens from an encoder with two streams."""

    tokens: Float[Tensor, "M T K"]
    cls: Float[Tensor, "M K"]
    present: Bool[Tensor, " M"]
    low: Float[Tensor, "M U L"] | None = None


def stack(features: Sequence[StudyFeatures]) -> VisionFeatures:
    low = [study.low for study in features if study.low is not None]
    return VisionFeatures(
        torch.stack([study.tokens for study in features]),
        torch.stack([study.cls for study in features]),
        torch.stack([study.present for study in features]),
        torch.stack(low) if low else None,
    )


@dataclass(frozen=True)
class Features(Mapping[str, StudyFeatures]):
    """The features of studies by name, read from the store when they are asked for.

    With variants, `variant(name, n)` is the n-th; the mapping itself holds the unchanged studies.
    """

    store: FeatureStore
    keys_of: Mapping[str, tuple[str, ...]]

    def variant(self, name: str, number: int) -> StudyFeatures:
        keys = self.keys_of[name]
        return StudyFeatures(**self.store.read(keys[number % len(keys)]))

    def __getitem__(self, name: str) -> StudyFeatures:
        return self.variant(name, 0)

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys_of)

    def __len__(self) -> int:
        return len(self.keys_of)


def encoder_digest(encoder: Encoder) -> str:
    """A hash over the encoder's settings and all its weights."""
    digest = hashlib.sha256(encoder.settings.model_dump_json(exclude={"weights", "fingerprint"}).encode())
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _key(images: Any, grid: GridShape, encoder: str, transform: Transform) -> str:
    decided = {
        "preprocessing": PREPROCESSING,
        "images": images,
        "grid": list(grid),
        "encoder": encoder,
        "transform": transform.to_json(),
    }
    return hashlib.sha256(json.dumps(decided, sort_keys=True).encode()).hexdigest()


def _encoded(encoder: Encoder, study: GriddedStudy) -> dict[str, Tensor]:
    """The features of one study, without the batch axis."""
    device = next(encoder.parameters()).device
    present = torch.from_numpy(study.present)
    with torch.no_grad():
        seen = encoder(torch.from_numpy(study.images)[present][:, None].to(device))
    spread = VisionFeatures.spread(seen, present[None].to(device))
    return {name: tensor[0].cpu() for name, tensor in spread.inputs().items()}


def study_features(
    encoder: Encoder,
    grid: GridShape,
    files: Mapping[str, StudyFiles],
    progress: Progress = lambda done, total: None,
    *,
    augment: AugmentSettings = PLAIN,
    seed: int = 0,
    store: FeatureStore | None = None,
    jobs: int = -1,
) -> Features:
    """The features of every study and its variants; what the store does not hold is read, encoded and kept there."""
    store = store or FeatureStore()
    weights = encoder_digest(encoder)
    numbers = range(augment.variants + 1)
    transforms = {name: [draw_transform(augment, seed, name, number) for number in numbers] for name in files}
    read_by_threads = joblib.Parallel(n_jobs=jobs, return_as="generator", prefer="threads", pre_dispatch="2*n_jobs")
    hashed = read_by_threads(joblib.delayed(_hashes)(study) for study in files.values())
    keys = {
        name: tuple(_key(images, grid, weights, transform) for transform in transforms[name])
        for name, images in zip(files, hashed, strict=True)
    }
    missing = [name for name in files if not all(key in store for key in keys[name])]
    progress(len(files) - len(missing), len(files))
    gridded = read_by_threads(joblib.delayed(_gridded)(files[name], grid) for name in missing)
    for done, (name, study) in enumerate(zip(missing, gridded, strict=True), 1):
        for key, transform in zip(keys[name], transforms[name], strict=True):
            store.write(key, _encoded(encoder, apply_transform(study, transform)))
        progress(len(files) - len(missing) + done, len(files))
    return Features(store, keys)


def _hashes(files: StudyFiles) -> dict[str, str]:
    digest_of = digests(files.images.values())
    return {str(modality): digest_of[place] for modality, place in files.images.items()}


def _gridded(files: StudyFiles, grid: GridShape) -> GriddedStudy:
    return to_grid(load_study(files), grid)


def features_of(
    encoder: Encoder, digest: str, study: GriddedStudy, store: FeatureStore | None = None
) -> VisionFeatures:
    """The features of one study in memory, as a batch of one; kept in the store by the voxels on the model's grid.

    `digest` is the encoder's, from `encoder_digest`.
    """
    store = store or FeatureStore()
    depth, height, width = study.images.shape[1:]
    voxels = hashlib.sha256(study.images.tobytes() + study.present.tobytes()).hexdigest()
    key = _key(voxels, (depth, height, width), digest, UNCHANGED)
    if key not in store:
        store.write(key, _encoded(encoder, study))
    return stack([StudyFeatures(**store.read(key))])

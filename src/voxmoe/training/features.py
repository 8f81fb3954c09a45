"""What the frozen encoder sees of each study, or what is shown to one that learns: computed once, kept on disk, read
batch by batch.

The key of an entry is what decides it: the voxels of each modality, the view, the grid and the code that finds the
foreground and brings voxels to the grid; of what is seen also the other settings of the encoder, its weights and its
code, with a chart those of the decoder, too; of what masks show these, and what their values mean.

Shapes: B batch, M modality, T vision token, K vision width, U and L number and width of low-level tokens, C cells of a
token in the chart, P no part and all parts, R part, D H W voxels of the model's grid.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from safetensors import SafetensorError
from torch import Tensor, nn

from voxmoe.errors import CacheError
from voxmoe.imaging.grid import GriddedStudy, GridShape, part_fractions, to_grid
from voxmoe.imaging.parts import label_parts
from voxmoe.imaging.study import Study, StudyFiles, load_study
from voxmoe.model.chart import chart_of
from voxmoe.model.coarse_map import filled_cells
from voxmoe.model.features import VisionFeatures
from voxmoe.model.mpllm import MpLLM
from voxmoe.training.augment import AugmentSettings, View, apply_view, draw_views
from voxmoe.training.cache import FEATURES, GRIDS, code_digest, key_of, place
from voxmoe.training.digests import Digests, FileStates, files_of, study_digests
from voxmoe.training.processes import Processes
from voxmoe.training.studies import ahead, cell_mm
from voxmoe.training.tensors import is_intact, read_tensors, write_tensors

Features = dict[str, Tensor]
"""Of one study: tokens [M, T, K], cls [M, K], present [M], low [M, U, L] from an encoder with two streams, and chart
[T, C] for a model that reads one; with masks also filled [T, R], how much of a token's cell each part fills. Or what an
encoder is shown: images [M, D, H, W] and present."""
Precision = Literal["float32", "float16", "bfloat16"]
PRECISION: Precision = "float16"
"""Half of the disk; what is rounded comes out of a norm, so that 11 bits keep it to 0.05 %."""
Report = Callable[[str, int, int], None]
_GRIDDING = (Study.__module__, to_grid.__module__, apply_view.__module__, cell_mm.__module__)
"""The code that finds the foreground and brings voxels to the grid."""


def stack(features: Sequence[Features]) -> dict[str, Tensor]:
    """The features of a batch of studies, as arguments of the model."""
    return {name: torch.stack([_widened(study[name]) for study in features]) for name in features[0]}


def _widened(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


class KeptFeatures(Mapping[str, Features]):
    """What is kept of studies by name, each in one view or more, read from disk whenever it is asked for."""

    def __init__(self, paths: Mapping[str, Sequence[Path]], flips: Mapping[str, Sequence[bool]] | None = None) -> None:
        """`flips` says of each view whether it is mirrored left to right; None: of no study any is."""
        self.paths = paths
        self.flips = flips or {}

    def is_flipped(self, study: str, number: int) -> bool:
        """Whether a view of a study is its mirror image."""
        return study in self.flips and self.flips[study][number]

    def view(self, study: str, number: int) -> Features:
        """Raises `CacheError` if it was removed from the cache meanwhile, or damaged."""
        path = self.paths[study][number]
        try:
            return read_tensors(path)
        except FileNotFoundError:
            what = "was removed from the cache while it was in use (voxmoe cache prune?)"
        except SafetensorError as error:
            what = f"was damaged in the cache while it was in use ({error})"
        raise CacheError(
            f"{path}: what is seen of {study} {what}; the same command computes it again, and goes on from the last "
            "checkpoint"
        )

    def __getitem__(self, study: str) -> Features:
        """The study as it is."""
        return self.view(study, 0)

    def __iter__(self) -> Iterator[str]:
        return iter(self.paths)

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True)
class _Work:
    """Where the views of a study are kept, and those of them that have to be encoded."""

    paths: list[Path]
    missing: list[tuple[Path, GriddedStudy]]


def weights_digest(module: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def own_code(network: nn.Module) -> set[str]:
    """The modules of this package that a network's parts are written in."""
    parts = {type(part).__module__ for part in network.modules()}
    return {name for name in parts if name.startswith("voxmoe.")}


def _code(eye: nn.Module) -> str:
    """A hash of what of our code decides what is seen."""
    return code_digest([*_GRIDDING, chart_of.__module__, VisionFeatures.__module__, *own_code(eye)])


def _eye_of(model: MpLLM) -> nn.Module:
    """What of a model decides its features: the encoder, and with a chart the decoder, too."""
    if model.settings.chart is None:
        eye: nn.Module = model.vision
        return eye
    return nn.ModuleList([model.vision, model.grounding])


def _meaning(files: StudyFiles) -> str:
    """A hash of the part that each value of a study's mask shows, and of the code that counts it."""
    if files.profile is None:
        raise CacheError(f"{files.id}: what the values of its mask mean is not known, so its parts are not")
    return key_of(values=label_parts(files.profile).tolist(), code=code_digest([filled_cells.__module__]))


def _told(view: View | None) -> dict[str, Any] | None:
    return view.to_json() if view is not None else None


class ViewCache(ABC):
    """What is kept of studies on a model's grid, view by view."""

    stage: str
    """How the work is called while it goes on."""

    def __init__(self, grid: GridShape, precision: Precision, with_parts: bool = False) -> None:
        """`with_parts` also keeps what the studies' masks show."""
        self.grid = grid
        self.dtype: torch.dtype = getattr(torch, precision)
        self.with_parts = with_parts

    @abstractmethod
    def path(self, digests: Digests, view: View | None = None) -> Path:
        """The file of a study of these images (and of what its mask shows) in a view."""

    @abstractmethod
    def see(self, study: GriddedStudy) -> Features:
        """What is kept of a view."""

    def rounded(self, tensors: Features) -> Features:
        """In the precision in which they are kept."""
        return {name: t.to(self.dtype) if t.is_floating_point() else t for name, t in tensors.items()}

    def of_all(
        self,
        studies: Mapping[str, StudyFiles],
        report: Report,
        augment: AugmentSettings | None = None,
        seed: int = 0,
        processes: Processes | None = None,
    ) -> KeptFeatures:
        """What is kept of all studies; what is not there yet, or damaged, is computed.

        Of several processes each computes its share. Where they do not see each other's files, each computes what it
        misses.
        """

        def work(present: Callable[[Path], bool]) -> Callable[[StudyFiles], _Work]:
            return lambda files: self._work(files, draw_views(augment, seed, files.id), present)

        rank, count = (processes.rank, processes.count) if processes else (0, 1)
        names = list(studies)
        own = names[rank::count]
        paths = self._compute(studies, own, work(is_intact), report)
        if processes is not None and count > 1:
            processes.wait()
            others = [name for name in names if name not in paths]
            paths |= self._compute(studies, others, work(Path.is_file), report)
        views = {name: draw_views(augment, seed, studies[name].id) for name in names}
        flips = {name: [view is not None and view.flip for view in own] for name, own in views.items()}
        return KeptFeatures({name: paths[name] for name in names}, flips)

    def _compute(
        self,
        studies: Mapping[str, StudyFiles],
        names: Sequence[str],
        work: Callable[[StudyFiles], _Work],
        report: Report,
    ) -> dict[str, list[Path]]:
        paths = {}
        for name, found in zip(names, ahead(work, (studies[name] for name in names)), strict=True):
            for path, gridded in found.missing:
                write_tensors(path, self.see(gridded), {"study": name})
            paths[name] = found.paths
            report(self.stage, len(paths), len(names))
        return paths

    def _work(self, files: StudyFiles, views: list[View | None], present: Callable[[Path], bool]) -> _Work:
        states = FileStates(files_of(files, self.with_parts))
        digests = states.remembered()
        study = None
        if digests is None:
            study = load_study(files, self.with_parts)
            digests = study_digests(study, self.with_parts)
            states.remember(digests)
        if self.with_parts:
            digests = {**digests, "parts": _meaning(files)}
        paths = [self.path(digests, view) for view in views]
        missing = [(path, view) for path, view in zip(paths, views, strict=True) if not present(path)]
        if not missing:
            return _Work(paths, [])
        study = study or load_study(files, self.with_parts)
        gridded = to_grid(study, self.grid)
        if study.mask is not None and files.profile is not None:
            gridded = replace(gridded, parts=part_fractions(study.mask.data, files.profile, gridded.box, self.grid))
        cell = cell_mm(study, gridded, self.grid)
        return _Work(paths, [(path, apply_view(gridded, cell, view)) for path, view in missing])


class ImageCache(ViewCache):
    """The images themselves, on the grid of an encoder that learns from them."""

    stage = "reading studies"

    def __init__(self, grid: GridShape, precision: Precision = PRECISION) -> None:
        super().__init__(grid, precision)
        self.decided = {"grid": grid, "precision": precision, "code": code_digest(_GRIDDING)}

    def path(self, digests: Digests, view: View | None = None) -> Path:
        return place(GRIDS, key_of(images=digests, view=_told(view), **self.decided), ".safetensors")

    def see(self, study: GriddedStudy) -> Features:
        return self.rounded({"images": torch.from_numpy(study.images), "present": torch.from_numpy(study.present)})


class FeatureCache(ViewCache):
    """The features that one model's encoder computes. The encoder must not change any more."""

    stage = "encoding studies"

    def __init__(self, model: MpLLM, precision: Precision = PRECISION, with_parts: bool = False) -> None:
        vision = model.settings.vision
        assert vision is not None
        super().__init__(vision.grid, precision, with_parts)
        self.model = model
        # Which file the weights came from does not matter, they are in the key themselves.
        settings = vision.model_dump(mode="json", exclude={"weights", "fingerprint"})
        eye = _eye_of(model)
        weights, code = weights_digest(eye), _code(eye)
        self.encoder = key_of(settings=settings, weights=weights, code=code, precision=precision)

    def path(self, digests: Digests, view: View | None = None) -> Path:
        return place(FEATURES, key_of(encoder=self.encoder, images=digests, view=_told(view)), ".safetensors")

    @torch.no_grad()
    def see(self, study: GriddedStudy) -> Features:
        """What the encoder sees, rounded as it is kept."""
        features = self._of_one(self.model.encode_images(*self._images(study)))
        if study.parts is None:
            return features
        filled = filled_cells(torch.from_numpy(study.parts), self.model.vision.settings.cells)
        return features | self.rounded({"filled": filled})

    @torch.no_grad()
    def see_and_find(self, study: Study) -> tuple[Features, GriddedStudy, Float[Tensor, "P D H W"]]:
        """The features of a study in memory, which are kept, and from the same pass over its images on the model's grid
        the probability of no part and of each, of a model with a decoder."""
        gridded = to_grid(study, self.grid)
        seen, parts = self.model.find(*self._images(gridded))
        features = self._of_one(seen)
        path = self.path(study_digests(study))
        if not is_intact(path):
            write_tensors(path, features, {"study": study.id})
        return features, gridded, parts[0].cpu()

    def _images(self, study: GriddedStudy) -> tuple[Float[Tensor, "1 M D H W"], Bool[Tensor, "1 M"]]:
        images, present = torch.from_numpy(study.images)[None], torch.from_numpy(study.present)[None]
        return images.to(self.model.device), present.to(self.model.device)

    def _of_one(self, seen: VisionFeatures) -> Features:
        """Of the only study of a batch."""
        return self.rounded({name: tensor[0].cpu() for name, tensor in seen.inputs().items()})

    def of(self, study: Study) -> Features:
        """The features of a study in memory."""
        path = self.path(study_digests(study))
        if is_intact(path):
            return read_tensors(path)
        features = self.see(to_grid(study, self.grid))
        write_tensors(path, features, {"study": study.id})
        return features

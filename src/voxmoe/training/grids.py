"""Studies on the encoder's grid with what each patch holds, kept on disk for the epochs of pretraining the eye."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import overload

import torch

from voxmoe.imaging.grid import label_fractions, to_grid
from voxmoe.imaging.study import Study, StudyFiles, load_study
from voxmoe.imaging.volume import Volume
from voxmoe.model.encoder import EncoderSettings
from voxmoe.training.cache import GRIDS, code_digest, key_of, place
from voxmoe.training.digests import FileStates, files_of, study_digests
from voxmoe.training.eye import Sample
from voxmoe.training.studies import ahead
from voxmoe.training.tensors import is_intact, read_tensors, write_tensors

Report = Callable[[str, int, int], None]


class KeptSamples(Sequence[Sample]):
    """Samples read from disk whenever they are asked for."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> "KeptSamples": ...
    def __getitem__(self, index: int | slice) -> "Sample | KeptSamples":
        if isinstance(index, slice):
            return KeptSamples(self.paths[index])
        kept = read_tensors(self.paths[index])
        return Sample(kept["images"].float(), kept["present"], kept["fractions"].float())


def sample_paths(
    studies: Mapping[str, StudyFiles],
    vision: EncoderSettings,
    label_values: Mapping[str, Sequence[int]],
    report: Report,
    whole: bool = False,
) -> list[Path]:
    """Where the sample of every study is kept, named by all that decides it. A study whose files are not known yet is
    read, and its sample is then there; with `whole` the others are, too."""
    decided = {
        "grid": vision.grid,
        "patches": vision.patches,
        "labels": {label: list(values) for label, values in label_values.items()},
        "code": code_digest([to_grid.__module__, Study.__module__, Volume.__module__]),
    }

    def work(files: StudyFiles) -> Path:
        states = FileStates(files_of(files, with_mask=True))
        digests = states.remembered()
        study = None
        if digests is None:
            study = load_study(files, with_mask=True)
            digests = study_digests(study, with_mask=True)
            states.remember(digests)
        path = place(GRIDS, key_of(images=digests, **decided), ".safetensors")
        if (whole or study is not None) and not is_intact(path):
            study = study or load_study(files, with_mask=True)
            gridded = to_grid(study, vision.grid)
            assert study.mask is not None
            fractions = label_fractions(study.mask.data, label_values, gridded.box, vision.patches)
            kept = {
                "images": torch.from_numpy(gridded.images).half(),
                "present": torch.from_numpy(gridded.present),
                "fractions": torch.from_numpy(fractions).half(),
            }
            write_tensors(path, kept, {"study": files.id})
        return path

    paths = []
    for path in ahead(work, studies.values()):
        paths.append(path)
        report("reading studies", len(paths), len(studies))
    return paths


def samples_of(
    studies: Mapping[str, StudyFiles],
    vision: EncoderSettings,
    label_values: Mapping[str, Sequence[int]],
    report: Report,
) -> KeptSamples:
    """A sample of every study; what is not there yet, or damaged, is read from the study's files."""
    return KeptSamples(sample_paths(studies, vision, label_values, report, whole=True))

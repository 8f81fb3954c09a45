"""The recipe of a volume reader: which stage of its training, on which exchanges, in which shares."""

from collections.abc import Mapping
from typing import Literal

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from voxmoe.model.image_text import PretrainedBase
from voxmoe.model.reader import ReaderSettings, Stage
from voxmoe.training.recipe import FitSettings, RunRecipe
from voxmoe.vocabulary import CTTask


class ReaderFitSettings(FitSettings):
    """Training of a volume reader."""

    projector_learning_rate: PositiveFloat | None = None
    """Of the projector, whose inputs can be thousands wide, so that its outputs change by so much more a step; None: as
    of all else."""


class ReaderRecipe(RunRecipe):
    """One stage of a volume reader's training (TGH-MoE); the next one names its folder as `start`."""

    system: Literal["tgh-moe"]
    """Tells this recipe from those of mpLLM."""
    model: ReaderSettings
    fit: ReaderFitSettings = ReaderFitSettings()
    stage: Stage
    """Which parts learn (`VolumeReader.learn`)."""
    shares: Mapping[CTTask, NonNegativeFloat] | None = None
    """How often each task is asked, relative to the others, whatever their numbers; None: as in the data."""
    together: PositiveInt = 4
    """Exchanges about one volume that follow one another and share its features in a batch."""
    dense: tuple[PositiveInt, ...] = ()
    """Values of the labels in the dataset's masks that the tower is also taught to tell, patch by patch."""

    @model_validator(mode="after")
    def _fitting(self) -> "ReaderRecipe":
        if self.dense and len(self.dense) != len(self.model.labels):
            raise ValueError(f"dense names {len(self.dense)} labels; model.labels has to have as many names")
        if self.dense and self.model.blind:
            raise ValueError("dense teaches the tower, which a blind reader does not use; leave it out")
        if self.dense and isinstance(self.model.base, PretrainedBase):
            raise ValueError(
                "dense teaches the tower of a fresh base, whose patches it knows; leave it out beside base.kind "
                "pretrained"
            )
        if self.stage == "tissues" and not self.dense:
            raise ValueError("stage tissues learns from masks alone: name their labels in dense")
        if self.stage in ("experts", "together") and self.model.blind:
            raise ValueError(
                f"stage {self.stage} teaches task experts, and a blind reader has no experts to teach: set "
                "stage=shared, model.experts=null"
            )
        if self.stage in ("experts", "together") and self.model.experts is None:
            raise ValueError(f"stage {self.stage} teaches task experts: set model.experts, or choose another stage")
        if self.shares is not None and not any(self.shares.values()):
            raise ValueError(f"shares are all 0; name tasks out of {', '.join(CTTask)} with a share above 0")
        return self

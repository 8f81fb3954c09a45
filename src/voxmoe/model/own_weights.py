"""A model saved without the weights of the language model in it, which come from their source at load.

What both systems share: parts draw their own weights, loading is strict, and one model can start from another's.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

from safetensors.torch import save
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel, ProcessorMixin
from transformers.utils import SAFE_WEIGHTS_NAME, cached_file

from voxmoe.errors import WeightsError
from voxmoe.files import write_bytes
from voxmoe.model.weights import check_fit, read_weights
from voxmoe.vocabulary import MPLLM, TGH_MOE

C = TypeVar("C", bound=PreTrainedConfig)
_READS = {MPLLM: "brain MRI", TGH_MOE: "CT"}
_OF_PROCESSOR = ("processor_config.json", "tokenizer.json", "tokenizer_config.json")
"""What a processor is saved in. Without the second it is not loaded; without one of the others it is, as another."""


def config_at(place: str | os.PathLike[str], kind: type[C]) -> C:
    """The configuration of the model in a folder or on the hub; raises `WeightsError` if there is none, or it is of
    another system."""
    try:
        found = kind.get_config_dict(place)[0].get("model_type")
    except OSError:
        raise WeightsError(f"{place}: no model here, and none of that name on the hub") from None
    if found != kind.model_type and found in _READS:
        raise WeightsError(
            f"{place}: is a model that reads {_READS[found]} ({found}), and one that reads {_READS[kind.model_type]} "
            f"({kind.model_type}) is needed here"
        )
    config: C = kind.from_pretrained(place)
    return config


class OwnWeights(PreTrainedModel):
    """A model that knows which of its weights are its own."""

    def init_weights(self) -> None:
        """Every part draws its own weights when it is made. transformers would go through the parts, too, and draw anew
        what they did not have when they were loaded: adapters and experts, which start at zero."""

    def own_state(self, state: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """All weights but those that the language model brings along; out of `state` where that is given."""
        raise NotImplementedError

    @classmethod
    def unstarted(cls, config: PreTrainedConfig) -> Self:
        """A model whose own weights are about to be loaded."""
        return cls(config)

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:
        """Write config and own weights; `state_dict` gives them where they are not the model's own memory (FSDP).

        Names stay those of the modules: transformers would write parts of some families as their own files have them.
        """
        folder = Path(save_directory)
        self.config.architectures = [type(self).__name__]
        self.config.save_pretrained(folder)
        own = {name: tensor.contiguous() for name, tensor in self.own_state(kwargs.get("state_dict")).items()}
        write_bytes(folder / SAFE_WEIGHTS_NAME, save(own, {"format": "pt"}))

    @classmethod
    def from_pretrained(cls, place: str | os.PathLike[str], *args: Any, **kwargs: Any) -> Self:
        """The saved model in evaluation mode, from a folder or the hub; what it does not hold comes from its recorded
        source.

        Loading is strict: a missing or unexpected key is a `WeightsError` that lists it, a model of another system one
        that names it.
        """
        model = cls.unstarted(kwargs.get("config") or config_at(place, cls.config_class))
        model.load_own_state(read_weights(Path(weights_file(place))))
        model.eval()
        return model

    def load_own_state(self, state: Mapping[str, Tensor]) -> None:
        check_fit("the weights do not fit the model", self.own_state(), state)
        self.load_state_dict(dict(state), strict=False)

    def of_start(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """What of another model's weights this one begins with: all, but for what it is known to need no more."""
        return state

    def start_from(self, place: str | os.PathLike[str]) -> list[str]:
        """Take the weights of another trained model, and return the names of those that it does not have.

        Raises `WeightsError` if it has a weight that this model has not, or one of another shape.
        """
        state = self.of_start(read_weights(Path(weights_file(place))))
        own = self.own_state()
        check_fit(f"{place}: not a start for this model", {name: own[name] for name in own if name in state}, state)
        self.load_state_dict(state, strict=False)
        return sorted(own.keys() - state.keys())


class WholeProcessor(ProcessorMixin):
    """A processor that is loaded whole or not at all."""

    @classmethod
    def from_pretrained(cls, place: str | os.PathLike[str], *args: Any, **kwargs: Any) -> Self:
        """The saved processor, from a folder or the hub; raises `WeightsError` for a missing or damaged file."""
        folder = Path(place)
        if folder.is_dir() and (missing := [name for name in _OF_PROCESSOR if not (folder / name).is_file()]):
            raise WeightsError(f"{folder}: holds no {', '.join(missing)}; copy all of the model's files")
        try:
            processor: Self = super().from_pretrained(place, *args, **kwargs)
        except (OSError, ValueError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise WeightsError(
                f"{place}: one of {', '.join(_OF_PROCESSOR)} cannot be read ({reason}); copy the model's files anew"
            ) from None
        return processor


def weights_file(place: str | os.PathLike[str]) -> str:
    """The file of a model's own weights, from a folder or the hub; raises `WeightsError` if there is none."""
    folder = Path(place)
    if folder.is_dir() and not (folder / SAFE_WEIGHTS_NAME).is_file():
        raise WeightsError(f"{folder}: holds no {SAFE_WEIGHTS_NAME}; only safetensors are loaded")
    try:
        return str(cached_file(str(place), SAFE_WEIGHTS_NAME))
    except OSError as error:
        raise WeightsError(f"{place}: no model here, and none of that name on the hub ({error})") from None

"""A trained model of either system -> what answers by it, as its own configuration says."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from voxmoe.errors import WeightsError
from voxmoe.vocabulary import MPLLM, TGH_MOE

if TYPE_CHECKING:
    from voxmoe.answering import Answerer
    from voxmoe.scan_answering import ScanAnswerer


def system_of(folder: Path) -> str:
    """The `model_type` of a model's folder; raises `WeightsError` if it is no folder of a model of ours."""
    if not folder.is_dir():
        raise WeightsError(f"{folder}: no such model folder; train one with voxmoe train RECIPE")
    try:
        config = json.loads((folder / "config.json").read_text())
    except FileNotFoundError:
        raise WeightsError(
            f"{folder}: holds no config.json, so no trained model; train one with voxmoe train RECIPE"
        ) from None
    except ValueError:
        raise WeightsError(f"{folder / 'config.json'}: is no JSON; the model is damaged, copy it again") from None
    system = config.get("model_type") if isinstance(config, dict) else None
    if system not in (MPLLM, TGH_MOE):
        raise WeightsError(
            f"{folder}: its model_type is {system!r}; those that answer are {MPLLM} (brain MRI) and {TGH_MOE} (CT)"
        )
    return str(system)


def open_model(folder: Path) -> "Answerer | ScanAnswerer":
    """What answers by the model in a folder: about brain MRI or about CT; raises `WeightsError` as `system_of` does,
    or if its weights do not fit."""
    # only the one that is needed is imported: both load much
    if system_of(folder) == TGH_MOE:
        from voxmoe.scan_answering import ScanAnswerer

        return ScanAnswerer.from_pretrained(folder)
    from voxmoe.answering import Answerer

    return Answerer.from_pretrained(folder)

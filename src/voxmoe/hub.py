"""The Hugging Face Hub: whether it answers, and models that are fetched from it once."""

import logging
from functools import lru_cache
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from huggingface_hub import constants, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

from voxmoe.errors import WeightsError

PICKLES = (".bin", ".pt", ".pth", ".ckpt")
"""How files end that can run any code while they are read."""

_log = logging.getLogger(__name__)


@lru_cache(maxsize=1)
def hub_answers() -> bool:
    """Whether the hub can be reached at all: asked once and briefly, where transformers would try for half a minute."""
    if constants.HF_HUB_OFFLINE:
        return False
    try:
        urlopen(Request(constants.ENDPOINT, method="HEAD"), timeout=5).close()
    except HTTPError:
        return True
    except OSError:
        return False
    return True


def require_hub(name: str, file: str) -> None:
    """Raises `WeightsError` if the file of a model on the hub can neither be fetched nor is kept on this machine."""
    try:
        kept = isinstance(try_to_load_from_cache(name, file), str)
    except HFValidationError:
        raise WeightsError(f"{name}: no such folder, and no name that a model on the hub can have") from None
    if not (kept or hub_answers()):
        raise WeightsError(f"{name}: the hub does not answer, and its cache on this machine does not hold it")


def fetched(name: str) -> Path:
    """The folder in which a model on the hub is kept on this machine, all of it but pickles; raises `WeightsError` if
    it can neither be fetched nor is kept."""
    require_hub(name, "config.json")
    _log.info("looking for %s on the hub; what is not kept here is fetched", name)
    try:
        return Path(snapshot_download(name, ignore_patterns=[f"*{suffix}" for suffix in PICKLES]))
    except OSError as error:  # as the hub's own errors are
        raise WeightsError(f"{name}: cannot be fetched from the hub: {error}") from None

"""What `voxmoe info` tells, without importing anything heavy."""

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from voxmoe import __version__
from voxmoe.default import choice
from voxmoe.imaging.parcellations import DEFAULT, LPBA40, PARCELLATIONS
from voxmoe.vocabulary import CLASSES, PROFILES, Modality
from voxmoe.vqa.protocol import PROTOCOLS
from voxmoe.vqa.type_weights import TYPE_WEIGHTS
from voxmoe.vqa.wordings.grammar import GRAMMAR

_PACKAGES = ("torch", "transformers", "peft", "nibabel", "numpy", "scipy", "scikit-image", "connected-components-3d")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def facts() -> dict[str, Any]:
    default = choice()
    return {
        "versions": {
            "voxmoe": __version__,
            "python": platform.python_version(),
            **{package: _version(package) for package in _PACKAGES},
        },
        "modalities": [str(modality) for modality in Modality],
        "profiles": {
            profile.name: {
                "summary": profile.summary,
                "aliases": list(profile.aliases),
                "labels_from": profile.labels_from,
                "labels": {label.key: {"value": label.value, "name": label.name} for label in profile.labels},
            }
            for profile in PROFILES
        },
        "protocols": {name: protocol.model_dump() for name, protocol in PROTOCOLS.items()},
        "type_weights": {name: weights.model_dump(mode="json") for name, weights in TYPE_WEIGHTS.items()},
        "grammar": GRAMMAR.source,
        "tasks": {str(task): list(classes) for task, classes in CLASSES.items()},
        "atlases": {
            **{name: parcellation.licence for name, parcellation in PARCELLATIONS.items()},
            "FILE": LPBA40.licence,
        },
        "default_atlas": DEFAULT.name,
        "default_model": {
            "folder": str(default.folder) if default.folder else None,
            "source": default.source,
            "gone": str(default.gone) if default.gone else None,
        },
    }

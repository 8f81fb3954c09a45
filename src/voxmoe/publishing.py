"""A trained model made ready to be shared: its own weights in half the bytes, its record, and a card.

    OUT/model.safetensors   all but the language model's own weights, floating point in bf16
    OUT/config.json, ..     settings, tokenizer and processor as they were
    OUT/recipe.yaml, OUT/manifest.json, OUT/training.jsonl   the record of its training
    OUT/eye, OUT/start      the records of the eye and of the model that it started from, where they are folders
    OUT/results-*.json      evaluations, where any were given
    OUT/consensus.safetensors  how its heads are weighed with what is measured, where that was learnt
    OUT/README.md           the model card

Nothing in there leads back to the machine that it was trained on. OUT is written beside its place and put there whole.
Nothing stays of an earlier publication there; what others have put into its folder does.
"""

import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save

from voxmoe.any_model import system_of
from voxmoe.errors import ResultsError, WeightsError
from voxmoe.evaluation import results, tables
from voxmoe.files import write_bytes, write_json
from voxmoe.imaging.layouts import profile_named
from voxmoe.model import consensus
from voxmoe.model.weights import read_weights
from voxmoe.reporting import NOT_A_DEVICE, NOT_COVERED
from voxmoe.vocabulary import TGH_MOE, Modality

_COPIED = (
    consensus.FILE,
    "chat_template.jinja",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "training.jsonl",
)
_WEIGHTS = "model.safetensors"
_CARD = "README.md"
_LIBRARY = "voxmoe"
_OWN = {*_COPIED, "eye", "start", _CARD, _WEIGHTS, "config.json", "manifest.json", "recipe.yaml"}
_RESULTS = re.compile(r"results-\d+\.json")


def _without_places(record: Any) -> Any:
    """A record in which nothing is left of a place on this machine but its last name."""
    if isinstance(record, dict):
        return {key: _without_places(value) for key, value in record.items()}
    if isinstance(record, list):
        return [_without_places(item) for item in record]
    return Path(record).name if isinstance(record, str) and Path(record).is_absolute() else record


def _check_model(model: Path) -> None:
    if not (model / "manifest.json").is_file() or not (model / _WEIGHTS).is_file():
        raise WeightsError(f"{model}: no finished model here; train one with voxmoe train RECIPE")
    if system_of(model) == TGH_MOE:
        raise WeightsError(f"{model}: a model of CT, and only models of brain MRI can be published; name one of these")


def _is_publication(folder: Path) -> bool:
    """Whether `publish` wrote a folder: its card says so, which no model has that was only trained."""
    if not all((folder / name).is_file() for name in (_CARD, "config.json", "manifest.json")):
        return False
    head = (folder / _CARD).read_text(errors="replace").split("---\n", 2)[1:2]
    return f"library_name: {_LIBRARY}" in "".join(head).splitlines()


def _check_place(model: Path, out: Path) -> None:
    if out.resolve() == model.resolve():
        raise WeightsError(f"{out}: is the model itself; name another folder to publish it to")
    if out.exists() and not out.is_dir():
        raise WeightsError(f"{out}: is a file; name a folder to publish to")
    if out.is_dir() and any(out.iterdir()) and not _is_publication(out):
        raise WeightsError(
            f"{out}: holds other files than voxmoe publish writes; name an empty folder or an earlier publication's"
        )


def _keep_others(earlier: Path, folder: Path) -> None:
    """Copy what others have put beside an earlier publication: the folder may be a clone of the hub's."""
    for path in earlier.iterdir():
        if path.name in _OWN or _RESULTS.fullmatch(path.name):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.copytree(path, folder / path.name, symlinks=True)
        else:
            shutil.copy2(path, folder / path.name, follow_symlinks=False)


@contextmanager
def _folder_for(out: Path) -> Iterator[Path]:
    """A new folder beside `out` that takes its place on success and is removed on failure."""
    out = out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", suffix=".tmp", dir=out.parent) as place:
        new, earlier = Path(place, "new"), Path(place, "earlier")
        new.mkdir()
        yield new
        if not out.exists():
            new.rename(out)
            return
        _keep_others(out, new)
        try:
            out.rename(earlier)
            new.rename(out)
        except BaseException:
            if earlier.exists():
                earlier.rename(out)
            raise


def publish(model: Path, out: Path, evaluations: Sequence[Path] = (), about: Path | None = None) -> dict[str, Any]:
    """Write the folder `out` of a finished model; returns its files and their bytes. The text of `about`, of its data
    and limits, goes into the card.

    Raises `WeightsError` if `model` is no finished model of brain MRI or its weights are damaged, or `out` holds
    anything but an earlier publication, and `ResultsError` for evaluations that are none, and for an `about` that is no
    text.
    """
    _check_model(model)
    _check_place(model, out)
    found = [results.load(path) for path in evaluations]
    said = "" if about is None else _text(about)
    manifest = _without_places(json.loads((model / "manifest.json").read_text()))
    trained_by = yaml.safe_load((model / "recipe.yaml").read_text())
    recipe = _without_places(trained_by)
    config = json.loads((model / "config.json").read_text())
    config["settings"] = _started(config["settings"])
    state = {
        name: tensor.to(torch.bfloat16) if tensor.is_floating_point() else tensor
        for name, tensor in read_weights(model / _WEIGHTS).items()
    }
    card = model_card(recipe["name"], manifest, config["settings"], found, said)
    with _folder_for(out) as folder:
        _publish_records(trained_by, folder)
        for name in _COPIED:
            if (model / name).is_file():
                shutil.copyfile(model / name, folder / name)
        write_json(folder / "config.json", config)
        write_json(folder / "manifest.json", manifest)
        write_bytes(folder / "recipe.yaml", yaml.safe_dump(recipe, sort_keys=False).encode())
        for number, evaluation in enumerate(found, 1):
            write_json(folder / f"results-{number}.json", _without_places(evaluation))
        write_bytes(folder / _CARD, card.encode())
        write_bytes(folder / _WEIGHTS, save(state, {"format": "pt"}))
        written = {
            str(path.relative_to(folder)): path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()
        }
    return {"out": str(out), "files": written}


def _publish_records(recipe: dict[str, Any], out: Path) -> None:
    """What is told of the trainings before: recipe, manifest and log of each. The eye of a model that was published
    itself is told of in a folder of its own there."""
    vision = recipe["model"]["vision"]
    for name, place in (("eye", vision and vision["weights"]), ("start", recipe["start"])):
        if place is None or not (Path(place) / "manifest.json").is_file():
            continue
        began = Path(place)
        if (began / name / "manifest.json").is_file():
            began /= name
        (out / name).mkdir(exist_ok=True)
        shutil.copyfile(began / "training.jsonl", out / name / "training.jsonl")
        write_json(out / name / "manifest.json", _without_places(json.loads((began / "manifest.json").read_text())))
        told = _without_places(yaml.safe_load((began / "recipe.yaml").read_text()))
        write_bytes(out / name / "recipe.yaml", yaml.safe_dump(told, sort_keys=False).encode())


def _started(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of a model whose weights are all its own: where its parts started from is no longer needed."""
    parts = {
        name: {**settings[name], "weights": None, "fingerprint": None}
        for name in ("vision", "grounding")
        if settings.get(name) is not None
    }
    return {**settings, **parts}


def _front_matter(settings: dict[str, Any]) -> dict[str, Any]:
    return {
        "license": "apache-2.0",
        "language": ["en"],
        "library_name": _LIBRARY,
        "pipeline_tag": "image-text-to-text",
        "base_model": settings["language"]["name"],
        "tags": ["medical", "3d", "mri", "brain", "visual-question-answering"],
    }


def _table(table: tables.Table) -> list[str]:
    head = ["", *table.columns]
    return [
        f"**{table.title}**",
        "",
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(f"| {' | '.join(row)} |" for row in table.rows),
        "",
    ]


def _kept(layers: int | list[int] | None) -> str:
    """Which layers of the language model are kept, unless all are."""
    if layers is None:
        return ""
    if isinstance(layers, int):
        return f", its first {layers} layers"
    return f", its layers {', '.join(map(str, layers))} (counted from 0)"


def _weighing(manifest: dict[str, Any]) -> list[str]:
    if "consensus" not in manifest:
        return []
    learnt = manifest["consensus"]
    return [
        "- Its heads are weighed with what is measured in its masks; how far to trust either was learnt from "
        f"{learnt['questions']:,} questions about {learnt['patients']} patients of its {learnt['split']} split."
    ]


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ResultsError(f"{path}: no text to put into the card ({error})") from None


def model_card(
    name: str,
    manifest: dict[str, Any],
    settings: dict[str, Any],
    evaluations: Sequence[Any] = (),
    about: str = "",
) -> str:
    """The README.md of a model: what it reads, how it learnt, what is said `about` its data and limits, and how it does
    where it was evaluated."""
    language, vision = settings["language"], settings["vision"]
    profiles = [profile_named(name) for name in settings.get("profiles", ())]
    known = dict.fromkeys(f"{label.name} ({label.key})" for profile in profiles for label in profile.labels)
    labels = ", ".join(known) or "not recorded"
    sees = f"{', '.join(Modality)}, any of them missing" if vision else "nothing: it is a text-only baseline"
    lines = [
        "---",
        yaml.safe_dump(_front_matter(settings), sort_keys=False).strip(),
        "---",
        f"# {name}",
        "",
        f"Answers questions about volume, region, shape and spread of lesions in brain MRI. {NOT_A_DEVICE}",
        "",
        f"- Images: {sees}; skull-stripped and co-registered, as BraTS has them.",
        f"- Labels it was trained on: {labels}.",
        f"- Language model: {language['name']}"
        + _kept(language.get("layers"))
        + "; its weights are not in here, they come from their own source.",
        f"- Parameters that were trained: {manifest['trained_parameters']:,}, in {manifest['steps']:,} steps and "
        f"{manifest['seconds'] / 60:.0f} minutes on {manifest['cores']} cores. recipe.yaml says how, training.jsonl "
        "has every step.",
        *_weighing(manifest),
        f"- {NOT_COVERED}",
        "",
        "```python",
        "from voxmoe.answering import Answerer",
        "",
        'answerer = Answerer.from_pretrained("PLACE")  # the folder of this card, or its name on the hub',
        "```",
        "",
        *((about, "") if about else ()),
    ]
    for evaluation in evaluations:
        lines += ["## Evaluation", "", *(f"{line}  " for line in tables.headline(_without_places(evaluation))), ""]
        for table in tables.summary(evaluation):
            lines += _table(table)
    return "\n".join(lines).rstrip() + "\n"

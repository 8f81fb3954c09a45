"""Questions about one CT: `ScanAnswerer.from_pretrained(place).ask(volume, question)`, and its report."""

import time
import weakref
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import send_to_device
from jaxtyping import Int, UInt8
from torch import Tensor

from voxmoe.errors import ImageError, QuestionError, WeightsError
from voxmoe.evaluation.choices import read_choice
from voxmoe.evaluation.likelihood import weigh_choices
from voxmoe.evaluation.reading import LONGEST
from voxmoe.imaging.ct import GreyVolume, read_ct, read_upright
from voxmoe.imaging.dicom import is_dicom
from voxmoe.imaging.hounsfield import Scale, shares, to_hounsfield
from voxmoe.imaging.volume import Volume
from voxmoe.model.devices import best_device
from voxmoe.model.reader import View, VolumeReader
from voxmoe.model.reading import ReaderProcessor
from voxmoe.model.routing import Routing
from voxmoe.reporting import NOT_A_DEVICE
from voxmoe.vocabulary import CTTask
from voxmoe.vqa.ct.exchange import LETTERS, REPORT_PROMPT, prompt_of

_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class ScanChoice:
    """The choice of a closed question that an answer names."""

    letter: str
    text: str


@dataclass(frozen=True)
class WeighedChoice(ScanChoice):
    """One of the choices, and how likely the model finds it among them (0 to 1; `voxmoe.evaluation.likelihood`)."""

    probability: float


@dataclass(frozen=True)
class ChosenTask:
    """The group of experts that the task router finds most probable for the prompt, and how probable (0 to 1)."""

    name: str
    probability: float


@dataclass(frozen=True)
class ScanAnswer:
    """What is said about a CT."""

    question: str
    text: str
    choice: ScanChoice | None
    """None for an open question, and where the text names no choice or more than one."""
    choices: tuple[WeighedChoice, ...]
    """All of a closed question, in their order, however the text reads."""
    task: ChosenTask | None
    """None for a model without task experts."""
    model: str
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return {
            "question": self.question,
            "text": self.text,
            "choice": None if self.choice is None else asdict(self.choice),
            "choices": [asdict(choice) for choice in self.choices],
            "task": None if self.task is None else {"name": self.task.name, "probability": self.task.probability},
            "model": self.model,
            "seconds": round(self.seconds, 3),
        }

    def to_report(self) -> dict[str, Any]:
        """The same as a report, which says what it is not."""
        return {**self.to_json(), "limits": NOT_A_DEVICE}


@dataclass
class _Seen:
    """A volume as slices, and what was made of them, by the group of experts that took part."""

    pixels: UInt8[Tensor, "1 D C H W"]
    views: dict[int | None, View] = field(default_factory=dict)


class ScanAnswerer:
    """A model that reads CT, with its processor. What each group of experts sees of a volume, and what the language
    model makes of that, is computed at the first question that goes to it, and held as long as the volume; where the
    router is soft, every question looks anew."""

    def __init__(self, model: VolumeReader, processor: ReaderProcessor, name: str) -> None:
        if model.settings.blind:
            raise WeightsError(f"{name}: is a text-only baseline; it cannot see a CT")
        self.model = model.eval()
        self.processor = processor
        self.name = name
        self._seen: weakref.WeakKeyDictionary[Volume, _Seen] = weakref.WeakKeyDictionary()

    @classmethod
    def from_pretrained(cls, place: Path | str) -> "ScanAnswerer":
        """The model in a folder or on the hub; raises `WeightsError` if there is none or its weights do not fit."""
        if isinstance(place, Path) and not place.is_dir():
            raise WeightsError(f"{place}: no such model folder; train one with voxmoe train RECIPE")
        reader = VolumeReader.from_pretrained(place).to(best_device())
        return cls(reader, ReaderProcessor.from_pretrained(place), str(place))

    def read(self, path: Path | str) -> Volume:
        """A CT from NIfTI, a DICOM series or M3D's .npy, if the model takes it.

        Raises `ImageError` for everything else, saying what was found.
        """
        path = Path(path)
        if path.suffix.lower() in _PICTURES:
            raise ImageError(f"{path}: is a 2D picture; {self.name} reads whole CTs: give NIfTI or a DICOM folder")
        if path.is_dir() and (found := sorted(one.name for one in path.rglob("*.nii*"))):
            raise ImageError(
                f"{path}: is a folder of NIfTI files ({len(found)}, first {found[0]}); {self.name} reads one CT: name "
                "its file; ask about a study of brain MRI with a model that reads these, e.g. --model pocket"
            )
        whole = path.suffix == ".npy" or is_dicom(path)
        return self.accepted(read_ct(path) if whole else read_upright(path))

    def accepted(self, volume: Volume) -> Volume:
        """The volume in the units that the model takes; raises `ImageError` if it is no CT, or of other units."""
        windows = self.processor.pictures["windows"]
        if min(volume.shape) < 2:
            told = "x".join(map(str, volume.shape))
            raise ImageError(f"{volume.source}: is a 2D picture ({told}); {self.name} reads whole CTs of many slices")
        if isinstance(volume, GreyVolume):
            if windows:
                raise ImageError(
                    f"{volume.source}: has grey values from 0 to 1 without HU; {self.name} sees through windows of HU: "
                    "give the CT as NIfTI or DICOM"
                )
            return volume
        if not windows:
            raise ImageError(f"{volume.source}: is no M3D array; {self.name} learnt from grey values: give M3D's .npy")
        found = shares(volume.data)
        if found.scale is Scale.OTHER:
            raise ImageError(
                f"{volume.source}: is no CT in HU: its values go from {found.low:g} to {found.high:g}; {self.name} "
                "reads CT; ask about a brain MRI with a model that reads these, e.g. --model pocket; a CT of stored "
                "values has to be written in HU first"
            )
        return to_hounsfield(volume)

    def ask(self, volume: Volume, question: str, choices: Sequence[str] = ()) -> ScanAnswer:
        """Answer a question about a CT; with choices a closed one, put as in training, whose choices are weighed, too.

        Raises `QuestionError` for an empty or over-long question and for choices that are not 2 to 8 different ones,
        and `ImageError` for a volume that the model does not take.
        """
        _check(question, choices)
        return self._say(volume, question, choices, CTTask.CLOSED if choices else CTTask.OPEN)

    def report(self, volume: Volume) -> ScanAnswer:
        """What the model finds in a CT; raises `ImageError` for a volume that it does not take."""
        return self._say(volume, REPORT_PROMPT, (), CTTask.REPORT)

    @torch.no_grad()
    def _say(self, volume: Volume, question: str, choices: Sequence[str], task: CTTask) -> ScanAnswer:
        started = time.monotonic()
        prompt = dict(self.processor([prompt_of(question.strip(), choices)]))
        batch: dict[str, Any] = send_to_device(prompt, self.model.device)
        routing = self.model.route(batch["prompt_ids"], batch["prompt_mask"])
        view = self._look(volume, routing, batch["prefix_ids"])
        read = self.model.read(**batch, view=view)
        ids = self.model.generate(**batch, read=read, max_new_tokens=LONGEST[task])
        text = self.processor.decode_answers(ids)[0]
        letter = read_choice(text, choices) if choices else None
        weighed = weigh_choices(self.model, self.processor, batch, view, [choices], read)[0] if choices else []
        return ScanAnswer(
            question=question,
            text=text,
            choice=None if letter is None else ScanChoice(letter, choices[LETTERS.index(letter)]),
            choices=tuple(map(WeighedChoice, LETTERS, choices, weighed)),
            task=None if routing is None else _likeliest(routing),
            model=self.name,
            seconds=time.monotonic() - started,
        )

    def _look(self, volume: Volume, routing: Routing | None, prefix_ids: Int[Tensor, "1 P"]) -> View:
        if volume not in self._seen:
            self._seen[volume] = _Seen(self.processor.see(self.accepted(volume))[None].to(self.model.device))
        seen = self._seen[volume]
        soft = self.model.settings.experts is not None and self.model.settings.experts.soft
        group = None if routing is None else int(routing.groups[0, 0])
        if group in seen.views:
            return seen.views[group]
        whose = torch.zeros(1, dtype=torch.int64, device=seen.pixels.device)
        view = View(self.model.look(seen.pixels, routing=routing), whose, routing)
        if not soft:
            view = seen.views[group] = self.model.opened(prefix_ids, view)
        return view


def _check(question: str, choices: Sequence[str]) -> None:
    if not question.strip():
        raise QuestionError("the question is empty; ask something about the scan")
    different = {choice.strip().casefold() for choice in choices}
    if choices and ("" in different or len(different) < len(choices) or not 2 <= len(choices) <= len(LETTERS)):
        raise QuestionError(
            f"the choices are {list(choices)}; a closed question has 2 to {len(LETTERS)} that differ and are not empty"
        )


def _likeliest(routing: Routing) -> ChosenTask:
    chances = routing.logits[0].softmax(dim=0)
    best = int(chances.argmax())
    tasks = tuple(CTTask)
    name = str(tasks[best]) if len(chances) == len(tasks) else f"group {best + 1}"
    return ChosenTask(name, float(chances[best]))

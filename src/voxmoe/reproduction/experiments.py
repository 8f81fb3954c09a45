"""What the paper's tables compare (mpLLM, section 4 and Appendix C), as data: rows of models with the printed figures;
and a table of this project's own.

A row is a model on a dataset: the changes that it makes to the base recipe, written as `voxmoe train` takes them, and
what the paper prints for it. All figures in here are the paper's, measured by its authors at full size on BraTS data.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

DATASETS = {"gli": "GLI", "met": "MET", "goat": "GoAT"}
"""Profile -> the paper's name of its dataset."""
MEASURES = ("volume", "region", "shape", "spread", "mean")


@dataclass(frozen=True)
class Printed:
    """A figure of the paper in percent, with its standard deviation where one is printed."""

    value: float
    deviation: float | None = None


@dataclass(frozen=True)
class Model:
    """A model by its name and the changes that it makes to the base recipe."""

    name: str
    changes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """One line of a table: what stands in its first columns, the model, its dataset, and the paper's figures."""

    cells: tuple[str, ...]
    model: Model
    dataset: str
    printed: Mapping[str, Printed]
    by_text: bool = False
    """Whether its answers are those of its text, as its heads have learnt nothing."""


@dataclass(frozen=True)
class Experiment:
    """A table of the paper: its title, its first columns, what it measures on which split, and its rows."""

    name: str
    title: str
    columns: tuple[str, ...]
    measures: tuple[str, ...]
    split: str
    rows: tuple[Row, ...]
    from_text: bool = False
    """Whether answers are also read from the generated text."""
    compared: bool = False
    """Whether mpLLM is compared with the paper's other systems on the same dataset, question by question."""


MPLLM = Model("mpllm")
CHARTED = Model("mpllm-chart", ("model.chart={}",))
"""Not the paper's: the language model also reads what the eye's decoder finds (`voxmoe.model.chart`)."""
TEXT_ONLY = Model("text-only", ("model.vision=null", "model.grounding=null"))
LLAVA_MED = Model("llava-med", ("model.connector={kind: llava-med}",))
M3D = Model("m3d", ("model.connector={kind: m3d}",))
RADFM = Model("radfm", ("model.connector={kind: radfm}",))
MED3DVLM = Model(
    "med3dvlm", ("model.connector={kind: med3dvlm}", "model.vision={kind: dcformer}", "model.grounding=null")
)
SINGLE = Model("single", ("model.connector={kind: single}",))
WITHOUT_HEADS = Model(
    "without-heads", ("model.loss={text: 1, volume: 0, region: 0, shape: 0, spread: 0, out_of_scope: 0}",)
)

_NAMES = {
    RADFM: "RadFM",
    MED3DVLM: "Med3DVLM",
    M3D: "M3D",
    LLAVA_MED: "LLaVA-Med",
    TEXT_ONLY: "text-only",
    MPLLM: "mpLLM",
    CHARTED: "mpLLM with chart (ours)",
}
_TABLE_2 = {
    "gli": {
        RADFM: "14.5 0.9 78.1 0.4 15.1 0.9 13.7 0.9 30.3 0.4",
        MED3DVLM: "43.1 1.2 76.7 0.4 47.6 1.2 42.9 1.3 52.6 0.7",
        M3D: "54.3 1.2 81.3 0.4 58.9 1.2 52.9 1.3 61.9 0.7",
        LLAVA_MED: "54.8 1.2 81.2 0.4 58.9 1.2 53.5 1.2 62.1 0.7",
        MPLLM: "71.1 1.1 84.7 0.3 65.1 1.1 62.7 1.2 70.9 0.6",
    },
    "met": {
        RADFM: "19.2 1.5 69.6 1.0 16.7 1.6 10.8 1.3 29.1 0.8",
        MED3DVLM: "55.2 2.0 69.4 1.0 41.9 2.0 35.9 1.9 50.6 1.0",
        M3D: "67.5 1.9 73.6 0.9 57.5 1.9 41.2 2.0 60.0 1.0",
        LLAVA_MED: "70.1 1.8 73.3 1.0 58.8 1.9 41.7 2.1 61.0 1.0",
        MPLLM: "74.1 1.8 75.8 0.9 59.1 1.9 49.0 2.1 64.5 1.0",
    },
    "goat": {
        RADFM: "18.2 1.1 64.4 0.5 37.3 1.5 29.6 1.3 37.4 0.7",
        MED3DVLM: "40.9 1.4 65.6 0.5 66.3 1.4 58.1 1.4 57.7 0.7",
        M3D: "63.9 1.3 73.7 0.6 84.1 1.1 72.7 1.3 73.6 0.6",
        LLAVA_MED: "55.2 1.5 71.6 0.6 83.8 1.1 72.8 1.3 70.9 0.7",
        MPLLM: "69.8 1.3 77.4 0.5 82.4 1.1 74.9 1.3 76.1 0.6",
    },
}


def _printed(figures: str) -> dict[str, Printed]:
    numbers = [float(number) for number in figures.split()]
    pairs = zip(numbers[::2], numbers[1::2], strict=True)
    return {name: Printed(*pair) for name, pair in zip(MEASURES, pairs, strict=True)}


def _mean(value: float) -> dict[str, Printed]:
    return {"mean": Printed(value)}


def _experts(name: str, **settings: object) -> Model:
    inner = ", ".join(f"{key}: {value}" for key, value in {"kind": "experts", **settings}.items())
    return Model(name, (f"model.connector={{{inner}}}",))


def _table_2_row(dataset: str, model: Model) -> Row:
    figures = _TABLE_2[dataset].get(model)
    return Row((DATASETS[dataset], _NAMES[model]), model, dataset, _printed(figures) if figures else {})


def _ablation(
    name: str, title: str, columns: tuple[str, ...], *rows: tuple[tuple[str, ...], Model, float]
) -> Experiment:
    """A table of task means on the GLI validation set."""
    return Experiment(
        name,
        title,
        columns,
        ("mean",),
        "validation",
        tuple(Row(cells, model, "gli", {"mean": Printed(mean)}) for cells, model, mean in rows),
    )


_YES, _NO = "yes", "no"
_TABLE_4 = _ablation(
    "table4",
    "Table 4: with and without the multi-task loss",
    ("method",),
    (("mpLLM without multi-task loss",), WITHOUT_HEADS, 67.4),
    (("mpLLM with multi-task loss",), MPLLM, 70.4),
)
_ABLATIONS = (
    ("as in the tables", MPLLM),
    ("encoder with random weights", Model("untrained-eye", ("model.vision.weights=null", "model.grounding=null"))),
    ("experts' weights without the prompt", _experts("fixed-weights", prompt="nowhere")),
    ("fused tokens that also learn a coarse map", Model("coarse-map", ("model.loss.coarse_map=1",))),
    ("modalities left out in training (0.2 each)", Model("modality-dropout", ("fit.modality_dropout=0.2",))),
    ("steps of half as many questions, twice as many", Model("half-steps", ("fit.accumulation=1", "fit.max_steps=40"))),
    (
        "steps of twice as many questions, half as many",
        Model("twice-steps", ("fit.accumulation=4", "fit.max_steps=10")),
    ),
)
"""What the paper leaves open. Steps are those of the pocket scale: 20 of 16 questions."""
EXPERIMENTS = {
    experiment.name: experiment
    for experiment in (
        Experiment(
            "table2",
            "Table 2: task performance of all models on all datasets",
            ("dataset", "method"),
            MEASURES,
            "test",
            tuple(_table_2_row(dataset, model) for dataset in DATASETS for model in _NAMES),
            compared=True,
        ),
        _ablation(
            "table3",
            "Table 3: the architecture of the experts",
            ("modality-level", "token-level", "weights by prompt"),
            ((_NO, _NO, _NO), SINGLE, 68.7),
            ((_YES, _NO, _NO), _experts("modality-level", modality_level=16, token_level=0, prompt="nowhere"), 69.1),
            ((_NO, _YES, _NO), _experts("token-level", modality_level=0, token_level=16, prompt="nowhere"), 69.9),
            ((_YES, _YES, _YES), MPLLM, 70.4),
        ),
        replace(_TABLE_4, from_text=True, rows=(replace(_TABLE_4.rows[0], by_text=True), _TABLE_4.rows[1])),
        _ablation(
            "table12",
            "Table 12: the number of high-level experts",
            ("experts",),
            (("12",), _experts("experts-12", modality_level=6, token_level=6), 69.9),
            (("16",), MPLLM, 70.4),
            (("20",), _experts("experts-20", modality_level=10, token_level=10), 70.0),
        ),
        _ablation(
            "table13",
            "Table 13: where the prompt enters the experts",
            ("method",),
            (
                ("modality-level experts, prompt in their gates",),
                _experts("modality-level-prompted", modality_level=16, token_level=0, prompt="gates"),
                70.1,
            ),
            (
                ("token-level experts, prompt in their gates",),
                _experts("token-level-prompted", modality_level=0, token_level=16, prompt="gates"),
                69.4,
            ),
            (("prompt sets the experts' weights",), MPLLM, 70.4),
        ),
        _ablation(
            "table14",
            "Table 14: softmax or sigmoid over the low-level experts",
            ("gate",),
            (("softmax",), _experts("softmax", gate="softmax"), 70.3),
            (("sigmoid",), MPLLM, 70.4),
        ),
        Experiment(
            "ablations",
            "Ablations of this project, on GLI",
            ("what is changed",),
            MEASURES,
            "validation",
            tuple(Row((what,), model, "gli", {}) for what, model in _ABLATIONS),
        ),
    )
}

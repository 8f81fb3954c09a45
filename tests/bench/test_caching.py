"""The cache's benchmark: both ways give the encoder the same study."""

from pathlib import Path

import pytest
import torch

from voxmoe.bench import caching, step
from voxmoe.errors import BenchError
from voxmoe.model.experts import ExpertSettings
from voxmoe.model.vision import VisionSettings

TINY_LANGUAGE = {
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
VISION = VisionSettings(grid=(8, 16, 16), patch=(2, 4, 4), pool=(2, 2, 2), hidden=16, layers=1, heads=2, mlp=32)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    experts = ExpertSettings(modality_level=1, token_level=1, router_hidden=4)
    monkeypatch.setitem(step.PARTS, "mpllm", (experts, VISION))


def both_ways(data: str) -> None:
    larger = TINY_LANGUAGE | {"num_hidden_layers": 3}
    found = caching.bench_cache(studies=1, runs=1, languages=[TINY_LANGUAGE, larger])
    assert (found["name"], found["cases"]) == ("cache", 1)
    assert found["data"] == f"{data}, 1 layers of a language model"
    (other,) = found["others"]
    assert other["data"] == f"{data}, 3 layers of a language model"
    for one in (found, other):
        assert one["ratio"] == pytest.approx(one["reference_s"] / one["ours_s"])


def test_both_ways_are_timed_on_phantoms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VOXMOE_REAL_DATA", raising=False)
    both_ways("phantoms")


@pytest.mark.real
def test_both_ways_are_timed_on_real_studies(real_data: Path) -> None:
    both_ways("real studies")


def test_other_features_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def other(model: object, files: object) -> dict[str, torch.Tensor]:
        return {"tokens": torch.zeros(1, 4, VISION.tokens, 16)}

    monkeypatch.delenv("VOXMOE_REAL_DATA", raising=False)
    monkeypatch.setattr(caching, "encoded_anew", other)
    with pytest.raises(BenchError, match="not those that the encoder gives"):
        caching.bench_cache(studies=1, runs=1, languages=[TINY_LANGUAGE])

"""The decoder: what it gives, how missing modalities are stood in for, what its loss rewards, labels from parts."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F  # noqa: N812

from voxmoe.errors import WeightsError
from voxmoe.imaging.layouts import profile_named
from voxmoe.imaging.parts import Part
from voxmoe.model.grounding import (
    Grounding,
    GroundingSettings,
    grounding_loss,
    label_probabilities,
    start_grounding,
)
from voxmoe.model.pyramid import PyramidEncoder, PyramidSettings

VISION = PyramidSettings(grid=(16, 32, 32), channels=(8, 8, 16, 24), layers=1, heads=2)
SETTINGS = GroundingSettings(channels=(8, 8, 16, 16))
KINDS = len(Part) + 1


@pytest.fixture(scope="module")
def encoder() -> PyramidEncoder:
    torch.manual_seed(0)
    return PyramidEncoder(VISION).eval()


@pytest.fixture(scope="module")
def grounding() -> Grounding:
    torch.manual_seed(1)
    return Grounding(SETTINGS, VISION).eval()


def seen_by(encoder: PyramidEncoder, images: torch.Tensor, present: torch.Tensor) -> list[torch.Tensor]:
    with torch.no_grad():
        return encoder.see(images[present][:, None])[1]


def test_every_voxel_gets_a_logit_of_no_part_and_of_each(encoder: PyramidEncoder, grounding: Grounding) -> None:
    present = torch.tensor([[True, True, False, True], [False, False, True, False]])
    logits = grounding(seen_by(encoder, torch.rand(2, 4, *VISION.grid), present), present)
    assert logits.shape == (2, KINDS, *VISION.grid)
    assert torch.isfinite(logits).all()


def test_a_study_does_not_depend_on_those_beside_it(encoder: PyramidEncoder, grounding: Grounding) -> None:
    images = torch.rand(2, 4, *VISION.grid)
    present = torch.tensor([[True, False, True, True], [True, True, True, True]])
    both = grounding(seen_by(encoder, images, present), present)
    alone = grounding(seen_by(encoder, images[1:], present[1:]), present[1:])
    torch.testing.assert_close(both[1:], alone, atol=1e-4, rtol=1e-4)


def test_present_modalities_stand_in_for_the_missing(encoder: PyramidEncoder, grounding: Grounding) -> None:
    """The oracle: each modality's own map on its cells, their sum scaled by how many of four there are."""
    present = torch.tensor([[False, True, False, True]])
    cells = seen_by(encoder, torch.rand(1, 4, *VISION.grid), present)[2]
    fuse = grounding.fuse[2]
    fused = fuse(cells, present)
    maps = fuse.linear.weight.flatten(1).split(16, dim=1)
    expected = sum(torch.einsum("kc,cdhw->kdhw", maps[m], cell) for m, cell in zip((1, 3), cells, strict=True))
    torch.testing.assert_close(fused[0], expected * 2 + fuse.linear.bias[:, None, None, None], atol=1e-5, rtol=1e-5)


def test_the_loss_is_cross_entropy_and_dice() -> None:
    """The oracle is written with labels, which hard fractions are."""
    torch.manual_seed(0)
    logits = torch.randn(2, KINDS, 4, 6, 5)
    labels = torch.randint(KINDS, (2, 4, 6, 5))
    parts = F.one_hot(labels, KINDS).permute(0, 4, 1, 2, 3)[:, 1:].float()
    chances = logits.softmax(dim=1)
    groups = [[1, 2, 3, 4, 5], [Part.CORE, Part.CYST, Part.RIM], *([part] for part in Part)]
    dices = []
    for group in groups:
        guess, truth = chances[:, group].sum(dim=1), torch.isin(labels, torch.tensor(group)).float()
        dices.append((2 * (guess * truth).sum() + 1) / ((guess**2).sum() + truth.sum() + 1))
    expected = F.cross_entropy(logits, labels) + 1 - torch.stack(dices).mean()
    torch.testing.assert_close(grounding_loss(logits, parts), expected)


def test_a_perfect_guess_costs_nothing() -> None:
    labels = torch.randint(KINDS, (1, 4, 4, 4))
    hot = F.one_hot(labels, KINDS).permute(0, 4, 1, 2, 3).float()
    assert float(grounding_loss(hot * 40, hot[:, 1:])) == pytest.approx(0, abs=1e-4)
    assert float(grounding_loss(-hot * 40, hot[:, 1:])) > 10


def test_labels_are_sums_of_the_parts_that_a_profile_counts_to_them() -> None:
    parts = torch.rand(KINDS, 3, 3, 3).softmax(dim=0)
    treated = label_probabilities(parts, profile_named("gli-2024"))
    assert list(treated) == [0, 1, 2, 3, 4]
    torch.testing.assert_close(treated[1], parts[Part.CORE] + parts[Part.CYST])
    torch.testing.assert_close(treated[4], parts[Part.CAVITY])
    older = label_probabilities(parts, profile_named("brats-2021"))
    assert list(older) == [0, 1, 2, 4]
    torch.testing.assert_close(older[0], parts[0] + parts[Part.CAVITY])  # it knows no cavity
    for found in (treated, older):
        torch.testing.assert_close(sum(found.values()), torch.ones(3, 3, 3))


def test_weights_are_found_beside_the_encoders(encoder: PyramidEncoder, grounding: Grounding, tmp_path: Path) -> None:
    parts = {"encoder": encoder, "grounding": grounding}
    state = {f"{name}.{key}": value for name, part in parts.items() for key, value in part.state_dict().items()}
    save_file(state, tmp_path / "model.safetensors")
    loaded, started = start_grounding(SETTINGS.model_copy(update={"weights": str(tmp_path)}), VISION)
    assert started.fingerprint is not None
    for name, value in grounding.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name])
    with pytest.raises(WeightsError, match="of another shape"):
        start_grounding(GroundingSettings(channels=(8, 8, 16, 24), weights=str(tmp_path)), VISION)
    with pytest.raises(WeightsError, match="not the one that is asked for"):
        start_grounding(started.model_copy(update={"fingerprint": "0" * 16}), VISION)


def test_the_loss_does_not_feel_autocast() -> None:
    logits, parts = torch.randn(1, KINDS, 16, 16, 16), torch.rand(1, len(Part), 16, 16, 16) / 8
    plain = grounding_loss(logits, parts)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(grounding_loss(logits, parts), plain)


def test_widths_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 8"):
        GroundingSettings(channels=(4, 8, 8, 8))

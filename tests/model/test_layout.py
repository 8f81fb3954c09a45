"""Where tokens stand and which see one another: by hand, and as Qwen2.5-VL counts a video's frames."""

from typing import Any

import pytest
import torch
from image_text import make_model

from voxmoe.model.layout import Layout, lay_out

PREFIX = torch.ones(2, 3, dtype=torch.int64)
PROMPT = torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]])
PRESENT = torch.tensor([[True, True, True], [True, False, False]])


def test_text_goes_on_where_the_tokens_that_are_there_end() -> None:
    layout = lay_out(PREFIX, PROMPT, PRESENT, 2)
    assert layout.blocks is None
    assert layout.positions.shape == (1, 2, 3 + 6 + 4)
    assert layout.positions[0, 0].tolist() == list(range(13))
    assert layout.positions[0, 1, :5].tolist() == list(range(5))
    assert layout.positions[0, 1, -2:].tolist() == [5, 6], "behind two tokens of a slice, padding left out"


@pytest.mark.parametrize("options", [{}, {"mutual": "slices"}, {"placed": True}])
def test_what_follows_is_laid_out_as_if_it_had_been_part_of_the_prompt(options: dict[str, Any]) -> None:
    more = torch.ones(2, 2, dtype=torch.int64)
    whole = lay_out(PREFIX, torch.cat([PROMPT, more], dim=1), PRESENT, 4, **options)
    step = lay_out(PREFIX, PROMPT, PRESENT, 4, **options).followed_by(more[:, :1]).followed_by(more[:, 1:])
    assert torch.equal(step.mask, whole.mask)
    assert torch.equal(step.positions, whole.positions)
    assert (step.blocks is None) == (whole.blocks is None)
    if step.blocks is not None:
        assert torch.equal(step.blocks, whole.blocks)
    second: Layout = step.of(torch.tensor([1, 1]))
    assert torch.equal(second.positions[:, 0], whole.positions[:, 1])


def test_tokens_of_a_slice_see_one_another() -> None:
    layout = lay_out(PREFIX, PROMPT, PRESENT, 2, mutual="slices")
    assert layout.blocks is not None
    assert layout.blocks[0].tolist() == [-1, -1, -1, 0, 0, 1, 1, 2, 2, -1, -1, -1, -1]


def test_a_whole_prompt_sees_itself_and_an_answer_does_not() -> None:
    layout = lay_out(PREFIX, PROMPT, None, 0, mutual="prompts").followed_by(torch.ones(2, 2, dtype=torch.int64))
    assert layout.blocks is not None
    assert layout.blocks[0].tolist() == [0] * 7 + [-1, -1]


def test_slices_stand_in_depth_as_the_frames_of_a_video() -> None:
    """Qwen2.5-VL counts a frame a step where a second has one token."""
    model = make_model("qwen2_5_vl")
    model.config.vision_config.tokens_per_second = 1
    slices, side = 2, 3
    kinds = torch.tensor([[0] * 3 + [2] * slices * side**2 + [0] * 4])
    merge = model.config.vision_config.spatial_merge_size
    grid = torch.tensor([[slices, side * merge, side * merge]])
    expected, _ = model.model.get_rope_index(torch.zeros_like(kinds), kinds, video_grid_thw=grid)
    layout = lay_out(PREFIX[:1], PROMPT[:1], torch.ones(1, slices, dtype=torch.bool), side**2, placed=True)
    assert torch.equal(layout.positions, expected)


def test_text_stands_behind_the_deepest_slice() -> None:
    layout = lay_out(PREFIX, PROMPT, PRESENT, 4, placed=True)
    assert layout.positions[:, 0, 3:15].max() == 3 + 2
    assert layout.positions[:, 0, 15].tolist() == [3 + 3] * 3, "three slices, two rows"
    assert layout.positions[:, 1, -2].tolist() == [3 + 2] * 3, "one slice, two rows"

"""The rules at their edges, for both presets."""

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from voxmoe.errors import LabelError, RecipeError
from voxmoe.vocabulary import SHAPES, VOLUME_BINS
from voxmoe.vqa.protocol import CODE_V3, PAPER_V2, PROTOCOLS, ROBUST, protocol_named


@pytest.mark.parametrize(
    ("voxels", "category"),
    [
        (1, "<1%"),
        (999, "<1%"),
        (1_000, "1-5%"),
        (4_999, "1-5%"),
        (5_000, "5-10%"),
        (9_999, "5-10%"),
        (10_000, "10-25%"),
        (24_999, "10-25%"),
        (25_000, "25-50%"),
        (49_999, "25-50%"),
        (50_000, "50-75%"),
        (74_999, "50-75%"),
        (75_000, "50-75%"),
        (99_999, "50-75%"),
    ],
)
def test_bins_of_volume_are_closed_below_and_open_above(voxels: int, category: str) -> None:
    assert PAPER_V2.volume_category(PAPER_V2.relative_volume(voxels, 100_000)) == category


@given(brain=st.integers(100, 2_000_000), edge=st.sampled_from((1, 5, 10, 25, 50)), off=st.integers(-1, 1))
def test_bins_are_exact_for_any_brain(brain: int, edge: int, off: int) -> None:
    voxels = edge * brain // 100 + off
    share = Fraction(100 * voxels, brain)
    expected = VOLUME_BINS[sum(share >= limit for limit in (1, 5, 10, 25, 50))]
    assert PAPER_V2.volume_category(PAPER_V2.relative_volume(voxels, brain)) == expected


@pytest.mark.parametrize(
    ("voxels", "relative", "category"),
    [
        (1, 0.0, "N/A"),
        (19, 0.0, "N/A"),
        (21, 0.01, "<1%"),
        (3_979, 0.99, "<1%"),
        (3_981, 1.0, "1-5%"),
        (20_000, 5.0, "5-10%"),
        (300_000, 75.0, "50-75%"),
    ],
)
def test_code_v3_scales_rounds_and_then_floors(voxels: int, relative: float, category: str) -> None:
    found = CODE_V3.relative_volume(voxels, 1_000_000)
    assert found == relative
    assert CODE_V3.volume_category(found) == category


def test_paper_v2_has_no_floor() -> None:
    assert PAPER_V2.relative_volume(1, 10_000_000) == 1e-5
    assert PAPER_V2.volume_category(1e-5) == "<1%"


@pytest.mark.parametrize(
    ("protocol", "core", "total", "category"),
    [
        ("paper-v2", 7, 10, "core with satellite lesions"),
        ("paper-v2", 700_000, 1_000_000, "core with satellite lesions"),
        ("paper-v2", 699_999, 1_000_000, "scattered lesions"),
        ("code-v3", 17, 20, "core with satellite lesions"),
        ("code-v3", 84, 100, "scattered lesions"),
    ],
)
def test_core_fraction_at_its_edge(protocol: str, core: int, total: int, category: str) -> None:
    assert PROTOCOLS[protocol].spread_category(2, core / total) == category


def test_one_component_is_a_single_lesion() -> None:
    assert PAPER_V2.spread_category(1, 1.0) == CODE_V3.spread_category(1, 1.0) == "single lesion"


@pytest.mark.parametrize(
    ("volume", "sphericity", "elongation", "category"),
    [
        (99.999, 0.9, 1.0, "focus"),
        (99.999, 0.1, 9.0, "focus"),
        (100.0, 0.85, 1.3, "round"),
        (100.0, 2.8, 0.0, "round"),
        (100.0, 0.85, 1.300001, "irregular"),
        (100.0, 0.849999, 1.3, "irregular"),
        (100.0, 0.849999, 1.300001, "oval"),
        (100.0, 0.60, 2.5, "oval"),
        (100.0, 0.599999, 2.5, "irregular"),
        (100.0, 0.60, 2.500001, "elongated"),
        (100.0, 0.1, 2.500001, "elongated"),
        (100.0, 0.99, 9.0, "elongated"),
    ],
)
def test_shapes_at_their_edges(volume: float, sphericity: float, elongation: float, category: str) -> None:
    assert PAPER_V2.shape_category(volume, sphericity, elongation) == category


@pytest.mark.parametrize(
    ("sphericity", "elongation", "category"),
    [
        (0.80, 1.4, "round"),
        (0.79, 1.4, "irregular"),
        (0.79, 1.41, "oval"),
        (0.50, 3.0, "oval"),
        (0.49, 3.0, "irregular"),
        (0.50, 3.01, "elongated"),
    ],
)
def test_shapes_of_code_v3(sphericity: float, elongation: float, category: str) -> None:
    assert CODE_V3.shape_category(100.0, sphericity, elongation) == category


@given(*[st.floats(0, 1e6)] * 3)
def test_every_lesion_has_a_shape(volume: float, sphericity: float, elongation: float) -> None:
    for protocol in PROTOCOLS.values():
        assert protocol.shape_category(volume, sphericity, elongation) in SHAPES


def test_presets_differ_where_paper_and_code_do() -> None:
    assert (PAPER_V2.connectivity, CODE_V3.connectivity) == (26, 6)
    assert (PAPER_V2.atlas, CODE_V3.atlas) == ("default", "aal")
    assert (PAPER_V2.brain_threshold, CODE_V3.brain_threshold) == (None, 1e-6)
    assert protocol_named("paper-v2") is PAPER_V2
    assert protocol_named("code-v3") is CODE_V3


def test_robust_is_the_papers_but_for_fragments_and_solid_voxels() -> None:
    changed = {"name", "fragment_mm3", "solid_voxels"}
    assert ROBUST.model_dump(exclude=changed) == PAPER_V2.model_dump(exclude=changed)
    assert (ROBUST.fragment_mm3, ROBUST.solid_voxels) == (10.0, True)
    assert {(one.fragment_mm3, one.solid_voxels) for one in (PAPER_V2, CODE_V3)} == {(0.0, False)}
    assert ROBUST.fragment_mm3 < ROBUST.focus_mm3, "what is left of fragments alone is a focus, whichever it is"
    assert protocol_named("robust") is ROBUST


def test_a_protocol_of_ones_own(tmp_path: Path) -> None:
    own = PAPER_V2.model_copy(update={"name": "mine", "connectivity": 18, "focus_mm3": 50.0, "fragment_mm3": 5.0})
    path = tmp_path / "mine.yaml"
    path.write_text("\n".join(f"{key}: {value}" for key, value in own.model_dump(exclude_none=True).items()))
    assert protocol_named(str(path)) == own


@pytest.mark.parametrize("text", [b"connectivity: 7", b"colour: blue", b"[1, 2", b"- 1", b"", b"\xff\xfen"])
def test_a_file_that_holds_no_protocol(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_bytes(text)
    with pytest.raises(RecipeError, match=r"mine\.yaml: not a protocol"):
        protocol_named(str(tmp_path / "mine.yaml"))


def test_an_unknown_rule_lists_the_known(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("colour: blue")
    with pytest.raises(RecipeError, match=r"colour: no such key; there are name, connectivity, .*, atlas$"):
        protocol_named(str(tmp_path / "mine.yaml"))


def test_an_unknown_protocol_lists_the_known() -> None:
    with pytest.raises(LabelError, match="no protocol is called 'paper-v9'; there are paper-v2, code-v3"):
        protocol_named("paper-v9")


def test_a_protocol_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        PAPER_V2.connectivity = 6  # type: ignore[misc]

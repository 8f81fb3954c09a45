"""A dataset's own words for its labels: those of a release are known again, all others are kept."""

from pathlib import Path

import pytest

from voxmoe.errors import LabelError
from voxmoe.imaging.label_tables import table_profile
from voxmoe.vocabulary import PROFILES, Label, Profile

SOURCE = Path("there/dataset.json")


def labels(table: dict[str, tuple[int, ...]]) -> tuple[Label, ...]:
    return table_profile("nnunet:x", table, SOURCE).labels


@pytest.mark.parametrize("profile", [one for one in PROFILES if not one.labels_from], ids=lambda profile: profile.name)
def test_the_names_of_a_release_are_known_again(profile: Profile) -> None:
    found = table_profile("bids:x", {"Background": (0,), **{one.name: (one.value,) for one in profile.labels}}, SOURCE)
    assert found.labels == profile.labels
    assert (found.name, found.labels_from) == ("bids:x", "there/dataset.json")
    assert found.by_value.keys() == profile.by_value.keys()


def test_the_decathlons_words_with_values_of_ones_own() -> None:
    assert labels({"background": (0,), "non-enhancing tumor": (1,), "oedema": (2,), "Enhancing tumour": (4,)}) == (
        Label(1, "NET", "Non-Enhancing Tumor"),
        Label(2, "ED", "Edema"),
        Label(4, "ET", "Enhancing Tumor"),
    )


def test_keys_mean_what_most_releases_mean_by_them() -> None:
    """Seven releases call NCR, ED and ET so; only GoAT calls them otherwise."""
    assert labels({"ED": (1,), "NCR": (2,), "et": (3,)}) == (
        Label(1, "ED", "Peritumoral Edema"),
        Label(2, "NCR", "Necrotic and Non-Enhancing Tumor Core"),
        Label(3, "ET", "Enhancing Tumor"),
    )


def test_one_unknown_name_leaves_all_as_they_are() -> None:
    assert labels({"bg": (0,), "ET": (1,), "Vessel": (2,)}) == (Label(1, "ET", "ET"), Label(2, "Vessel", "Vessel"))
    assert labels({"ET": (1,), "Enhancing Tumor": (2,)}) == (
        Label(1, "ET", "ET"),
        Label(2, "Enhancing Tumor", "Enhancing Tumor"),
    )


def test_regions_of_several_values() -> None:
    found = table_profile(
        "nnunet:x",
        {"background": (0,), "whole tumor": (1, 2, 3), "tumor core": (2, 3), "enhancing tumor": (3,)},
        SOURCE,
    )
    assert [(label.name, label.values) for label in found.labels] == [
        ("whole tumor", (1, 2, 3)),
        ("tumor core", (2, 3)),
        ("enhancing tumor", (3,)),
    ]
    assert found.by_value.keys() == {1, 2, 3}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "names no label but the background"),
        ({"background": (0,)}, "names no label but the background"),
        ({"a": (256,)}, "label 'a' has 256; whole values from 1 to 255"),
        ({"a": (-1,)}, "label 'a' has -1"),
        ({"a": (0, 1)}, "label 'a' has 0, 1"),
        ({"a": ()}, "label 'a' has no value"),
    ],
)
def test_tables_that_are_none(table: dict[str, tuple[int, ...]], message: str) -> None:
    with pytest.raises(LabelError, match=f"^there/dataset.json: {message}"):
        labels(table)

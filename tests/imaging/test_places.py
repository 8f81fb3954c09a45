"""A place is written and found again; a channel is told from its file and from its neighbours."""

from pathlib import Path

import pytest

from voxmoe.errors import StudyError
from voxmoe.files import sha256
from voxmoe.imaging.places import Channel, Place, below, claim, digests, file_of, place_at


@pytest.mark.parametrize(
    ("place", "written"),
    [
        (Path("/data/cohort/a/t1.nii.gz"), "a/t1.nii.gz"),
        (Path("/data/cohort/a#1/t1.nii"), "a#1/t1.nii"),
        (Path("/data/masks/seg.nii.gz"), "../masks/seg.nii.gz"),
        (Channel(Path("/data/cohort/imagesTr/x.nii.gz"), 0), "imagesTr/x.nii.gz#0"),
        (Channel(Path("/data/cohort/x.nii"), 12), "x.nii#12"),
    ],
)
def test_what_is_written_leads_back(place: Place, written: str) -> None:
    root = Path("/data/cohort")
    assert below(place, root) == written
    found = place_at(root, written)
    assert type(found) is type(place)
    assert file_of(found).resolve() == file_of(place)
    assert below(found, root) == written


def test_digests_tell_files_and_channels_apart(tmp_path: Path) -> None:
    one, copy, other = (tmp_path / name for name in ("one", "copy", "other"))
    one.write_bytes(b"1")
    copy.write_bytes(b"1")
    other.write_bytes(b"2")
    found = digests([one, copy, other, Channel(one, 0), Channel(one, 1), Channel(copy, 1)])
    assert found[one] == found[copy] == sha256(one)
    assert found[other] != found[one]
    assert found[Channel(one, 1)] == found[Channel(copy, 1)] == f"{sha256(one)}#1"
    assert len(set(found.values())) == 4


def test_a_role_is_claimed_once() -> None:
    places: dict[str, Place] = {}
    claim(places, "T1", Path("a/x_t1.nii"), "the T1 image of x")
    with pytest.raises(StudyError) as error:
        claim(places, "T1", Path("a/x_t1.nii.gz"), "the T1 image of x")
    assert str(error.value) == "a: x_t1.nii and x_t1.nii.gz both claim to be the T1 image of x; keep one of them"
    assert places == {"T1": Path("a/x_t1.nii")}

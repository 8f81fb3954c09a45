"""`voxmoe phantom --ct`: CTs, masks and truths on disk, and what does not go with it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from voxmoe.imaging.ct import read_ct
from voxmoe.imaging.torso import read_truths, volume_path
from voxmoe.imaging.volume import read_mask

Run = Callable[..., tuple[int, str, str]]


def test_a_cohort_of_cts(voxmoe: Run, tmp_path: Path) -> None:
    code, printed, told = voxmoe("phantom", tmp_path / "out", "--ct", "--n", 2, "--seed", 1, "--jobs", 1)
    assert (code, printed) == (0, "")
    assert f"2 CTs in {tmp_path / 'out'}" in told.replace("\n", "")
    truths = list(read_truths(tmp_path / "out"))
    assert [json.loads(line)["id"] for line in (tmp_path / "out/truth.jsonl").read_text().splitlines()] == [
        truth.id for truth in truths
    ]
    for truth in truths:
        volume = read_ct(tmp_path / "out" / volume_path(truth.id))
        mask = read_mask(tmp_path / "out/masks" / f"{truth.id}.nii.gz")
        assert volume.same_grid(mask)
        assert volume.spacing == pytest.approx(truth.spacing_mm, rel=1e-5)


@pytest.mark.parametrize(("option", "value"), [("--masks", "."), ("--profile", "gli")])
def test_what_is_about_brains_is_refused(voxmoe: Run, tmp_path: Path, option: str, value: str) -> None:
    code, _, told = voxmoe("phantom", tmp_path / "out", "--ct", option, value)
    assert code == 2
    assert f"{option}: for brain MRI; leave it out beside --ct" in told.replace("\n", " ")
    assert not (tmp_path / "out").exists()

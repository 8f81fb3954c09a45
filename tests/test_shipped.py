"""The model in the package: small, whole, silent about where it was made, and able to find lesions."""

import json
import re
from functools import cache

import numpy as np
import pytest

from voxmoe.answering import Answerer
from voxmoe.default import SHIPPED, shipped_model
from voxmoe.evaluation.segmented import dice
from voxmoe.imaging.layouts import profile_named
from voxmoe.imaging.phantoms import draw_phantom
from voxmoe.imaging.phantoms.phantom import Phantom
from voxmoe.model.consensus import Consensus
from voxmoe.segmenting import Segmenter
from voxmoe.vocabulary import NOT_ASKED, Task

PROFILES = ("gli-2024", "brats-2021")


@cache
def unseen(profile: str, index: int) -> Phantom:
    """A study of a seed that nothing learnt from."""
    return draw_phantom(profile_named(profile), seed=5000, index=index)


def test_it_is_there_and_small() -> None:
    assert shipped_model() == SHIPPED
    weights = SHIPPED / "model.safetensors"
    assert weights.stat().st_size < 32e6
    assert {path.suffix for path in SHIPPED.rglob("*") if path.is_file()} <= {
        ".safetensors",
        ".json",
        ".jsonl",
        ".yaml",
        ".md",
        ".jinja",
    }


def test_it_tells_nothing_of_the_machine_that_made_it() -> None:
    for path in SHIPPED.rglob("*"):
        if path.is_file() and path.suffix != ".safetensors" and path.name != "tokenizer.json":
            assert not re.search(r"(?<![\w.:/])/(work|home|root|tmp|Users)/", path.read_text()), path.name


def test_its_record_says_what_it_learnt_from() -> None:
    config = json.loads((SHIPPED / "config.json").read_text())
    assert tuple(config["settings"]["profiles"]) == PROFILES
    for record in (SHIPPED, SHIPPED / "eye", SHIPPED / "start"):
        manifest = json.loads((record / "manifest.json").read_text())
        steps = [json.loads(line) for line in (record / "training.jsonl").read_text().splitlines()]
        assert len(steps) == manifest["steps"]
        early, late = (np.mean([step["loss"] for step in part]) for part in (steps[:50], steps[-50:]))
        assert late < early


def test_its_consensus_is_there_and_weighs_its_labels() -> None:
    consensus = Consensus.beside(SHIPPED)
    assert consensus is not None
    assert set(consensus.labels) == {label.key for name in PROFILES for label in profile_named(name).labels}
    assert json.loads((SHIPPED / "manifest.json").read_text())["consensus"]["questions"] > 0
    assert Answerer.from_pretrained(SHIPPED).consensus is not None


@pytest.mark.parametrize("profile", PROFILES)
def test_its_eye_finds_the_lesions_of_unseen_phantoms(profile: str) -> None:
    segmenter, known = Segmenter.from_pretrained(SHIPPED), profile_named(profile)
    values = [value for label in known.labels for value in label.values]
    found = []
    for index in range(4):
        study = unseen(profile, index).study
        assert study.mask is not None
        found.append(dice(segmenter.segment(study, known).data, study.mask.data, values))
    assert np.mean(found) > 0.6


@pytest.mark.slow
def test_it_answers_about_a_study_and_refuses_what_no_scan_tells() -> None:
    answerer = Answerer.from_pretrained(SHIPPED)
    study = unseen("gli-2024", 0).study
    label = "Surrounding Non-enhancing FLAIR hyperintensity"
    answer = answerer.ask(study, f"How large is the {label}?")
    assert answer.out_of_scope < 0.5
    assert answer.categories[Task.VOLUME].name != NOT_ASKED
    assert all(0 <= answer.categories[task].probability <= 1 for task in (Task.VOLUME, Task.SHAPE, Task.SPREAD))
    refused = answerer.ask(study, f"Which chemotherapy would you recommend for the {label}?")
    assert refused.out_of_scope > 0.5

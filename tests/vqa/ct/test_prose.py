"""Every statement of a report, read back from its words, is true; normal organs are stated too."""

import re
from collections import Counter

import numpy as np
import pytest

from voxmoe.imaging.torso import Torso, TorsoTruth
from voxmoe.vqa.ct.prose import listed, report

NUMBERS = {"no": 0, "a": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
DENIED = r"\b(no|not|neither|without|free of)\b"


@pytest.fixture(scope="module")
def reports(torsos: list[Torso]) -> list[tuple[TorsoTruth, str]]:
    return [
        (torso.truth, report(torso.truth, np.random.default_rng([torso.truth.index, seed])))
        for torso in torsos
        for seed in range(8)
    ]


def said(text: str, words: str) -> bool | None:
    """Whether the report affirms something: None if it does not speak of it."""
    verdicts = set()
    for clause in re.split(r"[.;,]", text.lower()):
        if spoken := re.search(words, clause):
            verdicts.add(not re.search(DENIED, clause[: spoken.end()]))
    assert len(verdicts) < 2, f"contradiction about {words}: {text}"
    return verdicts.pop() if verdicts else None


def test_length_and_variety(reports: list[tuple[TorsoTruth, str]]) -> None:
    lengths = [len(text.split()) for _, text in reports]
    assert 40 <= min(lengths) <= max(lengths) <= 90
    assert len({text for _, text in reports}) > 0.95 * len(reports)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (r"emphysema", "emphysema"),
        (r"consolidation", "consolidation"),
        (r"coronary", "coronary calcification"),
    ],
)
def test_what_is_affirmed_is_there_and_what_is_denied_is_not(
    reports: list[tuple[TorsoTruth, str]], words: str, name: str
) -> None:
    for truth, text in reports:
        verdict = said(text, words)
        assert verdict in (None, truth.present(name)), text
        if truth.present(name):
            assert verdict is True, text


def test_sentences_of_each_organ(reports: list[tuple[TorsoTruth, str]]) -> None:
    """Organ by organ, in their order."""
    for truth, text in reports:
        _, nodules, lungs, pleura, heart, aorta, liver, spleen, kidneys = text.lower().rstrip(".").split(". ")
        assert ("no " in nodules) == (not truth.of("nodule")), nodules
        assert ("consolidation in" in lungs) == truth.present("consolidation"), lungs
        assert ("emphysem" in lungs and "no consolidation or" not in lungs and "nor emphysema" not in lungs) == (
            truth.present("emphysema")
        ), lungs
        assert any(word in pleura for word in ("no pleural", "clear", "free")) == (not truth.of("effusion")), pleura
        assert ("enlarged" in heart or "cardiomegaly" in heart) == truth.cardiomegaly, heart
        assert ("without" in heart or "no coronary" in heart) == (not truth.of("coronary calcification")), heart
        assert any(word in aorta for word in ("not ", "no ")) == (not truth.of("aortic calcification"))
        assert ("fatty infiltration" in liver) == truth.fatty_liver, liver
        assert ("cyst" in liver) == truth.present("liver cyst"), liver
        assert ("metasta" in liver) == truth.present("liver metastasis"), liver
        assert any(word in spleen for word in ("not ", "normal")) == (not truth.splenomegaly), spleen
        assert ("stone" in kidneys and not re.search(r"(no renal|without) stone", kidneys)) == truth.present(
            "kidney stone"
        ), kidneys
        cyst = "cyst" in kidneys and not re.search(r"no renal cyst|stone or cyst", kidneys)
        assert cyst == truth.present("kidney cyst"), kidneys


def test_numbers_sizes_and_places(reports: list[tuple[TorsoTruth, str]]) -> None:
    compared = Counter()
    for truth, text in reports:
        _, nodules, lungs, pleura, _, _, liver, _, kidneys = text.lower().rstrip(".").split(". ")
        if largest := sorted(truth.of("nodule"), key=lambda each: -(each.diameter_mm or 0)):
            number = re.search(r"\b(two|three|four)\b", nodules)
            assert len(largest) == (NUMBERS[number.group()] if number else 1)
            assert f"{largest[0].diameter_mm:.0f} mm" in nodules
            assert f"{largest[0].side} {largest[0].zone} lung" in nodules
            assert ("calcified" in nodules) == largest[0].calcified
            compared["nodules"] += 1
        for lesion in truth.of("consolidation"):
            assert f"consolidation in the {lesion.side} {lesion.zone} lung" in lungs
            compared["consolidation"] += 1
        effusions = truth.of("effusion")
        for lesion in effusions:
            assert lesion.grade in pleura
            if len(effusions) == 1:
                assert str(lesion.side) in pleura
            compared["effusions"] += 1
        if len(effusions) == 2 and effusions[0].grade != effusions[1].grade:
            assert re.search(rf"{truth.of('effusion', 'right')[0].grade} (on the )?right", pleura)
        for name, words in (("liver cyst", r"cysts?"), ("liver metastasis", r"metastas[ei]s")):
            if lesions := truth.of(name):
                found = re.search(rf"(\w+) {words} (?:of|up to) (\d+) mm", liver)
                assert found, liver
                assert NUMBERS[found[1]] == len(lesions)
                assert int(found[2]) == round(max(each.diameter_mm or 0 for each in lesions))
                compared[name] += 1
        for name, words in (("kidney stone", "stone"), ("kidney cyst", "cyst")):
            sides = truth.sides(name)
            if sides:
                where = f"{words}s in both kidneys" if len(sides) == 2 else f"{words} in the {sides[0]} kidney"
                assert where in kidneys
                compared[name] += 1
    assert min(compared.values()) > 10
    assert len(compared) == 7


def test_lists() -> None:
    assert [listed(parts) for parts in (["a"], ["a", "b"], ["a", "b", "c"])] == ["a", "a and b", "a, b and c"]

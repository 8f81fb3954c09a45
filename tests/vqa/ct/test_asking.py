"""What is asked about torsos is true of them, well formed, and cannot be guessed from the question."""

from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest

from voxmoe.errors import DatasetError
from voxmoe.imaging.torso import Torso, TorsoTruth
from voxmoe.imaging.torso.plan import Phase
from voxmoe.vocabulary import CTTask
from voxmoe.vqa.ct.asking import PER_KIND, exchanges_of, slice_exchanges
from voxmoe.vqa.ct.exchange import Exchange

IMAGE = "volumes/x.nii.gz"


def topic(exchange: Exchange) -> str:
    return exchange.id.split(":")[-2]


def derived(truth: TorsoTruth, exchange: Exchange) -> str:
    """The answer, from the truth's lesions alone, by another way than the module's."""
    kinds = Counter(lesion.name for lesion in truth.lesions)
    sides = {(lesion.name, lesion.side) for lesion in truth.lesions}
    big_heart, big_spleen = truth.cardiothoracic_ratio > 0.5, truth.volumes_mm3["spleen"] > 250_000

    def both(one: object, other: object, *names: str) -> str:
        return names[(not one) * 2 + (not other)]

    def cut(diameter: float, *ends: float) -> int:
        return int(np.searchsorted(ends, diameter, side="right"))

    def sided(name: str) -> str:
        names = ("both sides", "the right side", "the left side", "neither side")
        return both((name, "right") in sides, (name, "left") in sides, *names)

    def only(*pairs: tuple[str, object]) -> str:
        there = [name for name, present in pairs if present]
        assert len(there) < 2
        return there[0] if there else "no abnormality"

    def place(name: str) -> str:
        lesion = max((each for each in truth.lesions if each.name == name), key=lambda each: each.diameter_mm or 0)
        return f"{lesion.side} {lesion.zone} lung"

    def biggest(*names: str) -> float:
        return round(max(each.diameter_mm or 0 for each in truth.lesions if each.name in names))

    stone, cyst = kinds["kidney stone"], kinds["kidney cyst"]
    coronary, aortic = kinds["coronary calcification"], kinds["aortic calcification"]
    match exchange.kind, topic(exchange):
        case "phase", _:
            return {
                Phase.NONE: "non-contrast", Phase.ARTERIAL: "arterial phase", Phase.VENOUS: "portal venous phase",
            }[truth.phase]  # fmt: skip
        case "organ", "enlargement":
            names = ("both heart and spleen", "the heart", "the spleen", "neither heart nor spleen")
            return both(big_heart, big_spleen, *names)
        case "organ", "cysts":
            names = ("both liver and kidney", "the liver", "a kidney", "neither liver nor kidney")
            return both(kinds["liver cyst"], cyst, *names)
        case "organ", "calcified-vessels":
            names = ("both coronary arteries and aorta", "the coronary arteries", "the aorta", "neither")
            return both(coronary, aortic, *names)
        case "abnormality", "lungs":
            there = [("a nodule", kinds["nodule"]), ("consolidation", kinds["consolidation"])]
            return only(*there, ("emphysema", kinds["emphysema"]))
        case "abnormality", "liver":
            there = [("a cyst", kinds["liver cyst"]), ("a metastasis", kinds["liver metastasis"])]
            return only(*there, ("fatty infiltration", truth.fatty_liver))
        case "abnormality", "heart":
            names = ("enlargement and coronary calcification", "enlargement", "coronary calcification")
            return both(big_heart, coronary, *names, "no abnormality")
        case "abnormality", "kidneys":
            return both(stone, cyst, "a stone and a cyst", "a stone", "a cyst", "no abnormality")
        case "location", "nodule" | "consolidation" as name:
            return place(name)
        case "location", name:
            return sided(name.replace("-", " "))
        case "size", "nodule":
            names = ("less than 14 mm", "14 to 19 mm", "19 to 24 mm", "24 mm or more")
            return names[cut(biggest("nodule"), 14, 19, 24)]
        case "size", "liver":
            names = ("less than 24 mm", "24 to 32 mm", "32 to 40 mm", "40 mm or more")
            return names[cut(biggest("liver cyst", "liver metastasis"), 24, 32, 40)]
        case "size", name:
            found = [each for each in truth.lesions if each.name == "effusion" and each.side == name.split("-")[0]]
            return ("small", "moderate", "large")[cut(found[0].share or 0, 0.1, 0.3)] if found else "none present"
        case "count", "nodule":
            return str(kinds["nodule"])
        case "count", "liver":
            return str(kinds["liver cyst"] + kinds["liver metastasis"])
        case "presence", name:
            extra = {"cardiomegaly": big_heart, "splenomegaly": big_spleen, "fatty-liver": truth.fatty_liver}
            return "yes" if extra.get(name, kinds[name.replace("-", " ")]) else "no"
    raise AssertionError(exchange)


@pytest.fixture(scope="module")
def asked(torsos: list[Torso]) -> list[tuple[Torso, Exchange]]:
    """Of each torso under ten seeds."""
    return [
        (torso, exchange)
        for torso in torsos
        for seed in range(10)
        for exchange in exchanges_of(torso.truth, IMAGE, f"{torso.truth.id}-{seed}", seed)
    ]


def test_every_answer_is_true(asked: list[tuple[Torso, Exchange]]) -> None:
    questions = [(torso, each) for torso, each in asked if each.task is not CTTask.REPORT]
    for torso, exchange in questions:
        assert exchange.answer == derived(torso.truth, exchange), exchange
    assert {exchange.kind for _, exchange in questions} == PER_KIND.keys()
    assert len({(exchange.kind, topic(exchange)) for _, exchange in questions}) == 32


def test_closed_questions_have_open_twins_and_volumes_one_report(asked: list[tuple[Torso, Exchange]]) -> None:
    assert len({exchange.id for _, exchange in asked}) == len(asked)
    by_name = defaultdict(dict)
    for _, exchange in asked:
        by_name[exchange.id.rpartition(":")[0]][exchange.id.rpartition(":")[2]] = exchange
        assert (exchange.image, exchange.source, exchange.slice) == (IMAGE, "phantom", None)
    reports = 0
    for forms in by_name.values():
        if "report" in forms:
            reports += 1
            assert forms.keys() == {"report"}
            continue
        closed, twin = forms["closed"], forms["open"]
        assert (closed.task, twin.task) == (CTTask.CLOSED, CTTask.OPEN)
        assert closed.answer == twin.answer
        assert len(closed.choices) == (2 if closed.kind == "presence" else 4)
    assert reports == 240


def test_the_same_seed_asks_the_same(torsos: list[Torso]) -> None:
    first, again, other = (exchanges_of(torsos[0].truth, IMAGE, "p", seed) for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_letters_are_balanced(asked: list[tuple[Torso, Exchange]]) -> None:
    for count in (2, 4):
        letters = Counter(each.letter for _, each in asked if len(each.choices) == count)
        total = sum(letters.values())
        assert total > 500
        assert max(letters.values()) / total < 1 / count + 0.05


def test_no_kind_can_be_guessed(asked: list[tuple[Torso, Exchange]]) -> None:
    """The most frequent answer to each question, a mean over the questions of its kind; 24 patients are few."""
    bounds = {"phase": 0.6, "organ": 0.5, "abnormality": 0.5, "location": 0.5, "size": 0.55, "count": 0.45}
    answers: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for _, exchange in asked:
        if exchange.task is CTTask.CLOSED:
            answers[exchange.kind, topic(exchange)][exchange.answer] += 1
    for kind, bound in {**bounds, "presence": 0.65}.items():
        counts = [counter for (of, _), counter in answers.items() if of == kind]
        share = sum(max(counter.values()) for counter in counts) / sum(sum(counter.values()) for counter in counts)
        assert share < bound, (kind, share)


def test_choices_of_a_question_do_not_depend_on_its_answer(asked: list[tuple[Torso, Exchange]]) -> None:
    offered = defaultdict(set)
    for _, exchange in asked:
        if exchange.choices and exchange.kind != "count":
            offered[exchange.kind, topic(exchange)].add(frozenset(exchange.choices))
    assert all(len(sets) == 1 for sets in offered.values())


def visible(torso: Torso, at: int) -> dict[str, float]:
    """mm2 of each label in a slice, by its key."""
    from voxmoe.imaging.torso import LABELS

    pixel = torso.truth.spacing_mm[0] * torso.truth.spacing_mm[1]
    return {label.key: float((torso.labels[:, :, at] == label.value).sum() * pixel) for label in LABELS}


ORGAN_WORDS = {
    "lungs": "lung", "central airways": "airway", "heart": "heart", "aorta": "aorta", "liver": "liver",
    "spleen": "spleen", "kidneys": "kidney", "stomach": "stomach",
}  # fmt: skip
FINDING_WORDS = {
    "a pulmonary nodule": "nodule", "a pleural effusion": "effusion", "consolidation": "consolidation",
    "emphysema": "emphysema", "coronary calcification": "coronary calcification",
    "aortic calcification": "aortic calcification", "a liver cyst": "liver cyst",
    "a liver metastasis": "liver metastasis", "a kidney stone": "kidney stone", "a kidney cyst": "kidney cyst",
}  # fmt: skip


def shown(area: dict[str, float], name: str) -> float:
    return sum(covered for key, covered in area.items() if key.split(",")[0] == name)


def found(torso: Torso, area: dict[str, float], words: str) -> bool:
    if words == "a fatty liver":
        return torso.truth.fatty_liver and shown(area, "liver") > 0
    return shown(area, FINDING_WORDS[words]) > 0


def told(text: str, known: list[str]) -> list[str]:
    return [words for words in known if words in text]


@pytest.fixture(scope="module")
def sliced(torsos: list[Torso]) -> list[tuple[Torso, Exchange]]:
    return [
        (torso, exchange)
        for torso in torsos
        for exchange in slice_exchanges(torso.truth, torso.labels, IMAGE, torso.truth.id, 1, 10)
    ]


def test_answers_about_slices_are_those_of_the_labels(sliced: list[tuple[Torso, Exchange]]) -> None:
    every = ["a fatty liver", *FINDING_WORDS]
    for torso, exchange in sliced:
        assert exchange.slice is not None
        area = visible(torso, exchange.slice)
        organs = {words: shown(area, name) for words, name in ORGAN_WORDS.items()}
        findings = [words for words in every if found(torso, area, words)]
        match exchange.kind, topic(exchange):
            case "phase", _:
                assert exchange.answer == derived(torso.truth, exchange)
            case "organ", "organ":
                assert [choice for choice in exchange.choices if organs[choice]] == [exchange.answer]
            case "organ", "organs":
                listed = exchange.answer.replace(" and ", ", ").split(", ")
                assert all(organs[words] for words in listed)
                assert all(organs[words] < 300 for words in organs.keys() - set(listed))
            case "abnormality", "abnormality":
                assert findings == ([] if exchange.answer == "no abnormality" else [exchange.answer])
            case "abnormality", "abnormalities":
                expected = [] if exchange.answer == "no abnormality" else told(exchange.answer, every)
                assert findings == expected
            case "location", name:
                side = exchange.answer.split()[1]
                assert area[f"{name.replace('-', ' ')}, {side}"] > 0
                other = {"right": "left", "left": "right"}[side]
                assert area[f"{name.replace('-', ' ')}, {other}"] < 40
            case "presence", _:
                (words,) = told(exchange.question, every)
                assert exchange.answer == ("yes" if words in findings else "no")
            case "caption", _:
                pass
            case _:
                raise AssertionError(exchange)


def test_captions_name_what_is_visible_and_nothing_else(sliced: list[tuple[Torso, Exchange]]) -> None:
    captions = [(torso, exchange) for torso, exchange in sliced if exchange.kind == "caption"]
    assert len(captions) == 10 * len({torso.truth.id for torso, _ in captions})
    every = ["a fatty liver", *FINDING_WORDS]
    for torso, exchange in captions:
        assert exchange.task is CTTask.REPORT
        assert exchange.answer.count(".") == 1
        assert exchange.slice is not None
        area = visible(torso, exchange.slice)
        named = told(exchange.answer, every)
        assert all(found(torso, area, words) for words in named), exchange.answer
        if "no abnormality" in exchange.answer:
            assert not any(found(torso, area, words) for words in every)
        organs = exchange.answer.split(";")[0]
        named = [words for words in ORGAN_WORDS if f"{words}," in organs or f"{words} and" in organs]
        assert all(shown(area, ORGAN_WORDS[words]) > 0 for words in named), exchange.answer
        for side in ("right", "left"):
            for words, name in FINDING_WORDS.items():
                if f"{words} on the {side}" in exchange.answer:
                    assert area[f"{name}, {side}"] > 0


def test_presence_in_slices_is_balanced_and_slices_show_findings(sliced: list[tuple[Torso, Exchange]]) -> None:
    answers = Counter(each.answer for _, each in sliced if each.kind == "presence" and each.task is CTTask.CLOSED)
    assert max(answers.values()) / sum(answers.values()) < 0.65
    organs = Counter(each.answer for _, each in sliced if topic(each) == "organ")
    assert max(organs.values()) / sum(organs.values()) < 0.45
    reached = [
        any(lesion.slices[0] <= exchange.slice <= lesion.slices[1] for lesion in torso.truth.lesions)
        for torso, exchange in sliced
        if exchange.kind == "caption" and torso.truth.lesions and exchange.slice is not None
    ]
    assert np.mean(reached) > 0.45


def test_slices_differ_and_wrong_labels_are_refused(torsos: list[Torso]) -> None:
    truth, labels = torsos[1].truth, torsos[1].labels
    every = slice_exchanges(truth, labels, IMAGE, "p", 0, 32)
    assert {exchange.slice for exchange in every} == set(range(32))
    assert len({exchange.id for exchange in every}) == len(every)
    assert every == slice_exchanges(truth, labels, IMAGE, "p", 0, 32)
    for wrong, count in ((labels[:-1], 4), (labels, 33), (labels, 0)):
        with pytest.raises(DatasetError, match="give labels of that shape, and ask for 1 to 32"):
            slice_exchanges(truth, wrong, IMAGE, "p", 0, count)


def test_a_healthy_patient_is_told_to_be_so(torsos: list[Torso]) -> None:
    volumes = {**torsos[0].truth.volumes_mm3, "spleen": 180_000.0}
    healthy = replace(torsos[0].truth, lesions=(), fatty_liver=False, cardiothoracic_ratio=0.42, volumes_mm3=volumes)
    exchanges = [each for seed in range(30) for each in exchanges_of(healthy, IMAGE, "p", seed)]
    questions = [each for each in exchanges if each.kind not in ("phase", "report")]
    nothing = {
        "no", "0", "no abnormality", "neither", "neither side", "none present", "neither heart nor spleen",
        "neither liver nor kidney",
    }  # fmt: skip
    assert {each.answer for each in questions} == nothing

"""Reading answers: phrasings that mislead, and every answer that the grammar can render."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxmoe.evaluation.predictions import NO_ANSWER, from_texts
from voxmoe.evaluation.text_answers import read_answer
from voxmoe.vocabulary import (
    ABSENT,
    CLASSES,
    NO_REGION,
    PROFILES,
    REGIONS,
    SHAPES,
    SPREADS,
    TASK_COMBINATIONS,
    VOLUME_BINS,
    Kind,
    Task,
)
from voxmoe.vqa.sampling import listed
from voxmoe.vqa.wordings.grammar import GRAMMAR

LABEL = "Enhancing Tissue"
GONE = dict.fromkeys(map(str, Task), "N/A")


def said(text: str, label: str = LABEL) -> dict[str, str]:
    """Task -> its terms, joined."""
    return {str(task): ", ".join(terms) for task, terms in read_answer(text, label).terms.items()}


@pytest.mark.parametrize(
    ("text", "volume"),
    [
        ("The volume is <1%.", "<1%"),
        ("The volume is < 1 % of the brain.", "<1%"),
        ("It takes up less than one percent of the brain.", "<1%"),
        ("It is under 1 per cent.", "<1%"),
        ("It is 0.3%.", "<1%"),
        ("The volume is 1-5%.", "1-5%"),
        ("The volume is 1–5%.", "1-5%"),
        ("The volume is 1 – 5 %.", "1-5%"),
        ("The volume is 1—5%.", "1-5%"),
        ("The volume is between 1-5%.", "1-5%"),
        ("The volume is between 1 and 5%.", "1-5%"),
        ("The volume is 1 to 5 %.", "1-5%"),
        ("The volume is from 1% to 5% of the brain.", "1-5%"),
        ("one to five percent", "1-5%"),
        ("It is about 3%.", "1-5%"),
        ("It is 5%.", "5-10%"),  # bins are closed below
        ("It is over 50%.", "50-75%"),  # and the last one is open above
        ("1-5%. 1-5%. 1-5%.", "1-5%"),
        ("The lesion is not large: <1%.", "<1%"),
        ("The lesion is not large, <1% of the brain.", "<1%"),
        ("I am 90% sure that the volume is 1-5%.", "1-5%"),
        ("The volume is 1-5% (confidence: 80%).", "1-5%"),
        ("It is between one and five percent of the brain.", "1-5%"),
        ("It is between about 1 and 5%.", "1-5%"),
        ("one-to-five percent", "1-5%"),
        ("It is 5-1%.", "1-5%"),
        ("two to five percent", "1-5%"),
        ("thirty-five percent", "25-50%"),
        ("It is a fraction of one percent.", "<1%"),
        ("It is nearly 1%.", "<1%"),
        ("It is 1% or less.", "<1%"),
        ("It is 50% or more.", "50-75%"),
        ("It is 3% of the total brain volume.", "1-5%"),
        ("There is a 10% risk of seizures, and it occupies 1-5% of the brain.", "1-5%"),
        ("There is a high probability that it is 1-5% of the brain.", "1-5%"),
        ("It grew by 20% to 3%.", "1-5%"),
        ("It is 5-10% of the tumor-bearing hemisphere.", "5-10%"),
        ("It is not less than 1%.", None),
        ("It is more than 1%.", None),
        ("It is 1-10%.", None),
        ("It is 1-5% or 5-10%.", None),
        ("It is over 25%.", None),
        ("It is 5% or more.", None),
        ("It exceeds 5%.", None),
        ("It is in excess of 5%, or upwards of 10%.", None),
        ("It is almost five percent.", None),
        ("It is zero point five percent.", None),
        ("It is not N/A.", None),
        ("5-year survival is 10%.", None),
        ("There is a 30% risk of progression.", None),
        ("The risk of progression is 30%.", None),
        ("The largest one makes up 80% of the total.", None),
        ("It makes up 80% of the lesion, and 60% of the tumour.", None),
        ("It is 80% of the Enhancing Tissue.", None),
        ("1-5% of all patients survive.", None),
        ("It shrank by 50%.", None),
        ("The volume is not 1-5%.", None),
        ("The volume is N/A. The volume is 1-5%.", None),
        ("The volume is 1-5", None),  # cut off
        ("The volume is 10-2", None),
        ("The overall volume of Enhancing Tissue is <1", None),
    ],
)
def test_volume(text: str, volume: str | None) -> None:
    assert said(text) == ({} if volume is None else {"volume": volume})


@pytest.mark.parametrize(
    ("text", "regions"),
    [
        ("temporal lobe", "temporal"),
        ("The bitemporal lesion", "temporal"),
        ("frontotemporal and temporo-parietal", "frontal, parietal, temporal"),
        ("fronto-parietal", "frontal, parietal"),
        ("insular cortex, brain stem, cerebellar", "brainstem, cerebellum, insula"),
        ("brain-stem", "brainstem"),
        ("FRONTAL LOBE\nAND\nBRAIN\nSTEM", "brainstem, frontal"),
        ("It is not only frontal but also parietal.", "frontal, parietal"),
        ("It is located in the parietal lobe with no involvement of the frontal lobe.", "parietal"),
        ("It does not involve the frontal, parietal or occipital lobes. It lies in the temporal lobe.", "temporal"),
        ("It spares the frontal lobe and involves the parietal lobe.", "parietal"),
        ("The frontal lobe is spared, the parietal lobe is involved.", "parietal"),
        ("The frontal, parietal and temporal lobes are spared, but the insula is involved.", "insula"),
        ("The frontal lobe is involved, parietal and temporal lobes are spared.", "frontal"),
        ("The frontal lobe is involved and the parietal lobe is not involved.", "frontal"),
        ("The frontal lobe shows no involvement, whereas the parietal lobe does.", "parietal"),
        ("It is not in the frontal lobe, it is in the parietal lobe.", "parietal"),
        ("It is absent from the frontal lobe but present in the parietal lobe.", "parietal"),
        ("It involves the right frontal lobe but not the left frontal lobe.", "frontal"),
        ("It is neither frontal nor temporal but occipital.", "occipital"),
        ("Frontal: no, parietal: yes.", "parietal"),
        ("Except for the frontal lobe, the parietal lobe is involved.", "parietal"),
        ("The lesion does not extend beyond the frontal lobe.", "frontal"),
        ("It is limited to the frontal lobe, excluding the insula.", "frontal"),
        ("It is located in no labelled region.", NO_REGION),
        ("No labeled region.", NO_REGION),
        (
            "All regions except insula are touched: frontal, limbic, parietal, temporal.",
            "frontal, limbic, parietal, temporal",
        ),
        ("All regions except the insula are involved, namely frontal and limbic.", "frontal, limbic"),
        ("All lobes except the insula and the occipital lobe are involved: frontal, parietal.", "frontal, parietal"),
        ("All lobes but the occipital: frontal, parietal, temporal.", "frontal, parietal, temporal"),
        ("All regions were examined, but the insula is involved.", "insula"),
        ("With the exception of the insula, it involves the temporal lobe.", "temporal"),
        ("Apart from the insula, it involves the temporal lobe.", "temporal"),
        ("It involves the temporal lobe, aside from the insula.", "temporal"),
        ("Aside from the insula, it also involves the temporal lobe.", "insula, temporal"),
        ("It involves the temporal lobe save for the insula.", "temporal"),
        ("Contrary to the frontal lobe, the insula is involved.", "insula"),
        ("Unlike the frontal lobe, the insula is involved.", "insula"),
        ("The frontal lobe is normal, the insula is affected.", "insula"),
        ("The insula is affected, the frontal lobe is normal.", "insula"),
        ("The insula is not touched; the frontal lobe is.", "frontal"),
        ("It avoids the insula and invades the frontal lobe.", "frontal"),
        ("It lies in the frontal lobe, adjacent to the insula.", "frontal"),
        ("It is near the midline in the frontal lobe.", "frontal"),
        ("It may involve the frontal, parietal, and temporal lobes.", "frontal, parietal, temporal"),
        ("The insula is affected, with no evidence of involvement of the limbic, or frontal, lobe.", "insula"),
        ("It occupies 30% of the frontal lobe.", "frontal"),
        ("Frontal: none. Parietal: yes.", "parietal"),
        ("The focus is on the frontal lobe.", "frontal"),
        ("It is a focus of enhancement in the frontal lobe.", "frontal"),
        ("The frontal lesion is unlikely to be round.", "frontal"),
        ("It is frontal. Midline shift is absent.", "frontal"),
        ("It is frontal. No lesion is seen elsewhere.", "frontal"),
        ("It is frontal. Mass effect: none.", "frontal"),
        ("Regions: none but the frontal lobe.", "frontal"),
        ("None of it is in the frontal lobe.", None),
        ("Every region apart from the insula is involved.", None),
        ("All regions are involved but the insula.", None),
        ("All regions but the brainstem, the insula and the cerebellum are involved.", None),
        ("Everything but the brainstem is involved.", None),
        ("It does not involve: frontal, parietal.", None),
        ("All regions minus the insula.", None),
        ("The insula is free of tumour.", None),
        ("The insula is not among them.", None),
        ("It fails to reach the insula.", None),
        ("It stops short of the insula.", None),
        ("It is anterior to the occipital lobe.", None),
        ("It is nowhere in the insula.", None),
        ("There is little evidence of insular involvement.", None),
        ("It is located in no labelled region other than the frontal.", None),
        ("The insula does not appear to be affected.", None),
        ("Nothing is seen in the frontal lobe.", None),
        ("There is an absence of frontal involvement.", None),
        ("There is no involvement of the frontal lobe.", None),
        ("It does not involve the frontal or parietal lobes.", None),
        ("The regions that are not involved are the frontal and parietal lobes.", None),
        ("Regions not involved: frontal, parietal.", None),
        ("Nothing is seen outside the frontal lobe.", None),
        ("Enhancing Tissue is not seen in the frontal lobe.", None),
        ("It is frontal. It is not frontal.", None),
        ("It involves the frontal or temporal lobe.", None),
        ("The temporal evolution of the temporal horn.", None),
        ("It is located in front", None),  # cut off
        ("The location is not identified.", None),
    ],
)
def test_region(text: str, regions: str | None) -> None:
    assert said(text) == ({} if regions is None else {"region": regions})


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("THE SHAPE OF THE ENHANCING TISSUE IS ROUND.", "round"),
        ("It is irregularly shaped.", "irregular"),
        ("The shape isn't round but oval.", "oval"),
        ("The shape is not round, but irregular.", "irregular"),
        ("It is irregular rather than round.", "irregular"),
        ("Rather than oval, it is round.", "round"),
        ("Neither round nor oval; irregular.", "irregular"),
        ("It is not oval, round, or irregular, but elongated.", "elongated"),
        ("It is oval, not round.", "oval"),
        ("The shape is round—not oval.", "round"),
        ("round (not oval)", "round"),
        ("No, round.", "round"),
        ("There's no doubt that it's round.", "round"),
        ("It is beyond doubt round.", "round"),
        ("The shape is characterized as round.", "round"),
        ("Its shape is round and its distribution is irregular.", "round"),
        ("Is it round or oval? It is oval.", "oval"),
        ("It is unlikely to be round.", None),
        ("It is hardly round.", None),
        ("It is barely oval.", None),
        ("It is scarcely elongated.", None),
        ("It is nothing like round.", None),
        ("It is doubtful that it is round.", None),
        ("None of its edges are round.", None),
        ("It is not round.", None),
        ("It can't be round.", None),
        ("It is non-round.", None),
        ("Round or oval.", None),
        ("round to oval", None),
        ("elongated/irregular", None),
        ("It is not only round but also oval.", None),
        ("It is irregularly shaped and ovoid.", None),
        ("Its distribution is irregular.", None),
        ("It's unclear whether it is round.", None),
        ("A round of chemotherapy; focus on the surrounding tissue around it.", None),
        ("The shape of Enhancing Tissue is irreg", None),  # cut off
    ],
)
def test_shape(text: str, shape: str | None) -> None:
    assert said(text) == ({} if shape is None else {"shape": shape})


@pytest.mark.parametrize(
    ("text", "spread"),
    [
        ("Core with satellite lesions.", "core with satellite lesions"),
        ("core with\nsatellite\nlesions", "core with satellite lesions"),
        ("A single lesion with satellites.", "core with satellite lesions"),
        ("A single lesion without satellites.", "single lesion"),
        ("A single lesion with no satellite lesions.", "single lesion"),
        ("There is one lesion.", "single lesion"),
        ("It has scattered lesions rather than a single lesion.", "scattered lesions"),
        ("Scattered lesions, no dominant core.", "scattered lesions"),
        ("Satellites: none. It is a single lesion.", "single lesion"),
        ("A solitary mass with neither satellites nor scattered lesions.", "single lesion"),
        (
            "The largest lesion makes up 80% of the total; it is a core with satellite lesions.",
            "core with satellite lesions",
        ),
        ("It is not just a single lesion.", None),
        ("It is more than a single lesion.", None),
        ("It is not a single lesion.", None),
        ("It is more than one lesion.", None),
        ("single lesion or scattered lesions", None),
        ("The lesion is free of satellites.", None),
        ("core with satel", None),  # cut off
        ("A single lesion with satel", None),
        ("A single lesion with", None),
    ],
)
def test_spread(text: str, spread: str | None) -> None:
    assert said(text) == ({} if spread is None else {"spread": spread})


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("N/A", GONE),
        ("n/a.", GONE),
        ("Enhancing Tissue is not present.", GONE),
        ("The enhancing tissue is absent in this study.", GONE),
        ("No enhancing tissue is seen.", GONE),
        ("There is no evidence of Enhancing Tissue.", GONE),
        ("Enhancing tissue cannot be seen.", GONE),
        ("The Enhancing Tissue is absent, so its shape is N/A.", GONE),
        ("Enhancing Tissue is present, not absent.", {}),
        ("Its volume and shape are N/A.", {"volume": "N/A", "shape": "N/A"}),
        ("The volume is N/A, and its shape is round.", {"volume": "N/A", "shape": "round"}),
        ("The shape is round, and its volume is N/A.", {"volume": "N/A", "shape": "round"}),
        ("It is characterized as N/A.", {"spread": "N/A"}),
        ("None.", GONE),
        ("Enhancing Tissue: none", GONE),
        ("A second lesion is not seen.", {}),
        ("Survival: N/A.", {}),
        ("None of the nine regions is involved.", {}),
        (
            "The volume is 1-5%, and it is located in the frontal lobe. None of the other regions are involved.",
            {"volume": "1-5%", "region": "frontal"},
        ),
        ("<1%, N/A, round, single lesion", {"volume": "<1%", "shape": "round", "spread": "single lesion"}),
        ("Volume: N/A\nRegion: N/A\nShape: round\n", {"volume": "N/A", "region": "N/A", "shape": "round"}),
    ],
)
def test_absent(text: str, answer: dict[str, str]) -> None:
    assert said(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("I cannot provide information about the shape of Enhancing Tissue.", {}),
        ("I cannot say whether it is round, oval, or irregular.", {}),
        ("I cannot say if it is round or if it is oval.", {}),
        ("The volume and shape are outside my scope.", {}),
        ("The volume cannot be determined.", {}),
        ("I do not have information on the genetics of the frontal lesion.", {}),
        ("I can offer no assessment of the frontal lesion.", {}),
        ("Information on genetics is not available.", {}),
        ("I cannot see the images.", {}),
        ("It is round, and I cannot comment on its prognosis.", {"shape": "round"}),
        ("I cannot comment on its prognosis, but the shape is round.", {"shape": "round"}),
        ("I cannot comment on its prognosis, its shape is round.", {"shape": "round"}),
        ("I'm unable to determine the spread; it is frontal.", {"region": "frontal"}),
        ("It is 1-5% of the brain. I have no information about its 5-year survival of 30%.", {"volume": "1-5%"}),
        (
            "It has a volume of **1–5%** in **cerebellum, frontal and parietal**. Synthesizing this into a care plan "
            "for the temporal lobe is *outside my domain*.",
            {"volume": "1-5%", "region": "cerebellum, frontal, parietal"},
        ),
    ],
)
def test_refusals_are_heard_and_say_nothing(text: str, answer: dict[str, str]) -> None:
    assert said(text) == answer
    assert read_answer(text, LABEL).refused


@pytest.mark.parametrize(
    "text", ["It is round.", "N/A", "It is not present.", "The lesion does not extend to the insula.", "", " ", "???"]
)
def test_what_is_no_refusal(text: str) -> None:
    assert not read_answer(text, LABEL).refused


def test_several_tasks_in_forms_that_models_choose() -> None:
    everything = {"volume": "<1%", "region": "frontal, insula", "shape": "round", "spread": "single lesion"}
    for text in (
        "- Volume: <1%\n- Region: frontal, insula\n- Shape: round\n- Spread: single lesion",
        "Volume: <1%; Location: frontal, insula; Shape: round; Spread: single lesion",
        '{"volume": "<1%", "region": ["frontal", "insula"], "shape": "round", "spread": "single lesion"}',
        "The enhancing tissue is a round single lesion (<1%) in the frontal lobe and the insula.",
        "A single lesion, round in shape, less than 1% of the brain, in the frontal and insular regions.",
    ):
        assert said(text) == everything


@pytest.mark.parametrize(
    ("text", "label", "answer"),
    [
        (
            "The shape of the Temporal Round Lesion is oval and it is located in frontal.",
            "Temporal Round Lesion",
            {"shape": "oval", "region": "frontal"},
        ),
        ("The Insular Mass is absent.", "Insular Mass", GONE),
        (
            "The Necrotic and Non-Enhancing Tumor Core is a core with satellite lesions.",
            "Necrotic and Non-Enhancing Tumor Core",
            {"spread": "core with satellite lesions"},
        ),
        (
            "SURROUNDING NON-ENHANCING FLAIR HYPERINTENSITY is oval",
            "Surrounding Non-enhancing FLAIR hyperintensity",
            {"shape": "oval"},
        ),
        ("The Edema/Invaded\nTissue is scattered", "Edema/Invaded Tissue", {"spread": "scattered lesions"}),
        ("The core (c) is a core with satellites", "Core (C)", {"spread": "core with satellite lesions"}),
    ],
)
def test_words_of_a_label_are_no_terms(text: str, label: str, answer: dict[str, str]) -> None:
    assert said(text, label) == answer


LABELS = sorted({label.name for profile in PROFILES for label in profile.labels})
ODD_LABELS = ["Temporal Round Lesion", "Core", "Insular Mass", "Oval/Irregular (N/A) thing", "No Tissue + 5%"]


def rendered(
    kind: Kind,
    tasks: tuple[Task, ...],
    question: int,
    answer: int,
    label: str,
    terms: dict[Task, tuple[str, ...]],
    gone: bool,
) -> str:
    """An answer of the grammar about a label, with these terms filled in."""
    bank = GRAMMAR.bank(kind, tasks)
    wording = bank.wording(question % bank.questions, answer % bank.answers)
    filled = {"regions" if task is Task.REGION else str(task): listed(said) for task, said in terms.items()}
    return (wording.absent if gone else wording.answer).format(label=label, **filled)


NUMBERS = st.integers(0, 10**9)
PRESENT = st.fixed_dictionaries(
    {
        Task.VOLUME: st.sampled_from([(name,) for name in (ABSENT, *VOLUME_BINS)]),  # a floor may make it N/A
        Task.REGION: st.one_of(
            st.sets(st.sampled_from(REGIONS), min_size=1).map(lambda regions: tuple(sorted(regions))),
            st.just((NO_REGION,)),
        ),
        Task.SHAPE: st.sampled_from([(name,) for name in SHAPES]),
        Task.SPREAD: st.sampled_from([(name,) for name in SPREADS]),
    }
)
TERMS = st.one_of(PRESENT, st.just(dict.fromkeys(Task, (ABSENT,))))
"""What is found of a label: of one that is absent every term is N/A, and of no other."""


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(Kind),
    st.sampled_from(TASK_COMBINATIONS),
    NUMBERS,
    NUMBERS,
    st.sampled_from([*LABELS, *ODD_LABELS]),
    TERMS,
)
def test_every_answer_of_the_grammar_reads_back(
    kind: Kind,
    tasks: tuple[Task, ...],
    question: int,
    answer: int,
    label: str,
    every_term: dict[Task, tuple[str, ...]],
) -> None:
    if kind is Kind.OUT_OF_SCOPE:
        tasks = ()
    terms = {task: every_term[task] for task in tasks}
    gone = every_term[Task.SHAPE] == (ABSENT,)
    text = rendered(kind, tasks, question, answer, label, terms, gone)
    found = read_answer(text, label)
    assert {task: said for task, said in found.terms.items() if task in tasks or not gone} == terms
    assert found.refused == (kind is not Kind.IN_SCOPE)
    assert read_answer(text.upper(), label) == found
    assert read_answer(text.replace(" ", "\n"), label) == found


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300), st.sampled_from([*ODD_LABELS, "", "(", "a\\b"]))
def test_any_text_is_read(text: str, label: str) -> None:
    for task, terms in read_answer(text, label).terms.items():
        known = {*CLASSES[task][1:], NO_REGION} if task is not Task.REGION else {*REGIONS, ABSENT, NO_REGION}
        assert terms
        assert set(terms) <= known


@given(st.sampled_from(VOLUME_BINS), st.sampled_from(["-", "–", " – ", " to ", "‑", "−"]))
def test_every_bin_in_every_dash(name: str, dash: str) -> None:
    assert said(f"Its volume is {name.replace('-', dash)}.") == {"volume": name}


def test_texts_become_predictions() -> None:
    texts = ["The volume is 1-5% in frontal. I cannot comment on its cause.", "It is round or oval.", "N/A"]
    predictions = from_texts([read_answer(text, LABEL) for text in texts])
    assert predictions.classes[Task.VOLUME].tolist() == [CLASSES[Task.VOLUME].index("1-5%"), NO_ANSWER, 1]
    assert predictions.classes[Task.SHAPE].tolist() == [NO_ANSWER, NO_ANSWER, 1]
    assert predictions.regions.sum(axis=1).tolist() == [1, -9, 0]
    assert predictions.out_of_scope.tolist() == [1, 0, 0]
    assert predictions.chances is None

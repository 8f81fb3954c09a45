"""Which choice a text names: what models write, what misleads, and what has to hold for any choices."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxmoe.evaluation.choices import m3d_compat, read_choice, words_of
from voxmoe.vocabulary import CTTask
from voxmoe.vqa.ct.exchange import LETTERS, Exchange

ORGANS = ("Liver", "Spleen", "Left kidney", "Pancreas")
NODULES = ("nodule", "large nodule", "a large nodule in the left lung", "mass")
YES_NO = ("Yes", "No")
SIZES = ("5 mm", "15 mm", "1.5 mm", "< 5 mm")


@pytest.mark.parametrize(
    "text",
    [
        "B",
        "b",
        "B.",
        "b)",
        "(B)",
        "( b )",
        "[B]",
        "**B**",
        '"B"',
        "  B \n",
        "B. Spleen",
        "B.Spleen",
        "b. spleen",
        "B) Spleen.",
        "(B) Spleen",
        "(B). Spleen",
        "B: Spleen",
        "B - spleen",
        "B – spleen",
        "B, spleen",
        "B spleen",
        "**B. Spleen**",
        "**B.** Spleen",
        "Answer: B",
        "answer:b",
        "Answer - B",
        "Answer: (B)",
        "Answer: **B**",
        "Answer: B. Spleen",
        "The answer is B",
        "The answer is B.",
        "The correct answer is (B) spleen.",
        "The correct answer is option B.",
        "The best choice is B because it is enlarged.",
        "Option B is correct.",
        "Option B",
        "I choose B.",
        "It is B.",
        "I think it's B.",
        "B\nB\nB",
        "B. Spleen\nB. Spleen",
        "Spleen",
        "spleen.",
        "SPLEEN!",
        "The organ is the spleen.",
        "The image shows the spleen; the spleen is large.",
        "It is an organ of the abdomen. B. Spleen",
        "It shows an organ.\nB",
        "Ｂ．Ｓｐｌｅｅｎ",  # full width
        "Ⓑ",
        "\u200bB. Spleen",
        "B.\u00a0Spleen",
        "I am not sure, but B.",
        "I cannot say for sure: spleen.",
    ],
)
def test_the_second_of_four_is_named(text: str) -> None:
    assert read_choice(text, ORGANS) == "B"


@pytest.mark.parametrize(
    "text",
    [
        "",
        " . ",
        "I do not know.",
        "kidney",  # no choice says just this
        "the livers",
        "A or B",
        "A, B",
        "A/B",
        "A and B",
        "A B",
        "A\nB",
        "Either A or B.",
        "(A) or (B)",
        "A. Liver B. Spleen C. Left kidney D. Pancreas",  # the choices come back
        "liver and spleen",
        "B. Spleen, not the liver",
        "B. Liver",  # letter and text disagree
        "Answer: B. Answer: C.",
        "E",
        "E. Spleen",
        "not B",
        "It is not B.",
        "It isn't the spleen.",
        "B is wrong.",
        "No spleen is seen.",
        "The spleen is not affected.",
        "neither B nor C",
        "A large organ is seen.",
        "A lesion",
        "a lesion, somewhere",
        "The answer is a large organ.",
        "hepatitis B is possible",
        "vitamin D was given",
        "type C lesion",
        "Dr. A. Smith",
        "Bad, Cab, Dab",
        "B-cell lymphoma",
    ],
)
def test_nothing_is_named(text: str) -> None:
    assert read_choice(text, ORGANS) is None


@pytest.mark.parametrize(
    ("text", "choices", "letter"),
    [
        ("nodule", NODULES, "A"),
        ("a nodule", NODULES, "A"),
        ("A nodule", NODULES, "A"),
        ("A nodule is seen.", NODULES, "A"),
        ("A large nodule", NODULES, "B"),
        ("Answer: A large nodule", NODULES, "B"),
        ("A. large nodule", NODULES, None),
        ("A. nodule", NODULES, "A"),
        ("a large nodule in the left lung", NODULES, "C"),
        ("A large nodule in the left lung.", NODULES, "C"),
        ("C. A large nodule in the left lung", NODULES, "C"),
        ("a large nodule and a mass", NODULES, None),
        ("large nodule, nodule", NODULES, None),
        ("nodules", NODULES, None),
        ("No", YES_NO, "B"),
        ("No.", YES_NO, "B"),
        ("B. No", YES_NO, "B"),
        ("No, it is not enlarged.", YES_NO, "B"),
        ("Yes, it is enlarged.", YES_NO, "A"),
        ("Yes and no", YES_NO, None),
        ("A", YES_NO, "A"),
        ("5 mm", SIZES, "A"),
        ("5mm", SIZES, "A"),
        ("15 mm", SIZES, "B"),
        ("1.5 mm", SIZES, "C"),
        ("< 5 mm", SIZES, "D"),
        ("<5mm", SIZES, "D"),
        ("> 5 mm", SIZES, None),
        ("5-15 mm", SIZES, None),
        ("25 mm", SIZES, None),
        ("B", ("Type A", "Type B"), "B"),
        ("Type B", ("Type B", "Type A"), "A"),  # the letter belongs to the text
        ("A. Type B", ("Type B", "Type A"), "A"),
        ("It is a type B dissection.", ("Type B", "Type A"), "A"),
        ("B. Type B", ("Type B", "Type A"), None),
        ("C. difficile colitis", ("E. coli", "C. difficile colitis", "other"), "B"),
        ("no effusion", ("effusion", "no effusion"), "B"),
        ("There is no effusion.", ("effusion", "no effusion"), "B"),
        ("effusion", ("effusion", "no effusion"), "A"),
        ("None of the above", ("Liver", "None of the above"), "B"),
        ("ground glass opacity", ("Ground-glass opacity", "Nodule"), "A"),
        ("Ground–glass opacity", ("Ground-glass opacity", "Nodule"), "A"),
        ("left", ("left", "left and right"), "A"),
        ("left and right", ("left", "left and right"), "B"),
        ("right and left", ("left", "right"), None),
        ("left lung base", ("left lung", "lung base"), None),
        ("yes", ("Yes", "yes."), None),  # alike but for their letters
        ("B. yes.", ("Yes", "yes."), "B"),
        ("B", ("Yes", "yes."), "B"),
        ("T11", ("T1", "T11"), "B"),
        ("T1", ("T1", "T11"), "A"),
        ("-5", ("5", "-5"), "B"),
        ("+", ("+", "-"), "A"),
        ("Crohn’s disease", ("Crohn's disease", "Other"), "A"),
    ],
)
def test_choices_that_mislead(text: str, choices: tuple[str, ...], letter: str | None) -> None:
    assert read_choice(text, choices) == letter


ANYTHING = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20).filter(lambda text: text.strip())
WORDY = st.lists(
    st.sampled_from(["a", "A", "B.", "(C)", "no", "not", "nodule", "left", "5", "mm", "<", "answer", "is", "or"]),
    min_size=1,
    max_size=4,
).map(" ".join)
CHOICES = st.lists(ANYTHING | WORDY, min_size=2, max_size=len(LETTERS), unique=True).map(tuple)
PLAIN = st.lists(
    st.sampled_from(["liver", "spleen", "heart", "lung base", "left kidney", "aorta"]), min_size=2, unique=True
).map(tuple)


@settings(deadline=None)
@given(CHOICES, st.data())
def test_what_a_model_should_say_is_read_as_that(choices: tuple[str, ...], data: st.DataObject) -> None:
    answer = data.draw(st.sampled_from(choices))
    exchange = Exchange("1", "own", "a", "p", CTTask.CLOSED, "k", "What?", answer, choices)
    assert read_choice(exchange.target, choices) == exchange.letter
    assert m3d_compat(exchange.target, str(exchange.letter))


@settings(deadline=None)
@given(ANYTHING | WORDY, CHOICES)
def test_any_text_names_one_of_the_choices_or_none(text: str, choices: tuple[str, ...]) -> None:
    assert read_choice(text, choices) in (None, *LETTERS[: len(choices)])


@settings(deadline=None)
@given(PLAIN, st.data())
def test_wrapping_changes_nothing(choices: tuple[str, ...], data: st.DataObject) -> None:
    number = data.draw(st.integers(0, len(choices) - 1))
    letter, answer = LETTERS[number], choices[number]
    said = data.draw(
        st.sampled_from([letter, f"({letter})", f"{letter}. {answer}", answer, f"Answer: {letter}", answer.upper()])
    )
    before, after = data.draw(st.sampled_from([("", ""), ("  ", "\n"), ('"', '"'), ("", "!"), ("**", "**")]))
    assert read_choice(before + said + after, choices) == letter


@settings(deadline=None)
@given(PLAIN, st.data())
def test_two_choices_are_none(choices: tuple[str, ...], data: st.DataObject) -> None:
    one, other = data.draw(st.permutations(range(len(choices))))[:2]
    forms = [(LETTERS[one], LETTERS[other]), (choices[one], choices[other])]
    first, second = data.draw(st.sampled_from(forms))
    between = data.draw(st.sampled_from([" or ", " and ", ", ", "/"]))
    assert read_choice(first + between + second, choices) is None


@settings(deadline=None)
@given(PLAIN, st.data())
def test_the_text_is_read_wherever_its_choice_stands(choices: tuple[str, ...], data: st.DataObject) -> None:
    turned = data.draw(st.permutations(choices))
    assert read_choice(f"It is the {choices[0]}.", turned) == LETTERS[turned.index(choices[0])]


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["Liver", "5", "1,5", "mm", "<", "-5", "it's", "T11", "ground-glass", "…"])).map(" ".join)
)
def test_words_do_not_change_when_read_again(text: str) -> None:
    assert words_of(" ".join(words_of(text))) == words_of(text)


@pytest.mark.parametrize(
    ("text", "right"),
    [("B. Spleen", True), ("A. Liver B. Spleen", True), ("The answer is B.", True), ("B", False), ("b. spleen", False)],
)
def test_the_published_rule(text: str, right: bool) -> None:
    assert m3d_compat(text, "B") is right

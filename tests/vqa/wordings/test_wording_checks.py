"""What is taken for English, for a refusal, and for the same question."""

import pytest

from voxmoe.vocabulary import Kind, Task
from voxmoe.vqa.wordings.checks import is_english, same_words, template_fault, text_fault


@pytest.mark.parametrize(
    "text",
    [
        "How large is {label}?",
        "Could you identify the shape of the {label}?",
        "Please describe {label}'s spread.",
        "What areas does {label} encompass, what is its volume, and synthesize findings into a care plan?",
        "How do genetic factors influence the development of {label} in adolescents?",
        "{label} has a volume of {volume} in {regions}. Synthesizing this into a care plan is outside my domain.",
        "I cannot provide information regarding the influence of genetic factors on the development of {label}.",
        "The total volume of {label} is described as {volume}, characterized as {spread}.",
    ],
)
def test_english(text: str) -> None:
    assert is_english(text)


@pytest.mark.parametrize(
    "text",
    [
        "Wie groß ist das Volumen von {label}?",
        "Wo liegt {label} und welche Form hat es?",
        "Das Volumen von {label} ist {volume} und die Form ist {shape}.",
        "Quel est le volume de {label} et quelle est sa forme ?",
        "Le volume de {label} est {volume}.",
        "La forma de {label} es {shape}.",
        "¿Cuál es el volumen de {label}?",
        "Il volume di {label} è {volume} e la forma è {shape}.",
        "Qual o volume de {label} e onde se localiza?",
        "Het volume van {label} is {volume} en de vorm is {shape}.",
        "{label} 的体积是多少?",
        "{label}の形は何ですか?",
        "Какой объём у {label}?",
        "{label} {volume}",
    ],
)
def test_not_english(text: str) -> None:
    assert not is_english(text)


@pytest.mark.parametrize(
    "answer",
    [
        "I cannot tell the prognosis of {label}.",
        "That can't be determined from imaging about the {label}.",
        "I am unable to say what the {label} means.",
        "This is outside of my scope.",
        "There is no information on the treatment of {label} in this scan.",
    ],
)
def test_refusals(answer: str) -> None:
    assert text_fault(Kind.OUT_OF_SCOPE, "What is the prognosis of the {label}?", answer) is None


def test_faults_of_text() -> None:
    question = "What is the prognosis of the {label}?"
    assert text_fault(Kind.PARTIAL, question, "The prognosis of the {label} is poor.") == "the answer refuses nothing"
    assert text_fault(Kind.IN_SCOPE, question, "The shape of the {label} is {shape}.") is None
    assert text_fault(Kind.IN_SCOPE, question, "The shape of the {label} is") == "the answer has no end"
    assert text_fault(Kind.IN_SCOPE, "Wie groß ist {label}?", "The shape of the {label} is {shape}.") == "not English"
    assert text_fault(Kind.IN_SCOPE, question, "Die Form ist {shape}.") == "not English"


def test_templates() -> None:
    tasks = (Task.VOLUME, Task.REGION)
    assert template_fault(tasks, "{label} {label}?", "{regions} {label} {volume}") is None
    assert template_fault((), "{label}?", "No.") is None
    assert template_fault((), "{label}?", "No {volume}.") is not None
    assert template_fault((), "{label}?", "No {organ}.") is not None
    assert template_fault((), "{Label}?", "No.") is not None
    assert template_fault((), "{label!r}?", "No.") is not None
    assert template_fault((), "{{label}}?", "No.") == "braces that do not match"
    assert template_fault((), "", "No.") == template_fault((), "{label}?", "") == "empty"


def test_the_same_question() -> None:
    assert same_words("How big  is {label}?") == same_words("how big is {label} ")
    assert same_words("How big is {label}?") != same_words("How large is {label}?")

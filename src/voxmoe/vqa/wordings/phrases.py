"""The phrases of which questions that can be answered, and their answers, are made: data for `grammar.py`.

{S} is the thing asked about, "the {label}" or another name for it at its first mention and "it" after that. Every
phrase has to read well with every label ("the Resection Cavity", "the Edema/Invaded Tissue"), so none calls it a
tumor or a lesion. No answer uses a word of another task's categories.
"""

from typing import NamedTuple

from voxmoe.vocabulary import Task


class Clause(NamedTuple):
    """One way to ask: as a question and as a subordinate clause, at first mention and after it."""

    direct: str
    direct_it: str
    indirect: str
    indirect_it: str


def about(question: str, subordinate: str) -> Clause:
    """A clause that names the label itself: "where is {S}"."""
    return Clause(question, question.replace("{S}", "it"), subordinate, subordinate.replace("{S}", "it"))


def of(noun: str, question: str, subordinate: str) -> Clause:
    """A clause about a noun of the label, {N}: "what is the volume of X" / "what is its volume"."""
    first, later = f"the {noun} of {{S}}", f"its {noun}"
    return Clause(
        question.replace("{N}", first),
        question.replace("{N}", later),
        subordinate.replace("{N}", first),
        subordinate.replace("{N}", later),
    )


class Frame(NamedTuple):
    """What stands before and after a question."""

    before: str
    after: str


def _before(*texts: str) -> tuple[Frame, ...]:
    return tuple(Frame(f"{text}, ", "") for text in texts)


def _after(*texts: str) -> tuple[Frame, ...]:
    return tuple(Frame("", f" {text}") for text in texts)


QUESTION_FRAMES = (
    Frame("", ""),
    *_before(
        "On this MRI",
        "On this scan",
        "On these images",
        "On the current study",
        "On this multiparametric MRI",
        "In this patient",
        "In this case",
        "Based on this MRI",
        "Based on these images",
        "Judging from this scan",
    ),
    *_after(
        "on this MRI",
        "on this scan",
        "on these images",
        "on the current study",
        "in this patient",
        "in this case",
        "on this examination",
    ),
)
REQUEST_FRAMES = (
    Frame("", ""),
    *_before(
        "For this patient",
        "For this study",
        "Based on this MRI",
        "From these images",
        "For the chart",
        "For the tumor board",
        "For the clinical notes",
    ),
    *_after("on this MRI", "on this scan", "on these images", "in this patient", "in this case"),
)

SUBJECTS = ("the {label}", "the segmented {label}", "the area marked as {label}")

CLAUSES: dict[Task, tuple[Clause, ...]] = {
    Task.VOLUME: (
        about("how large is {S}", "how large {S} is"),
        of("volume", "what is {N}", "what {N} is"),
        about("how much of the brain does {S} occupy", "how much of the brain {S} occupies"),
        of("overall volume", "what is {N}", "what {N} is"),
        about("what share of the brain does {S} take up", "what share of the brain {S} takes up"),
        about("how big is {S} relative to the brain", "how big {S} is relative to the brain"),
        about("what percentage of the brain is taken up by {S}", "what percentage of the brain is taken up by {S}"),
        of("relative volume", "how would you grade {N}", "how you would grade {N}"),
        about("how much space does {S} take up", "how much space {S} takes up"),
        about("what volume does {S} have", "what volume {S} has"),
        about("what fraction of the brain does {S} make up", "what fraction of the brain {S} makes up"),
        of("volume", "how would you quantify {N}", "how you would quantify {N}"),
        about("what size is {S}", "what size {S} is"),
        of("total volume", "how large is {N}", "how large {N} is"),
    ),
    Task.REGION: (
        about("where is {S} located", "where {S} is located"),
        about("which brain regions does {S} involve", "which brain regions {S} involves"),
        about("in which region of the brain is {S}", "in which region of the brain {S} is"),
        of("location", "what is {N}", "what {N} is"),
        about("which parts of the brain are affected by {S}", "which parts of the brain are affected by {S}"),
        about("which anatomical regions does {S} extend to", "which anatomical regions {S} extends to"),
        about("where in the brain does {S} lie", "where in the brain {S} lies"),
        of("anatomical location", "how would you describe {N}", "how you would describe {N}"),
        about("which regions of the brain does {S} occupy", "which regions of the brain {S} occupies"),
        about("where does {S} sit in the brain", "where {S} sits in the brain"),
        about("in which part of the brain can {S} be found", "in which part of the brain {S} can be found"),
        about("which regions of the brain contain {S}", "which regions of the brain contain {S}"),
        about("what parts of the brain does {S} cover", "what parts of the brain {S} covers"),
        about("where is {S} situated", "where {S} is situated"),
    ),
    Task.SHAPE: (
        of("shape", "what is {N}", "what {N} is"),
        about("what shape does {S} have", "what shape {S} has"),
        of("shape", "how would you describe {N}", "how you would describe {N}"),
        about("how is {S} shaped", "how {S} is shaped"),
        of("morphology", "how would you characterize {N}", "how you would characterize {N}"),
        about("what form does {S} take", "what form {S} takes"),
        of("overall shape", "what is {N}", "what {N} is"),
        about("which shape category does {S} fall into", "which shape category {S} falls into"),
        of("shape", "how would you classify {N}", "how you would classify {N}"),
        of("shape", "what does {N} look like", "what {N} looks like"),
        about("what shape best describes {S}", "what shape best describes {S}"),
        of("morphology", "what is {N}", "what {N} is"),
        about("what geometric shape does {S} resemble", "what geometric shape {S} resembles"),
        about("which shape would you assign to {S}", "which shape you would assign to {S}"),
    ),
    Task.SPREAD: (
        about("how spread out is {S}", "how spread out {S} is"),
        of("spread", "what is {N}", "what {N} is"),
        about("how is {S} distributed", "how {S} is distributed"),
        of("distribution", "how would you characterize {N}", "how you would characterize {N}"),
        about("what pattern of spread does {S} show", "what pattern of spread {S} shows"),
        of("pattern of distribution", "what is {N}", "what {N} is"),
        about("how dispersed is {S}", "how dispersed {S} is"),
        of("extent of spread", "how would you describe {N}", "how you would describe {N}"),
        about("how scattered is {S}", "how scattered {S} is"),
        of("distribution", "what does {N} look like", "what {N} looks like"),
        of("spread", "how would you classify {N}", "how you would classify {N}"),
        about("does {S} consist of one part or several", "whether {S} consists of one part or several"),
        about("which distribution pattern does {S} follow", "which distribution pattern {S} follows"),
        about("is {S} in one piece or dispersed", "whether {S} is in one piece or dispersed"),
    ),
}

NOUNS: dict[Task, tuple[str, ...]] = {
    Task.VOLUME: ("volume", "relative volume", "size", "overall volume", "total volume"),
    Task.REGION: ("location", "region", "anatomical location", "brain region", "regional involvement", "position"),
    Task.SHAPE: ("shape", "morphology", "form", "overall shape", "shape category"),
    Task.SPREAD: ("spread", "distribution", "pattern of spread", "extent of spread", "degree of dispersion"),
}

REQUESTS = (
    "can you tell me {}?",
    "could you tell me {}?",
    "could you specify {}?",
    "can you say {}?",
    "are you able to say {}?",
    "would you please state {}?",
    "could you clarify {}?",
    "please state {}.",
    "please tell me {}.",
    "please report {}.",
    "please indicate {}.",
    "please specify {}.",
    "I would like to know {}.",
    "I need to know {}.",
    "tell me {}.",
    "kindly report {}.",
)
"""How to ask for a clause, whether it begins with "how", "where" or "whether"."""

NOUN_REQUESTS = (
    "please report {}.",
    "please describe {}.",
    "could you describe {}?",
    "can you provide {}?",
    "please provide {}.",
    "could you assess {}?",
    "I would like to know {}.",
    "please state {}.",
    "could you comment on {}?",
    "please comment on {}.",
    "can you tell me {}?",
    "please document {}.",
)
"""How to ask for "the volume and shape of X"."""


class Statement(NamedTuple):
    """One way to answer, at first mention of the label and after it."""

    first: str
    later: str


def _of_it(noun: str, says: str) -> Statement:
    return Statement(f"the {noun} of {{S}} {says}", f"its {noun} {says}")


def _it(says: str) -> Statement:
    return Statement(f"{{S}} {says}", f"it {says}")


STATEMENTS: dict[Task, tuple[Statement, ...]] = {
    Task.VOLUME: (
        _of_it("overall volume", "is {volume}"),
        _it("has a relative volume of {volume}"),
        Statement(
            "the volume of {S} relative to the brain is {volume}", "its volume relative to the brain is {volume}"
        ),
        _of_it("volume", "falls in the range {volume}"),
        _of_it("relative volume", "is estimated at {volume}"),
        _of_it("volume", "is graded as {volume}"),
    ),
    Task.REGION: (
        _it("is located in {regions}"),
        _it("is found in {regions}"),
        _it("lies in {regions}"),
        _it("maps to {regions}"),
        _it("is situated in {regions}"),
        _it("is seen in {regions}"),
    ),
    Task.SHAPE: (
        _of_it("shape", "is {shape}"),
        _of_it("shape", "is described as {shape}"),
        _of_it("shape", "is classified as {shape}"),
        _of_it("shape", "is best described as {shape}"),
        _of_it("shape category", "is {shape}"),
        _of_it("morphology", "is described as {shape}"),
    ),
    Task.SPREAD: (
        _of_it("spread", "is {spread}"),
        _it("is characterized as {spread}"),
        _of_it("distribution", "is classified as {spread}"),
        _of_it("spread", "is described as {spread}"),
        _of_it("pattern of spread", "is {spread}"),
        _of_it("distribution", "is characterized as {spread}"),
    ),
}
"""Answers about a label that is there: "located in frontal and insula", "located in no labelled region"."""

ABSENT_STATEMENTS: dict[Task, tuple[Statement, ...]] = {
    Task.VOLUME: (_of_it("volume", "is {volume}"), _of_it("relative volume", "is {volume}")),
    Task.REGION: (_of_it("location", "is {regions}"), _of_it("anatomical location", "is {regions}")),
    Task.SHAPE: (_of_it("shape", "is {shape}"), _of_it("shape category", "is {shape}")),
    Task.SPREAD: (_of_it("spread", "is {spread}"), _of_it("distribution", "is {spread}")),
}
"""Answers about a label that is not there: its location is N/A, rather than located in N/A."""
ABSENT_LEADS = (
    "",
    "the {label} is absent, so ",
    "the {label} is not present, so ",
    "the {label} is not seen on this study, so ",
)
"""After a lead the label has been mentioned."""

ANSWER_FRAMES = (
    "",
    "on this MRI, ",
    "on this scan, ",
    "on these images, ",
    "on the current study, ",
    "in this patient, ",
    "on this examination, ",
    "based on these images, ",
)

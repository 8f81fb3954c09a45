"""The phrases of which questions and answers are made: data for the grammar in `wordings.py`.

{S} is the thing asked about: the label at its first mention, "it" after that. {of S} is "of the label" at first and,
with the noun before it, "its noun" after that: the two forms stand side by side.
"""

from typing import NamedTuple

from voxmoe.vocabulary import Task


class Clause(NamedTuple):
    """One way to ask for a task: as a question and as a subordinate clause, at first mention and after it."""

    direct: str
    direct_it: str
    indirect: str
    indirect_it: str


def _of(question: str, noun: str, subordinate: str) -> Clause:
    """A clause about a noun of the label: "what is the volume of X" / "what is its volume"."""
    return Clause(
        question.replace("{N}", f"the {noun} of {{S}}"),
        question.replace("{N}", f"its {noun}"),
        subordinate.replace("{N}", f"the {noun} of {{S}}"),
        subordinate.replace("{N}", f"its {noun}"),
    )


def _about(question: str, subordinate: str) -> Clause:
    """A clause whose subject is the label itself."""
    return Clause(question, question, subordinate, subordinate)


CONTEXTS = (
    "",
    "On this MRI, ",
    "On the current study, ",
    "In this patient, ",
    "On this multiparametric MRI, ",
    "For this examination, ",
    "Looking at these images, ",
    "Based on this scan, ",
    "From the available sequences, ",
    "On review of this study, ",
    "In this case, ",
    "On these brain images, ",
    "Judging from the imaging, ",
)

SUBJECTS = ("{label}", "the {label}")

CLAUSES: dict[Task, tuple[Clause, ...]] = {
    Task.VOLUME: (
        _about("how large is {S}", "how large {S} is"),
        _of("what is {N}", "volume", "what {N} is"),
        _about("how much of the brain does {S} occupy", "how much of the brain {S} occupies"),
        _of("what is {N}", "overall volume", "what {N} is"),
        _about("what share of the brain volume is {S}", "what share of the brain volume {S} is"),
        _about("how big is {S} relative to the brain", "how big {S} is relative to the brain"),
        _about("what percentage of the brain is taken up by {S}", "what percentage of the brain is taken up by {S}"),
        _of("how would you grade {N}", "relative volume", "how {N} is best graded"),
    ),
    Task.REGION: (
        _about("where is {S} located", "where {S} is located"),
        _about("which brain regions does {S} involve", "which brain regions {S} involves"),
        _about("in which region of the brain is {S}", "in which region of the brain {S} is"),
        _of("what is {N}", "location", "what {N} is"),
        _about("which parts of the brain are affected by {S}", "which parts of the brain are affected by {S}"),
        _about("which anatomical regions does {S} extend to", "which anatomical regions {S} extends to"),
        _about("where in the brain does {S} lie", "where in the brain {S} lies"),
        _of("how would you describe {N}", "anatomical location", "how {N} is best described"),
    ),
    Task.SHAPE: (
        _of("what is {N}", "shape", "what {N} is"),
        _about("what shape does {S} have", "what shape {S} has"),
        _of("how would you describe {N}", "shape", "how {N} is best described"),
        _about("how is {S} shaped", "how {S} is shaped"),
        _of("how would you characterize {N}", "morphology", "how {N} is best characterized"),
        _about("what form does {S} take", "what form {S} takes"),
        _of("what is {N}", "overall contour", "what {N} is"),
        _about("which shape category does {S} fall into", "which shape category {S} falls into"),
    ),
    Task.SPREAD: (
        _about("how spread out is {S}", "how spread out {S} is"),
        _of("what is {N}", "spread", "what {N} is"),
        _about("how is {S} distributed", "how {S} is distributed"),
        _of("how would you characterize {N}", "distribution", "how {N} is best characterized"),
        _about("what pattern of spread does {S} show", "what pattern of spread {S} shows"),
        _of("what is {N}", "pattern of distribution", "what {N} is"),
        _about("how dispersed is {S}", "how dispersed {S} is"),
        _of("how would you describe {N}", "extent of spread", "how {N} is best described"),
    ),
}

NOUNS: dict[Task, tuple[str, ...]] = {
    Task.VOLUME: ("volume", "relative volume", "size"),
    Task.REGION: ("location", "anatomical location", "region"),
    Task.SHAPE: ("shape", "morphology", "form"),
    Task.SPREAD: ("spread", "distribution", "pattern of spread"),
}

REQUESTS = (
    "can you tell me {}?",
    "could you tell me {}?",
    "could you specify {}?",
    "can you describe {}?",
    "can you determine {}?",
    "are you able to say {}?",
    "could you assess {}?",
    "would you please state {}?",
    "please state {}.",
    "please tell me {}.",
    "please report {}.",
    "please describe {}.",
    "please indicate {}.",
    "I would like to know {}.",
    "I need to know {}.",
    "tell me {}.",
    "kindly report {}.",
    "please document {}.",
)
NOUN_REQUESTS = (
    "please report {}.",
    "please describe {}.",
    "could you describe {}?",
    "can you provide {}?",
    "please provide {}.",
    "could you assess {}?",
    "I would like to know {}.",
    "please summarize {}.",
    "can you characterize {}?",
    "please comment on {}.",
)

ANSWERS: dict[Task, tuple[tuple[str, str], ...]] = {
    Task.VOLUME: (
        ("the overall volume of {S} is {volume}", "its overall volume is {volume}"),
        ("{S} has a relative volume of {volume}", "it has a relative volume of {volume}"),
        ("the volume of {S} relative to the brain is {volume}", "its volume relative to the brain is {volume}"),
    ),
    Task.REGION: (
        ("{S} is located in {regions}", "it is located in {regions}"),
        ("the location of {S} is {regions}", "its location is {regions}"),
        ("the regions involved by {S} are {regions}", "the regions involved are {regions}"),
    ),
    Task.SHAPE: (
        ("the shape of {S} is {shape}", "its shape is {shape}"),
        ("the shape of {S} is described as {shape}", "its shape is described as {shape}"),
        ("{S} falls into the shape category {shape}", "it falls into the shape category {shape}"),
    ),
    Task.SPREAD: (
        ("the spread of {S} is {spread}", "its spread is {spread}"),
        ("{S} is characterized as {spread}", "it is characterized as {spread}"),
        ("the distribution of {S} is {spread}", "its distribution is {spread}"),
    ),
}

TOPICS: dict[str, tuple[str, ...]] = {
    "treatment": ("the best treatment for {S}", "the choice of therapy for {S}", "a care plan for {S}"),
    "surgery": ("the surgical approach to {S}", "the resectability of {S}", "the operative risk posed by {S}"),
    "radiotherapy": ("the radiation dose for {S}", "the radiotherapy target around {S}"),
    "medication": ("the drugs to prescribe for {S}", "the steroid dose needed because of {S}"),
    "prognosis": ("the prognosis that {S} implies", "the expected survival with {S}"),
    "genetics": ("the IDH mutation status of {S}", "the genetic factors behind {S}"),
    "methylation": ("the MGMT promoter methylation of {S}",),
    "grade": ("the WHO grade of {S}", "the histological grade of {S}"),
    "histology": ("the histology of {S}", "the cell type of {S}"),
    "biopsy": ("the best biopsy site within {S}", "the biopsy result of {S}"),
    "cause": ("the cause of {S}", "the risk factors that led to {S}"),
    "symptoms": ("the symptoms caused by {S}", "the neurological deficits due to {S}"),
    "seizures": ("the likelihood of seizures from {S}",),
    "history": ("the patient's history before {S} appeared", "earlier treatment of {S}"),
    "growth": ("the growth rate of {S}", "the change of {S} since the last scan"),
    "recurrence": ("the risk that {S} recurs", "the time to recurrence of {S}"),
    "perfusion": ("the perfusion of {S}", "the cerebral blood volume within {S}"),
    "diffusion": ("the diffusion restriction of {S}", "the ADC value of {S}"),
    "spectroscopy": ("the spectroscopy profile of {S}",),
    "ct": ("the appearance of {S} on CT", "calcification within {S} on CT"),
    "pet": ("the tracer uptake of {S} on PET",),
    "other organs": ("lung metastases from {S}", "spinal spread from {S}"),
    "laboratory": ("the blood markers associated with {S}", "the cerebrospinal fluid findings with {S}"),
    "follow-up": ("the follow-up interval for {S}", "the next imaging study for {S}"),
    "trials": ("clinical trials suitable for {S}",),
    "counselling": ("how to explain {S} to the patient's family",),
    "fitness": ("the patient's fitness to drive with {S}", "the return to work after {S}"),
    "cost": ("the cost of treating {S}",),
}
"""What VoxMoE does not answer, by kind."""

ASKING_ABOUT = (
    "what can you say about {}?",
    "what do you know about {}?",
    "can you comment on {}?",
    "could you give your opinion on {}?",
    "can you advise on {}?",
    "could you tell me about {}?",
    "please comment on {}.",
    "please advise on {}.",
    "please discuss {}.",
    "please give an assessment of {}.",
    "I would like to know about {}.",
    "I need information about {}.",
    "is there anything you can say about {}?",
    "do you have any information about {}?",
    "what is your view on {}?",
    "could you discuss {}?",
    "please share your view on {}.",
    "I would like some advice on {}.",
)
ALSO = (
    "What can you say about {}?",
    "Also, please comment on {}.",
    "In addition, please advise on {}.",
    "Please discuss {} as well.",
    "Beyond that, could you comment on {}?",
    "I would also like to know about {}.",
)
BESIDES = (
    "Besides advising on {topic}, please tell me {clauses}.",
    "Apart from discussing {topic}, can you say {clauses}?",
    "In addition to an opinion on {topic}, I need to know {clauses}.",
)
REFUSALS = (
    "I cannot provide information about {}.",
    "I am unable to comment on {}.",
    "I have no information about {}.",
    "It is outside my scope to assess {}.",
    "I cannot answer questions about {}.",
    "My analysis does not cover {}.",
)

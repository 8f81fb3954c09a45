"""What VoxMoE does not answer, how it is asked, and how it is refused: data for `grammar.py`.

As in `phrases.py`, {S} is the label at its first mention and "it" after that, and every phrase has to read well with
every label.
"""

from typing import NamedTuple

from voxmoe.vqa.wordings.phrases import Clause, Frame, about


class Topic(NamedTuple):
    """A question that cannot be answered: its kind, how it is asked, and the noun that a refusal names."""

    kind: str
    clause: Clause
    noun: str
    noun_it: str


_KINDS: dict[str, tuple[str, ...]] = {
    "treatment": (
        "what treatment does {S} call for | what treatment {S} calls for | the best treatment for {S}",
        "how should {S} be managed | how {S} should be managed | the management of {S} | its management",
        "which therapy would you recommend for {S} | which therapy you would recommend for {S} | the therapy for {S}",
        "what care plan would you suggest for {S} | what care plan you would suggest for {S} | a care plan for {S}",
    ),
    "surgery": (
        "is surgery needed because of {S} | whether surgery is needed because of {S} | the need for surgery with {S}",
        "which surgical approach would suit {S} | = | the surgical approach to {S}",
        "what operative risk does {S} pose | what operative risk {S} poses | the operative risk posed by {S}",
    ),
    "radiotherapy": (
        "what radiation dose should {S} receive | what radiation dose {S} should receive | the radiation dose for {S}",
        "should {S} be irradiated | whether {S} should be irradiated | irradiation of {S} | its irradiation",
    ),
    "medication": (
        "what steroid dose does {S} require | what steroid dose {S} requires | the steroid dose for {S}",
        "which drugs should be given because of {S} | = | the drugs to give with {S}",
        "would bevacizumab help with {S} | whether bevacizumab would help with {S} | bevacizumab for {S}",
    ),
    "chemotherapy": (
        "which chemotherapy does {S} call for | which chemotherapy {S} calls for | the chemotherapy for {S}",
        "is temozolomide indicated because of {S} | whether temozolomide is indicated because of {S} | "
        "the need for temozolomide with {S}",
    ),
    "prognosis": (
        "what does {S} mean for the prognosis | what {S} means for the prognosis | the prognosis with {S}",
        "how long is survival expected to be with {S} | how long survival is expected to be with {S} | "
        "the expected survival with {S}",
        "what outcome is to be expected with {S} | = | the outcome to expect with {S}",
    ),
    "genetics": (
        "does {S} suggest an IDH mutation | whether {S} suggests an IDH mutation | the IDH status suggested by {S}",
        "which genetic factors contributed to {S} | = | the genetic factors behind {S}",
        "is {S} linked to a 1p/19q codeletion | whether {S} is linked to a 1p/19q codeletion | "
        "the 1p/19q status linked to {S}",
        "which mutations are associated with {S} | = | the mutations associated with {S}",
    ),
    "methylation": (
        "does {S} suggest MGMT methylation | whether {S} suggests MGMT methylation | "
        "the MGMT methylation status suggested by {S}",
        "which methylation class goes with {S} | = | the methylation class that goes with {S}",
    ),
    "grade": (
        "what WHO grade does {S} imply | what WHO grade {S} implies | the WHO grade implied by {S}",
        "does {S} indicate a high-grade tumor | whether {S} indicates a high-grade tumor | "
        "the tumor grade indicated by {S}",
    ),
    "histology": (
        "what would histology show in {S} | what histology would show in {S} | the histology of {S} | its histology",
        "are malignant cells present in {S} | whether malignant cells are present in {S} | malignant cells in {S}",
    ),
    "biopsy": (
        "should {S} be biopsied | whether {S} should be biopsied | the need to biopsy {S}",
        "what was the biopsy result for {S} | what the biopsy result for {S} was | the biopsy result for {S}",
    ),
    "diagnosis": (
        "what is the most likely diagnosis behind {S} | what the most likely diagnosis behind {S} is | "
        "the diagnosis behind {S}",
        "what is the differential diagnosis for {S} | what the differential diagnosis for {S} is | "
        "the differential diagnosis for {S}",
        "does {S} reflect progression or treatment effect | whether {S} reflects progression or treatment effect | "
        "progression versus treatment effect in {S}",
    ),
    "cause": (
        "what caused {S} | = | the cause of {S} | its cause",
        "which risk factors led to {S} | = | the risk factors that led to {S}",
    ),
    "symptoms": (
        "which symptoms does {S} cause | which symptoms {S} causes | the symptoms caused by {S}",
        "could {S} explain the headaches | whether {S} could explain the headaches | headaches caused by {S}",
        "which neurological deficits are due to {S} | = | the neurological deficits due to {S}",
    ),
    "seizures": (
        "how likely are seizures with {S} | how likely seizures are with {S} | the likelihood of seizures with {S}",
        "does {S} call for antiepileptic drugs | whether {S} calls for antiepileptic drugs | "
        "the need for antiepileptic drugs with {S}",
    ),
    "cognition": (
        "how does {S} affect memory | how {S} affects memory | the effect of {S} on memory | its effect on memory",
        "will {S} impair speech | whether {S} will impair speech | the effect of {S} on speech | its effect on speech",
    ),
    "history": (
        "when did {S} first appear | when {S} first appeared | the first appearance of {S} | its first appearance",
        "how was {S} treated in the past | how {S} was treated in the past | past treatment of {S} | "
        "its past treatment",
        "is a family history relevant to {S} | whether a family history is relevant to {S} | "
        "the family history relevant to {S}",
    ),
    "change": (
        "how fast is {S} growing | how fast {S} is growing | the growth rate of {S} | its growth rate",
        "how has {S} changed since the last study | how {S} has changed since the last study | "
        "the change of {S} since the last study | its change since the last study",
    ),
    "recurrence": (
        "how likely is recurrence with {S} | how likely recurrence is with {S} | the risk of recurrence with {S}",
        "when is recurrence to be expected with {S} | when recurrence is to be expected with {S} | "
        "the time to recurrence with {S}",
    ),
    "response": (
        "has {S} responded to treatment | whether {S} has responded to treatment | "
        "the response of {S} to treatment | its response to treatment",
        "what is the RANO response category for {S} | what the RANO response category for {S} is | "
        "the RANO response category for {S}",
    ),
    "perfusion": (
        "is {S} hyperperfused | whether {S} is hyperperfused | the perfusion of {S} | its perfusion",
        "what is the cerebral blood flow within {S} | what the cerebral blood flow within {S} is | "
        "the cerebral blood flow within {S}",
    ),
    "diffusion": (
        "does {S} show restricted diffusion | whether {S} shows restricted diffusion | "
        "the diffusion restriction of {S} | its diffusion restriction",
        "what is the mean ADC value within {S} | what the mean ADC value within {S} is | the mean ADC value within {S}",
    ),
    "spectroscopy": (
        "what does MR spectroscopy show within {S} | what MR spectroscopy shows within {S} | "
        "MR spectroscopy within {S}",
        "is choline raised within {S} | whether choline is raised within {S} | the choline level within {S}",
    ),
    "CT": (
        "how would {S} look on CT | how {S} would look on CT | the appearance of {S} on CT | its appearance on CT",
        "is {S} calcified on CT | whether {S} is calcified on CT | calcification of {S} on CT | "
        "its calcification on CT",
    ),
    "PET": (
        "does {S} take up tracer on PET | whether {S} takes up tracer on PET | the tracer uptake of {S} on PET | "
        "its tracer uptake on PET",
        "is {S} metabolically active on FDG PET | whether {S} is metabolically active on FDG PET | "
        "the metabolic activity of {S} on FDG PET | its metabolic activity on FDG PET",
    ),
    "vessels": (
        "which arteries supply {S} | = | the arteries that supply {S}",
        "what would angiography show around {S} | what angiography would show around {S} | angiography around {S}",
    ),
    "functional imaging": (
        "how close is {S} to the corticospinal tract | how close {S} is to the corticospinal tract | "
        "the corticospinal tract near {S}",
        "does {S} overlap with language areas on functional MRI | "
        "whether {S} overlaps with language areas on functional MRI | functional MRI around {S}",
    ),
    "other organs": (
        "are there lung nodules related to {S} | whether there are lung nodules related to {S} | "
        "lung nodules related to {S}",
        "is there spinal disease related to {S} | whether there is spinal disease related to {S} | "
        "spinal disease related to {S}",
        "does the liver show disease related to {S} | whether the liver shows disease related to {S} | "
        "liver disease related to {S}",
    ),
    "primary tumor": (
        "which primary tumor gave rise to {S} | = | the primary tumor that gave rise to {S}",
        "is {S} of metastatic origin | whether {S} is of metastatic origin | the origin of {S} | its origin",
    ),
    "laboratory": (
        "which blood markers are associated with {S} | = | the blood markers associated with {S}",
        "what would the cerebrospinal fluid show with {S} | what the cerebrospinal fluid would show with {S} | "
        "the cerebrospinal fluid findings with {S}",
    ),
    "mass effect": (
        "does {S} cause midline shift | whether {S} causes midline shift | midline shift caused by {S}",
        "is there hydrocephalus due to {S} | whether there is hydrocephalus due to {S} | hydrocephalus due to {S}",
    ),
    "hemorrhage": (
        "is there blood within {S} | whether there is blood within {S} | blood within {S}",
        "how old is the hemorrhage within {S} | how old the hemorrhage within {S} is | "
        "the age of any hemorrhage within {S}",
    ),
    "infection": (
        "is {S} infected | whether {S} is infected | an infection of {S}",
        "does {S} call for antibiotics | whether {S} calls for antibiotics | the need for antibiotics with {S}",
    ),
    "follow-up": (
        "when should {S} be imaged again | when {S} should be imaged again | the follow-up interval for {S}",
        "which imaging study should come next for {S} | = | the next imaging study for {S}",
    ),
    "trials": (
        "which clinical trials would suit {S} | = | clinical trials for {S}",
        "is there a trial to consider for {S} | whether there is a trial to consider for {S} | a trial for {S}",
    ),
    "guidelines": (
        "what do the guidelines recommend for {S} | what the guidelines recommend for {S} | the guidelines for {S}",
    ),
    "referral": (
        "which specialist should be consulted about {S} | = | the specialist to consult about {S}",
        "should the tumor board discuss {S} | whether the tumor board should discuss {S} | "
        "a tumor board discussion of {S}",
    ),
    "rehabilitation": (
        "what rehabilitation does {S} call for | what rehabilitation {S} calls for | rehabilitation with {S}",
    ),
    "counselling": (
        "how should {S} be explained to the family | how {S} should be explained to the family | "
        "how to explain {S} to the family",
    ),
    "daily life": (
        "is driving safe with {S} | whether driving is safe with {S} | driving with {S}",
        "when is a return to work possible with {S} | when a return to work is possible with {S} | "
        "the return to work with {S}",
        "is air travel safe with {S} | whether air travel is safe with {S} | air travel with {S}",
    ),
    "cost": (
        "what would treating {S} cost | what treating {S} would cost | the cost of treating {S}",
        "does insurance cover treating {S} | whether insurance covers treating {S} | insurance cover for treating {S}",
    ),
    "coding": ("which ICD-10 code applies to {S} | = | the ICD-10 code for {S}",),
    "epidemiology": (
        "how common are findings like {S} | how common findings like {S} are | the frequency of findings like {S}",
    ),
}
"""By kind, a line each: question | subordinate clause (= for the same words) | noun | noun after first mention (left
out where it is the noun with "it")."""


def _topic(kind: str, line: str) -> Topic:
    question, subordinate, noun, *later = line.split(" | ")
    clause = about(question, question if subordinate == "=" else subordinate)
    return Topic(kind, clause, noun, *(later or [noun.replace("{S}", "it")]))


TOPICS = tuple(_topic(kind, line) for kind, lines in _KINDS.items() for line in lines)

FRAMES = (
    Frame("", ""),
    Frame("In this patient, ", ""),
    Frame("In this case, ", ""),
    Frame("Given this scan, ", ""),
    Frame("Given these images, ", ""),
    Frame("Given this MRI, ", ""),
    Frame("Based on this scan, ", ""),
    Frame("Based on these images, ", ""),
    Frame("", " in this patient"),
    Frame("", " in this case"),
)
"""What stands around questions that are out of scope, in part or altogether."""

NOUN_REQUESTS = (
    "what can you say about {}?",
    "what do you know about {}?",
    "can you comment on {}?",
    "could you give your opinion on {}?",
    "could you tell me about {}?",
    "could you discuss {}?",
    "please comment on {}.",
    "please discuss {}.",
    "I would like to know about {}.",
    "I need information about {}.",
    "do you have any information about {}?",
    "is there anything you can say about {}?",
)

ALSO_QUESTIONS = ("also, {}?", "in addition, {}?", "and {}?", "furthermore, {}?")
ALSO_CLAUSES = ("please also tell me {}.", "I would also like to know {}.", "could you also say {}?")
ALSO_NOUNS = ("please comment on {} as well.", "what can you say about {}?", "please discuss {} too.")
"""A second sentence, about what the first did not ask: with questions, subordinate clauses or nouns in it."""

REFUSALS = (
    "I cannot provide information about {}",
    "I am unable to comment on {}",
    "I have no information about {}",
    "I cannot assess {}",
    "I cannot answer questions about {}",
    "my analysis does not cover {}",
    "I am not able to advise on {}",
    "the images do not allow me to comment on {}",
    "I do not have the data to assess {}",
    "questions about {} are outside my scope",
    "I cannot give an opinion on {}",
    "I can offer no assessment of {}",
)
REFUSAL_LEADS = ("", "unfortunately, ", "I am sorry, but ")
JOINS = (". ", ", but ", ". However, ")
"""How an answer and a refusal are joined, whichever comes first."""

"""The prompts by which the paper had its questions reworded: its Appendix A, as printed. Data of its method."""

from voxmoe.vocabulary import Kind
from voxmoe.vqa.wordings.bank import Tasks
from voxmoe.vqa.wordings.seeds import seed_question

_PRINTED = {
    Kind.IN_SCOPE: """
        Please produce hundred alternative wordings that a clinician may use for the following question and answer.
        Please include everything surrounded by curly braces {} as they are because they are placeholders. Please
        generate the reworded question starting with "Q:" and reworded answer starting with "A:" and separate each
        generated question-answer pair with a newline. Please do not produce any additional text.
    """,
    Kind.PARTIAL: """
        Please produce hundred alternative wordings that a clinician may use for the following question and answer and
        incorporate an additional clinical task or tasks which the model cannot solve in the reworded question. These
        can be before, after, or interspersed between the other tasks (please make sure to vary the order and number of
        out-of-scope tasks). Do not mention that the model cannot answer these in the question; however, indicate that
        the model cannot answer that part of the question in the reworded answer (potentially using different
        phrasings). The model can describe the volume, brain region, shape, and spread of {label} which is the region of
        interest. Please include everything surrounded by curly braces {} as they are because they are placeholders.
        Please generate the reworded question starting with "Q:" and reworded answer starting with "A:" and do not
        produce any additional text.
    """,
    Kind.OUT_OF_SCOPE: """
        Please produce a hundred questions (with one or more tasks) that a clinician may ask that the model does not
        have information to answer. The model can describe the volume, brain region, shape, and spread of {label} which
        is the region of interest. Please include {label} in the question but do not include anything else with curly
        braces. In the answer, please indicate the model cannot answer the question (potentially using different
        phrasings). Please generate the question starting with "Q:" and answer starting with "A:" and do not produce any
        additional text.
    """,
}
PROMPTS = {kind: " ".join(text.split()) for kind, text in _PRINTED.items()}


def prompt(kind: Kind, tasks: Tasks) -> str:
    """What a model is asked for a question type: to the first two prompts the type's seed question is appended."""
    if kind is Kind.OUT_OF_SCOPE:
        return PROMPTS[kind]
    seed = seed_question(tasks)
    return f"{PROMPTS[kind]}\n\nQ: {seed.question}\nA: {seed.answer}"

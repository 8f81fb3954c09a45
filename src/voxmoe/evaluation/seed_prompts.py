"""The paper's 15 questions (its Appendix A), one a question type, as the template prompts of Figure 3."""

from voxmoe.vocabulary import TASK_COMBINATIONS, Profile, Task

_QUESTIONS = (
    "How large is the volume covered by {label}?",
    "Which region(s) of the brain is {label} located in?",
    "What is the shape of {label}?",
    "How spread out is {label}?",
    "How large is the volume of {label} and where is it located?",
    "How large is the volume of {label} and what is its shape?",
    "How large is the volume of {label} and how spread out is it?",
    "In which region is {label} and what is its shape?",
    "In which region is {label} and how spread out is it?",
    "What is the shape of {label} and how spread out is it?",
    "What is the volume, region, and shape of {label}?",
    "What is the volume, region, and spread of {label}?",
    "What is the volume, shape, and spread of {label}?",
    "What is the region, shape, and spread of {label}?",
    "What is the volume, region, shape, and spread of {label}?",
)


def template_prompts(profile: Profile) -> dict[tuple[str, tuple[Task, ...]], str]:
    """Label key and question type -> prompt: 60 of them for four labels."""
    return {
        (label.key, tasks): question.format(label=label.name)
        for label in profile.labels
        for tasks, question in zip(TASK_COMBINATIONS, _QUESTIONS, strict=True)
    }

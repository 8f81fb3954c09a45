"""Figures of the questions: python benchmarks/question_figures.py

How many wordings the grammar has, and what is drawn at the sizes of the paper's three datasets: questions, those that
are unique (Table 1), and the share that does not ask each task (Tables 6-8). No image is read: findings are random, a
quarter of the labels is absent.
"""

from collections import Counter

import numpy as np

from voxmoe.vocabulary import (
    ABSENT,
    NOT_ASKED,
    PROFILES_BY_NAME,
    REGIONS,
    SHAPES,
    SPREADS,
    VOLUME_BINS,
    Kind,
    Profile,
    Task,
)
from voxmoe.vqa.findings import LabelFindings
from voxmoe.vqa.paper_tables import PAPER_DATASETS, PaperDataset
from voxmoe.vqa.sampling import apply_draw, draw_questions
from voxmoe.vqa.type_weights import TYPE_WEIGHTS, TypeWeights
from voxmoe.vqa.wordings.bank import QUESTION_TYPES
from voxmoe.vqa.wordings.grammar import GRAMMAR
from voxmoe.vqa.wordings.topics import TOPICS


def banks() -> None:
    print(f"{len({topic.kind for topic in TOPICS})} kinds of topic out of scope, {len(TOPICS)} topics")
    for kind in Kind:
        sizes: dict[int, tuple[int, int]] = {}
        for known, tasks in QUESTION_TYPES:
            if known is kind:
                bank = GRAMMAR.bank(kind, tasks)
                sizes[len(tasks)] = (bank.questions, bank.answers)
        for tasks, (questions, answers) in sizes.items():
            print(f"{kind}, {tasks} tasks: {questions:,} questions, {answers:,} forms of answer each")


def random_findings(generator: np.random.Generator) -> LabelFindings:
    present = generator.random() >= 0.25
    regions = generator.permutation(REGIONS)[: generator.integers(1, 5)].tolist() if present else []

    def term(terms: tuple[str, ...]) -> str:
        return str(generator.choice(terms)) if present else ABSENT

    return LabelFindings(
        present=present,
        voxels=0,
        volume_mm3=0.0,
        relative_volume=None,
        brain_fraction=None,
        volume=term(VOLUME_BINS[:3]),
        regions=dict.fromkeys(regions, ("left",)),
        shape=term(SHAPES),
        shape_numbers=None,
        spread=term(SPREADS),
        components=0,
        core_fraction=None,
        reasons={},
    )


def at_full_size(profile: Profile, told: PaperDataset, weights: TypeWeights) -> None:
    generator = np.random.default_rng(0)
    questions, answers, asked = [], [], Counter[Task]()
    for study in range(told.studies):
        findings = {key: random_findings(generator) for key in profile.keys}
        for draw in draw_questions(f"{profile.name}-{study:05}", profile, 0, weights=weights):
            question = apply_draw(draw, profile, findings)
            questions.append(question.text)
            answers.append(question.answer)
            asked.update(draw.tasks)
    shares = ", ".join(
        f"{task} {100 * (1 - asked[task] / len(questions)):.1f} ({told.frequencies[task][NOT_ASKED]})" for task in Task
    )
    unique = 100 * len(set(questions)) / len(questions)
    print(
        f"{weights.name} {told.name}: {len(questions):,} questions, {unique:.1f} % unique "
        f"({100 * told.unique_questions / told.questions:.1f}), {100 * len(set(answers)) / len(answers):.1f} % of the "
        f"answers ({100 * told.unique_answers / told.questions:.1f}); % not asked (paper): {shares}"
    )


def main() -> None:
    banks()
    for weights in TYPE_WEIGHTS.values():
        for name, told in PAPER_DATASETS.items():
            at_full_size(PROFILES_BY_NAME[name], told, weights)


if __name__ == "__main__":
    main()

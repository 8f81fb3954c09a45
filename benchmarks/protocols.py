"""How the presets answer on the same masks: labels in each category of spread and shape, by protocol.

    VOXMOE_REAL_DATA=FOLDER python benchmarks/protocols.py

Reads the masks that `voxmoe bench findings` times: the real ones, or else phantoms. docs/protocol.md has the figures.
"""

from collections import Counter

from voxmoe.bench.cases import mask_cases
from voxmoe.vocabulary import SHAPES, SPREADS
from voxmoe.vqa.findings import find
from voxmoe.vqa.protocol import PROTOCOLS


def main() -> None:
    data, cases = mask_cases()
    print(f"{len(cases)} {data}")
    for name, protocol in PROTOCOLS.items():
        found = [label for case in cases for label in find(case.mask, case.profile, protocol).labels.values()]
        present = [label for label in found if label.present]
        answers = Counter(term for label in present for term in (label.spread, label.shape))
        counted = sum(label.components for label in present)
        told = ", ".join(f"{term} {answers[term]}" for term in (*SPREADS, *SHAPES))
        print(f"{name}: {len(present)} labels present, {counted} components counted; {told}")


if __name__ == "__main__":
    main()

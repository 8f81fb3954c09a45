"""A report of a torso: its findings in sentences, organ by organ, normal ones too; words drawn, content true."""

from collections.abc import Sequence

import numpy as np

from voxmoe.imaging.torso.truth import Lesion, TorsoTruth
from voxmoe.vqa.ct.facts import PHASES, place

Rng = np.random.Generator
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six")


def pick(rng: Rng, *wordings: str) -> str:
    return wordings[int(rng.integers(len(wordings)))]


def listed(parts: Sequence[str]) -> str:
    """ "a, b and c"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def millimetres(lesion: Lesion) -> str:
    return f"{lesion.diameter_mm:.0f} mm"


def _technique(truth: TorsoTruth, rng: Rng) -> str:
    phase = PHASES[truth.phase]
    return pick(
        rng,
        f"{phase} CT of the chest and upper abdomen",
        f"CT of the chest and upper abdomen, {phase}",
        f"{phase} scan of the chest and upper abdomen",
    )


def _by_size(lesions: Sequence[Lesion]) -> list[Lesion]:
    return sorted(lesions, key=lambda each: -(each.diameter_mm or 0))


def _nodules(truth: TorsoTruth, rng: Rng) -> str:
    nodules = _by_size(truth.of("nodule"))
    if not nodules:
        return pick(rng, "no pulmonary nodule on either side", "no nodule in either lung", "the lungs show no nodule")
    first = nodules[0]
    texture = "calcified" if first.calcified else "solid"
    if len(nodules) == 1:
        return pick(
            rng,
            f"a {texture} nodule of {millimetres(first)} in the {place(first)}",
            f"one {millimetres(first)} {texture} nodule in the {place(first)}",
            f"the {place(first)} contains a {texture} nodule of {millimetres(first)}",
        )
    number = _NUMBERS[len(nodules)]
    return pick(
        rng,
        f"{number} pulmonary nodules, the largest {texture}, {millimetres(first)}, in the {place(first)}",
        f"{number} nodules, the largest of {millimetres(first)} being {texture} in the {place(first)}",
        f"there are {number} pulmonary nodules, the largest a {texture} one of {millimetres(first)} in the "
        f"{place(first)}",
    )


def _lungs(truth: TorsoTruth, rng: Rng) -> str:
    consolidation = truth.of("consolidation")
    there = [f"consolidation in the {place(each)}" for each in consolidation]
    there += [pick(rng, "emphysema", "emphysematous changes")] if truth.present("emphysema") else []
    if not there:
        return pick(rng, "no consolidation or emphysema", "neither consolidation nor emphysema")
    text = listed(there)
    absent = "" if consolidation else pick(rng, ", no consolidation", " without consolidation")
    return pick(rng, text, f"there is {text}", f"{text} is seen" if len(there) == 1 else f"{text} are seen") + absent


def _pleura(truth: TorsoTruth, rng: Rng) -> str:
    effusions = truth.of("effusion")
    if not effusions:
        return pick(rng, "no pleural effusion", "the pleural spaces are clear", "pleural spaces free of fluid")
    if len(effusions) == 2:
        right, left = (truth.of("effusion", side)[0].grade for side in ("right", "left"))
        if right == left:
            return pick(rng, f"{right} pleural effusions on both sides", f"bilateral pleural effusions, both {right}")
        return pick(
            rng,
            f"bilateral pleural effusions, {right} on the right and {left} on the left",
            f"pleural effusions on both sides, {right} right and {left} left",
        )
    grade, side = effusions[0].grade, effusions[0].side
    return pick(rng, f"{grade} {side} pleural effusion", f"a {grade} pleural effusion on the {side}")


def _heart(truth: TorsoTruth, rng: Rng) -> str:
    size = (
        pick(rng, "the heart is enlarged", "cardiomegaly is present")
        if truth.cardiomegaly
        else pick(rng, "the heart is of normal size", "normal heart size")
    )
    if truth.present("coronary calcification"):
        return size + pick(rng, ", with coronary calcification", "; calcified coronary arteries")
    return size + pick(rng, ", without coronary calcification", "; no coronary calcification")


def _aorta(truth: TorsoTruth, rng: Rng) -> str:
    if truth.present("aortic calcification"):
        return pick(
            rng,
            "the aortic wall is calcified",
            "calcification of the aorta",
            "atherosclerotic calcification of the aorta",
        )
    return pick(rng, "the aorta is not calcified", "no calcification of the aorta", "the aortic wall shows no calcium")


def _counted(lesions: Sequence[Lesion], one: str, many: str) -> str:
    ordered = _by_size(lesions)
    if len(ordered) == 1:
        return f"a {one} of {millimetres(ordered[0])}"
    return f"{_NUMBERS[len(ordered)]} {many} up to {millimetres(ordered[0])}"


def _liver(truth: TorsoTruth, rng: Rng) -> str:
    there = ["fatty infiltration"] if truth.fatty_liver else []
    if cysts := truth.of("liver cyst"):
        there.append(_counted(cysts, "cyst", "cysts"))
    if metastases := truth.of("liver metastasis"):
        there.append(_counted(metastases, "metastasis", "metastases"))
    if not there:
        return pick(rng, "the liver is normal", "liver without focal lesion", "no abnormality of the liver")
    text = pick(rng, f"the liver shows {listed(there)}", f"in the liver {listed(there)}")
    return text if cysts or metastases else text + pick(rng, ", no focal lesion", " without focal lesion")


def _spleen(truth: TorsoTruth, rng: Rng) -> str:
    if truth.splenomegaly:
        return pick(rng, "the spleen is enlarged", "splenomegaly is present", "enlargement of the spleen")
    return pick(rng, "the spleen is of normal size", "the spleen is normal", "the spleen is not enlarged")


def _kidneys(truth: TorsoTruth, rng: Rng) -> str:
    there = []
    for name, one, many in (("kidney stone", "a stone", "stones"), ("kidney cyst", "a cyst", "cysts")):
        sides = truth.sides(name)
        if sides:
            there.append(f"{many} in both kidneys" if len(sides) == 2 else f"{one} in the {sides[0]} kidney")
    if not there:
        return pick(rng, "the kidneys are normal", "kidneys without stone or cyst", "no renal stone or cyst")
    absent = {("kidney stone",): "no renal cyst", ("kidney cyst",): "no renal stone"}
    which = tuple(name for name in ("kidney stone", "kidney cyst") if truth.present(name))
    return pick(rng, listed(there), f"there is {listed(there)}") + (f", {absent[which]}" if which in absent else "")


def report(truth: TorsoTruth, rng: Rng) -> str:
    """40 to 90 words, each statement true."""
    parts = (_technique, _nodules, _lungs, _pleura, _heart, _aorta, _liver, _spleen, _kidneys)
    return " ".join(sentence(part(truth, rng)) for part in parts)

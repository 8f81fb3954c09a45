"""What is drawn: a function of profile, seed and index, and for each profile its own diseases and labels."""

import numpy as np
import pytest

from voxmoe.imaging.layouts import candidate_profiles
from voxmoe.imaging.namings import NAMINGS, naming_for
from voxmoe.imaging.parts import PART_KEYS, Part, part_labels
from voxmoe.imaging.phantoms.diseases import draw_foci
from voxmoe.imaging.phantoms.parameters import draw_parameters
from voxmoe.vocabulary import PROFILES, PROFILES_BY_NAME, Modality, Profile

GLI = PROFILES_BY_NAME["gli-2024"]
MET = PROFILES_BY_NAME["met-2024"]


def test_parameters_are_a_function_of_profile_seed_and_index() -> None:
    assert draw_parameters(GLI, 3, 5) == draw_parameters(GLI, 3, 5)
    others = [draw_parameters(GLI, 3, 6), draw_parameters(GLI, 4, 5), draw_parameters(MET, 3, 5)]
    assert all(draw_parameters(GLI, 3, 5).anatomy != other.anatomy for other in others)


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_each_profile_draws_and_names_its_own_studies(profile: Profile) -> None:
    drawn = [draw_parameters(profile, 1, index) for index in range(40)]
    assert all(parameters.modalities.keys() == set(Modality) for parameters in drawn)
    assert len({len(parameters.foci) for parameters in drawn}) > 1
    candidates = candidate_profiles(naming_for(profile).study_id(12))
    assert candidates == () if profile.labels_from else profile.name in candidates
    values = set(part_labels(profile).tolist())
    assert values <= {0, *profile.by_value}
    assert values >= set(profile.by_value), "a label that no part of a lesion can carry"


def test_tables_hold_every_profile_and_part() -> None:
    assert {name for naming in NAMINGS for name in naming.profiles} == {profile.name for profile in PROFILES}
    assert set(PART_KEYS) == set(Part)


def test_some_treated_studies_lack_a_label_and_few_lack_all() -> None:
    drawn = [draw_foci(np.random.default_rng(seed), GLI) for seed in range(400)]
    assert 0 < sum(not foci for foci in drawn) < 20
    main = [foci[0] for foci in drawn if foci]
    assert 0.65 < np.mean([focus.cavity > 0 for focus in main]) < 0.88
    assert 0.55 < np.mean([focus.enhancing > 0 for focus in main]) < 0.85
    assert (
        0.25 < np.mean([0 < focus.enhancing < 1 or (focus.tumour > 0 and not focus.enhancing) for focus in main]) < 0.6
    )

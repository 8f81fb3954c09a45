"""The one source of labels, tasks and classes says what the paper says."""

import pytest

from voxmoe.vocabulary import (
    ABSENT,
    CLASSES,
    EXCLUSIVE_TASKS,
    NO_REGION,
    NOT_ASKED,
    PROFILES,
    PROFILES_BY_NAME,
    REGIONS,
    TASK_COMBINATIONS,
    Modality,
    Profile,
    Task,
)


def test_orders_that_arrays_rely_on() -> None:
    assert [str(modality) for modality in Modality] == ["T1", "T1Gd", "T2", "FLAIR"]
    assert [str(task) for task in Task] == ["volume", "region", "shape", "spread"]
    assert EXCLUSIVE_TASKS == (Task.VOLUME, Task.SHAPE, Task.SPREAD)


@pytest.mark.parametrize(("task", "size"), [(Task.VOLUME, 8), (Task.SHAPE, 7), (Task.SPREAD, 5), (Task.REGION, 11)])
def test_numbers_of_classes(task: Task, size: int) -> None:
    assert len(CLASSES[task]) == len(set(CLASSES[task])) == size


def test_class_0_is_not_asked() -> None:
    assert [CLASSES[task][:2] for task in EXCLUSIVE_TASKS] == [(NOT_ASKED, ABSENT)] * 3
    assert CLASSES[Task.REGION][:9] == REGIONS
    assert NO_REGION not in CLASSES[Task.REGION]


def test_all_15_combinations_of_tasks() -> None:
    assert len(TASK_COMBINATIONS) == len({frozenset(tasks) for tasks in TASK_COMBINATIONS}) == 15
    assert TASK_COMBINATIONS[0] == (Task.VOLUME,)
    assert TASK_COMBINATIONS[-1] == tuple(Task)
    assert all(list(tasks) == [task for task in Task if task in tasks] for tasks in TASK_COMBINATIONS)


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_labels_of_a_profile_are_distinct(profile: Profile) -> None:
    values = [label.value for label in profile.labels]
    assert values == sorted(set(values))
    assert all(1 <= value <= 255 for value in values)
    assert len(set(profile.keys)) == len({label.name for label in profile.labels}) == len(profile.labels)
    assert {value: label.value for value, label in profile.by_value.items()} == dict(zip(values, values, strict=True))
    assert not any(set("{}") & set(label.name) for label in profile.labels)


def test_every_name_and_alias_means_one_profile() -> None:
    names = [name for profile in PROFILES for name in (profile.name, *profile.aliases)]
    assert len(names) == len(set(names)) == len(PROFILES_BY_NAME)
    assert all(name == name.lower() for name in names)


@pytest.mark.parametrize(
    ("alias", "labels"),
    [
        (
            "gli",
            {
                "NETC": "Non-Enhancing Tumor",
                "SNFH": "Surrounding Non-enhancing FLAIR hyperintensity",
                "ET": "Enhancing Tissue",
                "RC": "Resection Cavity",
            },
        ),
        (
            "met",
            {
                "NETC": "Non-Enhancing Tumor",
                "SNFH": "Surrounding Non-enhancing FLAIR hyperintensity",
                "ET": "Enhancing Tissue",
            },
        ),
        ("goat", {"NCR": "Necrosis", "ED": "Edema/Invaded Tissue", "ET": "Enhancing Tumor"}),
    ],
)
def test_the_three_profiles_of_the_paper(alias: str, labels: dict[str, str]) -> None:
    assert {label.key: label.name for label in PROFILES_BY_NAME[alias].labels} == labels


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("brats-2017", {"NCR": 1, "ED": 2, "ET": 4}),
        ("brats-2021", {"NCR": 1, "ED": 2, "ET": 4}),
        ("gli-2023", {"NCR": 1, "ED": 2, "ET": 3}),
        ("met-2025", {"NETC": 1, "SNFH": 2, "ET": 3, "RC": 4}),
        ("ped-2023", {"NC": 1, "ED": 2, "ET": 3}),
        ("ped-2024", {"ET": 1, "NET": 2, "CC": 3, "ED": 4}),
        ("men-rt-2024", {"GTV": 1}),
    ],
)
def test_values_of_other_releases(name: str, values: dict[str, int]) -> None:
    assert {label.key: label.value for label in PROFILES_BY_NAME[name].labels} == values


def test_only_radiotherapy_meningioma_has_a_single_modality() -> None:
    single = [profile.name for profile in PROFILES if profile.modalities != tuple(Modality)]
    assert single == ["men-rt-2024"]
    assert PROFILES_BY_NAME["men-rt-2024"].modalities == (Modality.T1GD,)

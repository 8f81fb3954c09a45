"""The errors that a user can cause and mend: what was found, what is allowed, what to do next.

Everything that VoxMoE raises on purpose derives from `VoxmoeError`; the command line prints its message alone,
without a traceback, and ends with exit code 2.
"""


class VoxmoeError(Exception):
    """Base of all errors that carry a message meant for the user."""


class ImageError(VoxmoeError):
    """A file is missing, broken, or is not the image it is taken for."""


class StudyError(VoxmoeError):
    """The files of a study do not belong together, or no study was found."""


class LabelError(VoxmoeError):
    """A mask and its profile disagree, or a profile or label name is unknown."""


class AtlasError(VoxmoeError):
    """An atlas is missing or does not lie in the space of the scan."""


class MissingPackageError(VoxmoeError):
    """A package that something needs is not installed."""


class ClusterError(VoxmoeError):
    """A cluster does not answer, has no workers, or runs another version."""


class DatasetError(VoxmoeError):
    """A dataset is missing, incomplete, or does not fit what is to be done with it."""


class QuestionError(VoxmoeError):
    """A question cannot be asked as it stands."""


class EndpointError(VoxmoeError):
    """A language model's endpoint cannot be reached, refuses, or answers with something else."""


class BenchError(VoxmoeError):
    """A benchmark is unknown, or the two things that it compares do not agree."""


class RecipeError(VoxmoeError):
    """A recipe has unknown keys or values that are not allowed."""


class WeightsError(VoxmoeError):
    """Weights are missing or do not fit the model key by key."""


class TrainingError(VoxmoeError):
    """A training run cannot go on."""


class ResultsError(VoxmoeError):
    """A file of results or predictions cannot be read."""


class SheetError(VoxmoeError):
    """A reading sheet is not filled in as it should be."""


class CacheError(VoxmoeError):
    """What to remove from the cache was not said."""


class JobsError(VoxmoeError):
    """A number of processes that does no work."""


def check_jobs(jobs: int) -> None:
    """Raise `JobsError` for a number of processes, as joblib counts them, that does no work."""
    if jobs == 0:
        raise JobsError("0 jobs: nobody does the work; jobs are 1 or more processes, or -1 for one a core")

"""The file of results: what is no such file is told in one sentence."""

from pathlib import Path

import pytest

from voxmoe.errors import ResultsError
from voxmoe.evaluation import results


def test_a_folder_is_no_file_of_results(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"cannot be read \(Is a directory\); name a file that voxmoe evaluate"):
        results.load(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ResultsError, match=r"cannot be read \(Not a directory\)"):
        results.load_any(tmp_path / "file" / "results.json")

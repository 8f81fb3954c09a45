"""The template: an error that says what to do where it is missing."""

import pytest

from voxmoe import files
from voxmoe.errors import MissingPackageError
from voxmoe.imaging.phantoms import template


def test_missing_template_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "find_spec", lambda _: None)
    with pytest.raises(MissingPackageError, match=r"pip install .*nilearn"):
        template.template_path("t1")

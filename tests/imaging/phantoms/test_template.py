"""The template: an error that says what to do where it is missing."""

import numpy as np
import pytest
from scipy import ndimage

from voxmoe import files
from voxmoe.errors import MissingPackageError
from voxmoe.imaging.phantoms import template


def test_missing_template_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "find_spec", lambda _: None)
    with pytest.raises(MissingPackageError, match=r"pip install .*nilearn"):
        template.template_path("t1")


def test_distances_are_those_of_the_whole_brain() -> None:
    depth = template.load_template().maps["depth"]
    region = depth > 0
    outside = ndimage.distance_transform_edt(~region)
    np.testing.assert_allclose(depth, np.clip(ndimage.distance_transform_edt(region) - outside, -12, 40), atol=1e-5)
    ventricle = template.load_template().maps["ventricle"]
    within = ndimage.distance_transform_edt(ventricle < 0)
    np.testing.assert_allclose(np.minimum(ventricle, 0), -np.minimum(within, 12), atol=1e-5)

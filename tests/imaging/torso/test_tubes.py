"""Tubes fill what a cylinder fills, thick or thin."""

import numpy as np
import pytest

from voxmoe.imaging.torso.frame import draw_frame
from voxmoe.imaging.torso.tubes import stamp, tube


@pytest.mark.parametrize("radius", [1.0, 4.0, 11.0])
def test_a_straight_tube_has_the_section_of_a_cylinder(radius: float) -> None:
    frame = draw_frame(np.random.default_rng(1))
    line = tube(np.random.default_rng(0), [(10.0, 0.0, -120.0), (10.0, 0.0, 150.0)], [radius, radius], sway=0.0)
    share = stamp(frame, [line])
    section = share.sum(axis=(0, 1))[10:50].mean() * frame.spacing[0] * frame.spacing[1]
    assert 0.45 < section / (np.pi * radius**2) < 1.3
    assert 0 <= share.min() < share.max() <= 1


def test_a_curve_passes_its_knots_and_tapers() -> None:
    knots = [(0.0, 0.0, 0.0), (10.0, 5.0, 40.0), (-10.0, 0.0, 80.0)]
    line = tube(np.random.default_rng(0), knots, [6.0, 4.0, 1.0], sway=0.0)
    for knot, radius in zip(knots, [6.0, 4.0, 1.0], strict=True):
        away = np.linalg.norm(line.points - knot, axis=1)
        assert away.min() < 2
        assert line.radii[away.argmin()] == pytest.approx(radius, abs=0.2)

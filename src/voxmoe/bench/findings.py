"""`find` against the pipeline of mpLLM's Appendix A as it is written down.

The reference labels the whole volume with SciPy, and measures each component that the aggregation rule needs by a mesh
of the zero-padded component, the covariance of all its voxels and the convex hull of all its voxels. Each component is
first cut out to its box, which the paper does not ask for but which makes the reference faster. Relative volume is in
both, regions in neither.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError
from skimage.measure import marching_cubes, mesh_surface_area

from voxmoe.bench.cases import MaskCase, mask_cases
from voxmoe.bench.timing import summary, time_in_turn
from voxmoe.errors import BenchError
from voxmoe.vqa.findings import Brain, LabelFindings, find
from voxmoe.vqa.protocol import PAPER_V2, Protocol

_BRAIN = Brain(1_500_000, "a typical brain")
_STRUCTURES = {6: 1, 18: 2, 26: 3}


@dataclass(frozen=True)
class Outputs:
    """What both pipelines have to agree on for one label: terms and counts exactly, numbers to 1e-3."""

    exact: tuple[str | int | None, ...]
    numbers: tuple[float, ...]

    def agrees(self, other: "Outputs") -> bool:
        return self.exact == other.exact and np.allclose(self.numbers, other.numbers, rtol=1e-3, atol=1e-6)


def _measure(component: Bool[np.ndarray, "X Y Z"], spacing: tuple[float, float, float]) -> Float64[np.ndarray, "5"]:
    """Sphericity, elongation, flatness, solidity and compactness, formula by formula."""
    points = np.argwhere(component) * spacing
    volume = len(points) * float(np.prod(spacing))
    vertices, faces, _, _ = marching_cubes(np.pad(component, 1).astype(np.float32), 0.5, spacing=spacing)
    area = mesh_surface_area(vertices, faces)
    elongation = flatness = 0.0
    if len(points) >= 3:
        third, second, first = np.linalg.eigvalsh(np.cov(points.T, bias=True)).clip(0)
        if second > 1e-9 * first:
            elongation, flatness = np.sqrt(first / second), np.sqrt(third / second)
    try:
        solidity = volume / ConvexHull(points).volume if len(points) > 3 else 1.0
    except QhullError:
        solidity = 1.0
    sphericity = np.pi ** (1 / 3) * (6 * volume) ** (2 / 3) / area
    return np.array([sphericity, elongation, flatness, solidity, area / volume])


def reference(case: MaskCase, protocol: Protocol) -> dict[str, Outputs]:
    """The paper's pipeline, label by label; an absent label has no entry."""
    structure = ndimage.generate_binary_structure(3, _STRUCTURES[protocol.connectivity])
    found = {}
    for label in case.profile.labels:
        components, count = ndimage.label(case.mask.data == label.value, structure)
        if count == 0:
            continue
        voxels = np.bincount(components.ravel(order="K"))[1:]
        core = float(voxels.max() / voxels.sum())
        needed = [int(voxels.argmax())] if count == 1 or core >= protocol.core_fraction else range(count)
        boxes = ndimage.find_objects(components)
        shapes = [_measure(components[boxes[index]] == index + 1, case.mask.spacing) for index in needed]
        numbers = np.mean(shapes, axis=0).tolist()
        volume_mm3 = int(voxels.sum()) * case.mask.voxel_mm3
        relative = protocol.relative_volume(int(voxels.sum()), _BRAIN.voxels)
        terms = (
            protocol.volume_category(relative),
            protocol.shape_category(volume_mm3, numbers[0], numbers[1]),
            protocol.spread_category(count, core),
        )
        found[label.key] = Outputs((*terms, count, int(voxels.sum())), (volume_mm3, relative, core, *numbers))
    return found


def _outputs(found: LabelFindings) -> Outputs:
    shape = found.shape_numbers
    assert shape is not None
    assert found.relative_volume is not None
    assert found.core_fraction is not None
    numbers = (shape.sphericity, shape.elongation, shape.flatness, shape.solidity, shape.compactness)
    return Outputs(
        (found.volume, found.shape, found.spread, found.components, found.voxels),
        (found.volume_mm3, found.relative_volume, found.core_fraction, *numbers),
    )


def _check_equal(case: MaskCase, protocol: Protocol) -> None:
    found = find(case.mask, case.profile, protocol, _BRAIN).labels
    ours = {key: _outputs(label) for key, label in found.items() if label.present}
    theirs = reference(case, protocol)
    for key in ours.keys() | theirs.keys():
        if key not in ours or key not in theirs or not ours[key].agrees(theirs[key]):
            raise BenchError(f"{case.name}, {key}: ours found {ours.get(key)}, the reference {theirs.get(key)}")


def bench_findings(
    cases: Sequence[MaskCase] | None = None, runs: int = 5, protocol: Protocol = PAPER_V2
) -> dict[str, Any]:
    """Time both pipelines on masks in memory; raises `BenchError` where their outputs differ.

    The protocol has to be one of the paper's kind: the reference knows no fragments and no solid voxels.
    """
    data, cases = ("given masks", cases) if cases is not None else mask_cases()
    timings = []
    for case in cases:
        _check_equal(case, protocol)  # also makes the table of areas, which is made once a process and spacing
        ours = partial(find, case.mask, case.profile, protocol, _BRAIN)
        timings.append(time_in_turn(case.name, ours, partial(reference, case, protocol), runs))
    return summary("findings", data, runs, timings) | {"protocol": protocol.name}

"""Synthetic multiparametric brain MRI with known truth, in the layout of any BraTS release.

(profile, seed, index) -> parameters -> anatomy and lesions -> four modalities and a mask on the SRI24 grid.
The parameters are drawn first and recorded; everything after is a pure function of them, so a study's bytes
depend on nothing else.
"""

import json
import multiprocessing
import signal
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Float32, Shaped, UInt8
from scipy import ndimage, sparse

import voxmoe
from voxmoe.files import write_json
from voxmoe.imaging.anatomy import AnatomyParameters, Brain, draw_anatomy, grow_brain, smooth_noise
from voxmoe.imaging.lesions import Focus, Lesions, Part, draw_foci, grow_lesions, part_values, pushes
from voxmoe.imaging.spaces import SRI24
from voxmoe.imaging.study import Study
from voxmoe.imaging.volume import Volume, write_volume
from voxmoe.vocabulary import PROFILES_BY_NAME, Modality, Profile


@dataclass(frozen=True)
class FileNames:
    """How a release names the folder of a study and its files; `study` takes the index."""

    study: str
    separator: str
    suffixes: tuple[str, str, str, str]
    """In the order of `Modality`."""
    mask: str = "seg"


_OLD = ("t1", "t1ce", "t2", "flair")
_NEW = ("t1n", "t1c", "t2w", "t2f")
FILE_NAMES = MappingProxyType(
    {
        "gli-2024": FileNames("BraTS-GLI-{:05d}-100", "-", _NEW),
        "met-2024": FileNames("BraTS-MET-{:05d}-000", "-", _NEW),
        "met-2025": FileNames("BraTS-MET-{:05d}-000", "-", _NEW),
        "goat-2024": FileNames("BraTS-GoAT-{:05d}", "-", _NEW),
        "brats-2018": FileNames("Brats18_VOX_{:05d}_1", "_", _OLD),
        "brats-2019": FileNames("BraTS19_VOX_{:05d}_1", "_", _OLD),
        "brats-2020": FileNames("BraTS20_Training_{:03d}", "_", _OLD),
        "brats-2021": FileNames("BraTS2021_{:05d}", "_", _OLD),
        "gli-2023": FileNames("BraTS-GLI-{:05d}-000", "-", _NEW),
        "ped-2023": FileNames("BraTS-PED-{:05d}-000", "-", _NEW),
        "ped-2024": FileNames("BraTS-PED-{:05d}-000", "-", _NEW),
        "ssa-2023": FileNames("BraTS-SSA-{:05d}-000", "-", _NEW),
        "men-2023": FileNames("BraTS-MEN-{:05d}-000", "-", _NEW),
        "men-rt-2024": FileNames("BraTS-MEN-RT-{:04d}-1", "_", _NEW, "gtv"),
    }
)

Range = tuple[float, float]
_TISSUES = (
    "csf",
    "grey",
    "deep",
    "vessel",
    "plexus",
    "dura",
    "spots",
    "halo",
    "core",
    "cyst",
    "rim",
    "cavity",
)
_CONTRASTS: Mapping[Modality, tuple[Range, ...]] = MappingProxyType(
    {
        Modality.T1: (
            (0.25, 0.5), (0.70, 0.88), (0.82, 0.95), (0.6, 1.0), (0.5, 0.85), (0.5, 0.9), (0.85, 0.97),
            (0.78, 0.95), (0.55, 0.88), (0.4, 0.65), (0.76, 0.98), (0.28, 0.55),
        ),
        Modality.T1GD: (
            (0.25, 0.5), (0.72, 0.92), (0.84, 0.97), (1.3, 3.0), (1.1, 2.0), (0.9, 1.9), (0.85, 0.97),
            (0.78, 0.95), (0.50, 0.88), (0.4, 0.65), (1.3, 2.4), (0.28, 0.55),
        ),
        Modality.T2: (
            (2.3, 4.0), (1.12, 1.45), (1.0, 1.2), (0.2, 0.9), (1.5, 2.4), (0.3, 1.2), (1.2, 1.5),
            (1.45, 2.1), (1.5, 2.8), (2.0, 3.4), (1.3, 2.0), (2.2, 4.0),
        ),
        Modality.FLAIR: (
            (0.2, 0.5), (1.04, 1.28), (1.02, 1.16), (0.3, 0.9), (0.7, 1.3), (0.5, 1.3), (1.25, 1.6),
            (1.35, 2.0), (0.9, 1.9), (0.5, 1.3), (1.2, 1.7), (0.25, 1.0),
        ),
    }
)  # fmt: skip
"""The range of each tissue's brightness, white matter being 1, in the order of `_TISSUES`."""
_PART_TISSUES = MappingProxyType(
    {Part.HALO: "halo", Part.CORE: "core", Part.CYST: "cyst", Part.RIM: "rim", Part.CAVITY: "cavity"}
)


@dataclass(frozen=True)
class ModalityParameters:
    """How one modality is acquired. Brightness, noise and texture are relative to white matter."""

    brightness: Mapping[str, float]
    scale: float
    """The stored intensity of white matter."""
    gamma: float
    bias: float
    shading: tuple[float, float, float]
    """Brightening towards right, front and top; the cortex, nearer to the coils, has `rim_shading`."""
    rim_shading: float
    noise: float
    texture: float
    blur: tuple[float, float, float]
    """Weight of both neighbours along each axis."""
    thick_axis: int
    thickness: float
    """Slice thickness in mm along `thick_axis`; 1 leaves the grid as it is."""
    cut: float
    """The share of the width that the field of view misses on the right; one low value stands there."""
    seed: int


@dataclass(frozen=True)
class PhantomParameters:
    """Everything that is drawn of a study."""

    anatomy: AnatomyParameters
    foci: tuple[Focus, ...]
    caps: float
    """Strength of bright caps along the ventricles that are no lesion, 0 to 1."""
    spots: float
    """The share of the deep white matter that small bright spots cover which are no lesion."""
    dura: float
    seed: int
    modalities: Mapping[Modality, ModalityParameters]


@dataclass(frozen=True, eq=False)
class Phantom:
    """A synthetic study with its mask, what was drawn and what came of it."""

    study: Study
    profile: Profile
    truth: Mapping[str, Any]


def _draw_modality(rng: np.random.Generator, modality: Modality) -> ModalityParameters:
    def between(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    brightness = {name: between(*limits) for name, limits in zip(_TISSUES, _CONTRASTS[modality], strict=True)}
    if modality == Modality.FLAIR:
        brightness["halo"] = max(brightness["halo"], 1.15 * brightness["grey"])
    return ModalityParameters(
        brightness=brightness,
        scale=float(np.clip(700 * np.exp(0.7 * rng.standard_normal()), 120, 5000)),
        gamma=between(0.88, 1.15),
        bias=between(0.02, 0.12),
        shading=(between(-0.12, 0.12), between(-0.15, 0.15), between(-0.15, 0.15)),
        rim_shading=between(0.0, 0.3) if rng.random() < 0.5 else 0.0,
        noise=between(0.01, 0.06),
        texture=between(0.01, 0.04),
        blur=(between(0.02, 0.24), between(0.02, 0.24), between(0.02, 0.24)),
        thick_axis=int(rng.choice(3, p=(0.2, 0.2, 0.6))),
        thickness=between(2.0, 5.5) if rng.random() < 0.35 else 1.0,
        cut=between(0.02, 0.1) if rng.random() < 0.02 else 0.0,
        seed=int(rng.integers(2**32)),
    )


def draw_parameters(profile: Profile, seed: int, index: int) -> PhantomParameters:
    """All parameters of study `index`; a pure function of its arguments."""
    # the profile counts too: cohorts of two profiles must not share their brains
    rng = np.random.default_rng(np.random.SeedSequence([seed, index, zlib.crc32(profile.name.encode())]))
    return PhantomParameters(
        anatomy=draw_anatomy(rng),
        foci=draw_foci(rng, profile),
        caps=float(rng.beta(1.2, 1.8)),
        spots=float(np.clip(rng.exponential(0.006), 0, 0.04)),
        dura=float(rng.uniform(0, 0.9)),
        seed=int(rng.integers(2**32)),
        modalities={modality: _draw_modality(rng, modality) for modality in Modality},
    )


# --- signal

Flat = Float32[np.ndarray, " N"]


def _noise(rng: np.random.Generator, brain: Brain, spacing: float) -> Flat:
    field: Flat = smooth_noise(rng, brain.shape, spacing).reshape(-1)[brain.index]
    return field


@dataclass(frozen=True, eq=False)
class _Scene:
    """What all modalities of a study share: the brain, its lesions and its harmless findings, each 0 to 1."""

    brain: Brain
    lesions: Lesions
    spots: Flat
    dura: Flat


def _bright_spots(parameters: PhantomParameters, brain: Brain, rng: np.random.Generator) -> Flat:
    """FLAIR-bright white matter that nobody would segment: caps along the ventricles, spots in the depth."""
    caps = np.float32(parameters.caps) * np.exp(-np.clip(brain.ventricle, 0, None) / 2.0)
    caps *= np.clip(0.6 + 0.6 * _noise(rng, brain, 16.0), 0, 1)
    field = _noise(rng, brain, 5.0)
    threshold = np.quantile(field[::50], 1 - parameters.spots)
    small = np.clip((field - np.float32(threshold)) / 0.35, 0, 1) * (brain.depth > 9)
    return np.asarray(np.maximum(caps, small * 0.9) * np.clip(brain.white * 1.3 - 0.2, 0, 1), dtype=np.float32)


def _scene(parameters: PhantomParameters, brain: Brain, lesions: Lesions) -> _Scene:
    rng = np.random.default_rng([parameters.seed, 0])
    spots = _bright_spots(parameters, brain, rng)
    rim = np.clip(1.6 - np.abs(brain.depth - 0.3), 0, 1) * np.float32(parameters.dura)
    return _Scene(brain, lesions, spots, rim * np.clip(0.3 + 0.7 * _noise(rng, brain, 18.0), 0, 1))


def _mix(image: Flat, share: Flat, value: Flat | float) -> None:
    """Lay a tissue over the image where its share is not negligible."""
    at = np.flatnonzero(share > 0.02)
    laid = value if isinstance(value, float) else value[at]
    image[at] += share[at] * (np.float32(1) * laid - image[at])


def _tissue_signal(scene: _Scene, drawn: ModalityParameters, rng: np.random.Generator) -> Flat:
    brain, light = scene.brain, drawn.brightness
    image = brain.white + brain.csf * np.float32(light["csf"])
    image += brain.grey * np.float32(light["grey"]) + brain.deep * np.float32(light["deep"])
    _mix(image, scene.spots, light["spots"])
    _mix(image, scene.dura, light["dura"])
    _mix(image, brain.plexus, light["plexus"])
    _mix(image, brain.vessel, light["vessel"])
    texture = _noise(rng, brain, 2.4)
    mottle = _noise(rng, brain, 6.0)
    for part, tissue in _PART_TISSUES.items():
        roughness = np.float32(0.04 if part in (Part.CYST, Part.CAVITY) else 0.1)
        value = np.float32(light[tissue]) * (1 + roughness * (mottle + 0.5 * texture))
        _mix(image, scene.lesions.soft[part], value)
    return image * (1 + np.float32(drawn.texture) * texture)


def _shading(scene: _Scene, drawn: ModalityParameters, rng: np.random.Generator) -> Flat:
    """The coils' uneven sensitivity: slopes, a smooth field, and a gain towards the surface."""
    brain = scene.brain
    log = np.float32(drawn.bias) * smooth_noise(rng, brain.shape, 55.0)
    for axis, slope in enumerate(drawn.shading):
        ramp = (np.arange(brain.shape[axis], dtype=np.float32) / brain.shape[axis] - 0.5) * np.float32(1.6 * slope)
        log += ramp.reshape(tuple(-1 if other == axis else 1 for other in range(3)))
    near = np.float32(drawn.rim_shading) * np.exp(-np.clip(brain.depth, 0, None) / 14)
    return np.asarray(np.exp(log.reshape(-1)[brain.index] + near), dtype=np.float32)


@lru_cache(maxsize=64)
def _slice_profile(size: int, thickness: float) -> sparse.csr_array:
    """Averaging over slices of `thickness` voxels, and linear interpolation back to the grid."""
    count = max(int(np.ceil(size / thickness)), 2)
    centres = (np.arange(count) + 0.5) * thickness - 0.5
    grid = np.arange(size)[None, :]
    take = np.clip(thickness / 2 + 0.5 - np.abs(grid - centres[:, None]), 0, 1)
    take /= take.sum(axis=1, keepdims=True)
    give = np.clip(1 - np.abs(np.clip(grid, centres[0], centres[-1]).T - centres[None, :]) / thickness, 0, 1)
    return sparse.csr_array((give @ take).astype(np.float32))


def _acquired(volume: Float32[np.ndarray, "X Y Z"], drawn: ModalityParameters) -> Float32[np.ndarray, "X Y Z"]:
    """The resolution of the acquisition, on the grid's 1 mm voxels."""
    for axis, side in enumerate(drawn.blur):
        volume = ndimage.correlate1d(volume, np.array([side, 1 - 2 * side, side]), axis=axis, mode="nearest")
    if drawn.thickness > 1:
        weights = _slice_profile(volume.shape[drawn.thick_axis], drawn.thickness)
        front = np.moveaxis(volume, drawn.thick_axis, 0)
        thick = weights @ np.ascontiguousarray(front).reshape(front.shape[0], -1)
        volume = np.moveaxis(thick.reshape(front.shape), 0, drawn.thick_axis)
    return volume


def _on_grid(values: Shaped[np.ndarray, " N"], brain: Brain) -> Shaped[np.ndarray, "X Y Z"]:
    """Flat values of the kept voxels on the whole grid, 0 elsewhere."""
    box = brain.volume(np.where(brain.inside, values, np.zeros(1, values.dtype)))
    out = np.zeros(SRI24.shape, dtype=values.dtype, order="F")
    out[tuple(slice(a, a + n) for a, n in zip(brain.start, brain.shape, strict=True))] = box
    return out


def _render(scene: _Scene, drawn: ModalityParameters) -> Shaped[np.ndarray, "X Y Z"]:
    """One modality as int16 on the grid, at least 1 in the brain and 0 elsewhere."""
    rng = np.random.default_rng(drawn.seed)
    brain = scene.brain
    image = _tissue_signal(scene, drawn, rng)
    image = np.maximum(image, 0.01) ** np.float32(drawn.gamma) * _shading(scene, drawn, rng)
    sigma = np.float32(drawn.noise)
    real = image + sigma * rng.standard_normal(len(image), dtype=np.float32)
    image = np.hypot(real, sigma * rng.standard_normal(len(image), dtype=np.float32))
    volume = _acquired(brain.volume(image), drawn)
    if drawn.cut:
        volume[round((1 - drawn.cut) * brain.shape[0]) :] = 0.01
    acquired = volume.reshape(-1)[brain.index]
    stored = np.clip(np.rint(acquired * np.float32(drawn.scale)), 1, 32000).astype(np.int16)
    return _on_grid(stored, brain)


# --- studies


def study_id(profile: Profile, index: int) -> str:
    return FILE_NAMES[profile.name].study.format(index)


def _as_json(parameters: PhantomParameters) -> Any:
    """Plain JSON values, as they come back from a file."""
    return json.loads(json.dumps(asdict(parameters)))


def _label_truth(mask: UInt8[np.ndarray, " N"], brain: Brain, profile: Profile) -> dict[str, Any]:
    truth = {}
    for label in profile.labels:
        at = brain.index[mask == label.value]
        centre = None
        if len(at):
            voxel = [float(axis.mean()) for axis in np.unravel_index(at, brain.shape)]
            centre = [round(value, 2) for value in brain.world(voxel)]
        percent = round(100 * len(at) / int(brain.inside.sum()), 4)
        truth[label.key] = {
            "present": bool(len(at)),
            "voxels": len(at),
            "percent": percent,
            "centre_mm": centre,
        }
    return truth


def draw_phantom(profile: Profile, seed: int, index: int) -> Phantom:
    """Study `index` of the cohort that `seed` names; the same arguments give the same bytes.

    Raises `AtlasError` if the template it is made from is not installed.
    """
    parameters = draw_parameters(profile, seed, index)
    brain = grow_brain(parameters.anatomy, pushes(parameters.foci, parameters.anatomy))
    values = part_values(profile)
    lesions = grow_lesions(parameters.foci, brain, parameters.anatomy, values)
    table = np.zeros(len(Part) + 1, dtype=np.uint8)
    table[list(values)] = list(values.values())
    mask = table[lesions.parts] * brain.inside
    scene = _scene(parameters, brain, lesions)
    name = study_id(profile, index)

    def volume(data: Shaped[np.ndarray, "X Y Z"], what: str) -> Volume:
        return Volume(data, SRI24.affine, f"{name} {what}", SRI24.axes)

    images = {
        modality: volume(_render(scene, parameters.modalities[modality]), modality) for modality in profile.modalities
    }
    foci = [
        {"kind": focus.kind, "centre_mm": [round(value, 2) for value in centre]}
        for focus, centre in zip(parameters.foci, lesions.centres, strict=True)
    ]
    truth = {
        "id": name,
        "voxmoe": voxmoe.__version__,
        "profile": profile.name,
        "seed": seed,
        "index": index,
        "brain_voxels": int(brain.inside.sum()),
        "labels": _label_truth(mask, brain, profile),
        "foci": foci,
        "parameters": _as_json(parameters),
    }
    return Phantom(Study(name, images, volume(_on_grid(mask, brain), "mask")), profile, truth)


def _image_paths(folder: Path, profile: Profile, name: str) -> dict[Modality, Path]:
    names = FILE_NAMES[profile.name]
    suffixes = dict(zip(Modality, names.suffixes, strict=True))
    return {m: folder / f"{name}{names.separator}{suffixes[m]}.nii.gz" for m in profile.modalities}


def _mask_path(folder: Path, profile: Profile, name: str) -> Path:
    names = FILE_NAMES[profile.name]
    return folder / f"{name}{names.separator}{names.mask}.nii.gz"


def write_phantom(phantom: Phantom, out: Path) -> None:
    """Write a phantom as a folder in `out`; its truth comes last and says that the study is complete."""
    name = phantom.study.id
    folder = out / name
    for modality, path in _image_paths(folder, phantom.profile, name).items():
        write_volume(phantom.study.images[modality], path)
    if phantom.study.mask is not None:
        write_volume(phantom.study.mask, _mask_path(folder, phantom.profile, name))
    write_json(folder / f"{name}-truth.json", phantom.truth)


def _written_truth(out: Path, profile: Profile, seed: int, index: int) -> Any | None:
    """The truth of a study that is already there, complete and with the same parameters."""
    name = study_id(profile, index)
    folder = out / name
    paths = [*_image_paths(folder, profile, name).values(), _mask_path(folder, profile, name)]
    try:
        truth = json.loads((folder / f"{name}-truth.json").read_text())
        same = truth["parameters"] == _as_json(draw_parameters(profile, seed, index))
        same &= (truth["voxmoe"], truth["profile"]) == (voxmoe.__version__, profile.name)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return truth if same and all(path.is_file() for path in paths) else None


def _write_study(out: Path, profile: str, seed: int, index: int) -> Any:
    known = PROFILES_BY_NAME[profile]
    truth = _written_truth(out, known, seed, index)
    if truth is None:
        phantom = draw_phantom(known, seed, index)
        write_phantom(phantom, out)
        truth = phantom.truth
    return truth


def _ignore_interrupt() -> None:
    """Ctrl-C is for the parent alone: it lets the studies under way end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _in_parallel(tasks: Iterable[tuple[Path, str, int, int]], jobs: int) -> Iterator[Any]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_ignore_interrupt) as pool:
        futures = [pool.submit(_write_study, *task) for task in tasks]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def write_cohort(
    out: Path,
    n: int,
    profile: Profile,
    seed: int,
    jobs: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a cohort of n studies below `out` in the profile's layout, and `cohort.json` with their truth.

    Studies that are already there with the same parameters are kept: an interrupted run is called again and
    ends with the same bytes, whatever `jobs` (processes) is. `progress` hears (done, n) after each study.
    """
    tasks = [(Path(out), profile.name, seed, index) for index in range(n)]
    finished = _in_parallel(tasks, jobs) if jobs > 1 else (_write_study(*task) for task in tasks)
    truths = []
    for truth in finished:
        truths.append(truth)
        if progress:
            progress(len(truths), n)
    cohort = {
        "voxmoe": voxmoe.__version__,
        "profile": profile.name,
        "seed": seed,
        "n": n,
        "studies": sorted(truths, key=lambda truth: int(truth["index"])),
    }
    write_json(Path(out) / "cohort.json", cohort)

"""How far apart fingerprints lie: different studies against changed copies of one.

    python benchmarks/fingerprints.py COHORT..

Prints, for each cohort folder, the similarities of different studies of the same modality, and over all cohorts those
of changed copies with their originals: by image, and by study, which is found if any of its images is. docs/audit.md
keeps the figures.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
from scipy import ndimage

from voxmoe.imaging.fingerprint import Fingerprint, fingerprint, similarities, stack
from voxmoe.imaging.layouts import find_studies
from voxmoe.imaging.volume import read_image
from voxmoe.vocabulary import Modality

COPIES = 8
"""Studies of each cohort of which changed copies are made."""


def changed(data: np.ndarray, generator: np.random.Generator) -> Iterator[tuple[str, np.ndarray]]:
    """Copies of an image as they are met in the wild."""
    brain = data != 0
    top = np.percentile(data[brain], 99)
    yield "same voxels", data
    yield "x 0.37 + 120", data * 0.37 + 120
    yield "8 bits, clipped at 99.5 %", np.round(np.clip(data / np.percentile(data[brain], 99.5), 0, 1) * 255)
    yield "z-scores in the brain", np.where(brain, (data - data[brain].mean()) / data[brain].std(), 0)
    for gamma in (0.5, 0.7, 1.5, 2):
        yield f"gamma {gamma}", (np.maximum(data, 0) / top) ** gamma
    for share in (0.01, 0.02, 0.05):
        noise = generator.normal(0, share * top, data.shape)
        yield f"noise {share:.0%}, in the brain", np.where(brain, data + noise, 0)
        yield f"noise {share:.0%}, everywhere", np.abs(data + noise)
    ramp = 1 + 0.2 * np.linspace(-1, 1, data.shape[0])[:, None, None]
    yield "brightness +-20 % across", data * ramp
    yield "padded by 1 to 9", np.pad(data, ((7, 3), (0, 9), (5, 1)))
    order = generator.permutation(3)
    steps = tuple(slice(None, None, int(step)) for step in generator.choice((1, -1), 3))
    yield "axes in another order", data.transpose(order)[steps]
    yield "every second voxel (linear)", ndimage.zoom(data, 0.5, order=1)
    yield "turned by 3 degrees", ndimage.rotate(data, 3, axes=(0, 1), reshape=False, order=1)
    yield "turned by 8 degrees", ndimage.rotate(data, 8, axes=(1, 2), reshape=False, order=1)
    yield "blurred by 1 voxel", ndimage.gaussian_filter(data, 1)


def copies(path: Path, seed: int) -> tuple[Fingerprint, dict[str, float]]:
    """The fingerprint of an image, and how like it those of its changed copies are."""
    volume = read_image(path)
    own = fingerprint(volume)
    found = {}
    for change, data in changed(volume.data, np.random.default_rng(seed)):
        copy = fingerprint(replace(volume, data=np.asarray(data, np.float32)))
        found[change] = float(similarities(stack([own]), stack([copy]))[0, 0])
    return own, found


def different(prints: dict[tuple[str, Modality], Fingerprint]) -> np.ndarray:
    """Similarities of all pairs of studies, each modality by itself."""
    found = []
    for modality in Modality:
        rows = stack([one for (_, shown), one in prints.items() if shown is modality])
        found.append(similarities(rows, rows)[np.triu_indices(len(rows), 1)])
    return np.concatenate(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cohorts", nargs="+", type=Path)
    parallel = joblib.Parallel(n_jobs=-1)
    by_image, by_study = defaultdict(list), defaultdict(list)
    for cohort in parser.parse_args().cohorts:
        studies = find_studies(cohort)
        images = {(files.id, modality): path for files in studies for modality, path in files.images.items()}
        plain = {name: path for name, path in images.items() if name[0] not in {one.id for one in studies[:COPIES]}}
        prints = parallel(joblib.delayed(lambda path: fingerprint(read_image(path)))(path) for path in plain.values())
        copied = [name for name in images if name not in plain]
        pairs = parallel(joblib.delayed(copies)(images[name], seed) for seed, name in enumerate(copied))
        prints += [own for own, _ in pairs]
        found = different(dict(zip([*plain, *copied], prints, strict=True)))
        z = np.arctanh(found)
        print(
            f"{cohort.name}: {len(images)} images, {len(found)} pairs of different studies: mean {found.mean():.3f}, "
            f"highest {found.max():.3f}; Fisher z {z.mean():.3f} +- {z.std():.3f}",
            flush=True,
        )
        for files in studies[:COPIES]:
            own = [one for name, (_, one) in zip(copied, pairs, strict=True) if name[0] == files.id]
            for change in own[0]:
                by_image[change] += [one[change] for one in own]
                by_study[change].append(max(one[change] for one in own))
    for change, values in by_image.items():
        print(
            f"{change:28} images: lowest {min(values):.3f}, median {np.median(values):.3f} of {len(values)}   "
            f"studies: lowest {min(by_study[change]):.3f}"
        )


if __name__ == "__main__":
    main()

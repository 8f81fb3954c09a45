"""Estimate the 12-parameter affine that takes MNI152 world mm to SRI24 (BraTS) world mm.

    python estimate_sri24_affine.py /path/to/sri24/spgr.nii.gz [--tissues tissues.nii.gz] [--metric mi|ncc]

Both images are skull-stripped T1 averages: ICBM152 2009a (symmetric, nilearn's package data) and SRI24's spgr.
World coordinates are RAS mm as the files' affines give them; spgr.nii.gz (LAS, origin 0) and BraTS files
(LPS, origin 0,239,0) share one world, so the matrix holds for both. Each SRI24 voxel near the brain is looked
up in the MNI image through a candidate affine, and the similarity (mutual information, or normalised
cross-correlation) is climbed by L-BFGS on an 8, 4, 2 mm pyramid from the matched centroids and volumes. The inverse
of the affine found is printed. The template is symmetric, so left and right rest on the files' affines alone: the
search never reflects, and no similarity here can tell a mirrored brain. --tissues (1 CSF, 2 GM, 3 WM on
spgr's grid) adds Dice overlaps as a check.
"""

import argparse
from pathlib import Path

import nibabel as nib
import nilearn
import numpy as np
from scipy import ndimage as ndi
from scipy.optimize import minimize

RADIUS = 70.0  # mm: one unit of a matrix parameter moves a point this far from the centre by one mm


def load(path):
    img = nib.load(str(path))
    return np.squeeze(np.asarray(img.dataobj, np.float32)), img.affine


def to_points(affine, ijk):
    return ijk @ affine[:3, :3].T + affine[:3, 3]


def sample(vol, affine, xyz, order=1):
    return ndi.map_coordinates(vol, to_points(np.linalg.inv(affine), xyz).T, order=order, mode="constant")


def ncc(a, b):
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b / np.sqrt((a @ a) * (b @ b) + 1e-12))


def mutual_information(a, b, bins=32):
    # linear (Parzen) binning of both intensities keeps the histogram differentiable
    h = np.zeros((bins + 1) * (bins + 1))
    a, b = a / a.max() * (bins - 1e-3), b / max(b.max(), 1e-6) * (bins - 1e-3)
    ia, ib = a.astype(int), b.astype(int)
    fa, fb = a - ia, b - ib
    for da, wa in ((0, 1 - fa), (1, fa)):
        for db, wb in ((0, 1 - fb), (1, fb)):
            h += np.bincount((ia + da) * (bins + 1) + ib + db, wa * wb, minlength=h.size)
    p = (h / h.sum()).reshape(bins + 1, bins + 1)
    outer = p.sum(1, keepdims=True) * p.sum(0, keepdims=True)
    keep = p > 0
    return float((p[keep] * np.log(p[keep] / outer[keep])).sum())


def centroid(vol, affine):
    return to_points(affine, np.argwhere(vol > 0).mean(0))


def register(fixed, fixed_aff, moving, moving_aff, metric, start, steps=(8, 4, 2)):
    """4x4 matrix taking moving's world to fixed's world, and the similarity reached."""
    cf, cm = centroid(fixed, fixed_aff), centroid(moving, moving_aff)
    scale = (
        (moving > 0).sum() * abs(np.linalg.det(moving_aff)) / ((fixed > 0).sum() * abs(np.linalg.det(fixed_aff)))
    ) ** (1 / 3)
    near = ndi.binary_dilation(fixed > 0, iterations=8)

    def matrix(p):  # fixed world -> moving world
        m = np.eye(4)
        m[:3, :3] = scale * (np.eye(3) + p[3:].reshape(3, 3) / RADIUS)
        m[:3, 3] = cm + p[:3] - m[:3, :3] @ cf
        return m

    p = start
    for step in steps:
        blur_f = ndi.gaussian_filter(fixed, step / 2.355)
        blur_m = ndi.gaussian_filter(moving, step / 2.355)
        grid = np.zeros(fixed.shape, bool)
        grid[::step, ::step, ::step] = True
        ijk = np.argwhere(grid & near)
        xyz, f = to_points(fixed_aff, ijk), blur_f[tuple(ijk.T)]

        def cost(p, f=f, xyz=xyz, blurred=blur_m):
            return -metric(f, sample(blurred, moving_aff, to_points(matrix(p), xyz)))

        found = minimize(cost, p, method="L-BFGS-B", options={"eps": 0.05, "maxiter": 60, "ftol": 1e-8})
        p = found.x
    return np.linalg.inv(matrix(p)), -found.fun


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("sri24_t1", help="SRI24 spgr.nii.gz, skull-stripped")
    ap.add_argument("--tissues", help="SRI24 tissues.nii.gz, for the check")
    ap.add_argument("--metric", choices=("mi", "ncc"), default="mi")
    ap.add_argument("--starts", type=int, default=1, help="also start from this many minus one random offsets")
    args = ap.parse_args()

    fixed, fixed_aff = load(args.sri24_t1)
    data = Path(nilearn.__file__).parent / "datasets" / "data"
    t1, mni_aff = load(data / "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz")
    gm, wm = (load(data / f"mni_icbm152_{k}_tal_nlin_sym_09a_converted.nii.gz")[0] / 255 for k in ("gm", "wm"))

    rng = np.random.default_rng(0)
    best = None
    for n in range(args.starts):
        start = np.zeros(12) if n == 0 else rng.normal(0, 6, 12)
        mat, sim = register(fixed, fixed_aff, t1, mni_aff, ncc if args.metric == "ncc" else mutual_information, start)
        print(f"start {n}: {args.metric} {sim:.4f}")
        if best is None or sim > best[1]:
            best = mat, sim
    mat = np.round(best[0], 4)
    print("MNI152 mm -> SRI24 mm:")
    print(np.array2string(mat, separator=", ", suppress_small=True))

    ijk = np.argwhere(np.ones(fixed.shape, bool))
    xyz = to_points(np.linalg.inv(mat), to_points(fixed_aff, ijk))
    brain = sample((t1 > 0).astype(np.float32), mni_aff, xyz).reshape(fixed.shape) > 0.5
    print(f"Dice brain mask {dice(brain, fixed > 0):.4f}")
    if args.tissues:
        tissues = load(args.tissues)[0]
        g, w = (sample(v, mni_aff, xyz).reshape(fixed.shape) for v in (gm, wm))
        classes = np.where(brain, 1 + np.argmax([1 - g - w, g, w], axis=0), 0)
        for k, name in ((1, "CSF"), (2, "GM"), (3, "WM")):
            print(f"Dice {name} {dice(classes == k, tissues == k):.4f}")
        print(f"Dice GM+WM {dice(classes > 1, tissues > 1):.4f}")


if __name__ == "__main__":
    main()

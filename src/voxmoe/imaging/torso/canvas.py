"""What a torso is painted on: HU and labels, painted over by whatever comes later."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from voxmoe.imaging.phantoms.geometry import Field
from voxmoe.imaging.torso.attenuation import Attenuation
from voxmoe.imaging.torso.frame import Boxed, Frame

Mask = Bool[np.ndarray, "X Y Z"]


@dataclass(frozen=True, eq=False)
class Canvas:
    frame: Frame
    tissue: Attenuation
    hu: Field
    labels: UInt8[np.ndarray, "X Y Z"]

    def paint(
        self, box: Boxed, where: Mask, hu: float | Float32[np.ndarray, "A B C"], label: int | None = None
    ) -> None:
        """Paint the voxels of a box that `where` chooses; without a label they keep theirs."""
        values = np.float32(hu) if isinstance(hu, (int, float)) else hu
        np.copyto(self.hu[box], values, where=where)
        if label is not None:
            np.copyto(self.labels[box], np.uint8(label), where=where)

    def blend(self, box: Boxed, share: Float32[np.ndarray, "A B C"], hu: float) -> None:
        """Mix `hu` into the voxels of a box by its share of each."""
        part = self.hu[box]
        part += share * (np.float32(hu) - part)


def blank(frame: Frame, tissue: Attenuation) -> Canvas:
    hu = np.full(frame.shape[::-1], tissue["air"], dtype=np.float32).T
    return Canvas(frame, tissue, hu, np.zeros(frame.shape[::-1], dtype=np.uint8).T)

"""3D convolutions that can be trained in bf16 on any grid.

oneDNN's bf16 gradient of a convolution's weights reads memory that nothing was written to where the kernel is deeper
than the volume: it was NaN, or as large as 1e37, on a processor with bf16 instructions and on one without (torch 2.13).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Conv3d(nn.Conv3d):
    """`nn.Conv3d`; under autocast on a CPU in float32 where the kernel is deeper than the volume."""

    def forward(self, input: Float[Tensor, "B C D H W"]) -> Float[Tensor, "B C2 D2 H2 W2"]:
        shallow = input.shape[2] < self.kernel_size[0]
        if not (shallow and input.device.type == "cpu" and torch.is_autocast_enabled("cpu")):
            return super().forward(input)
        with torch.autocast("cpu", enabled=False):
            return super().forward(input.float())

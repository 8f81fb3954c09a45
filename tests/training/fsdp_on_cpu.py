"""The command in a process group on a CPU in which accelerate uses FSDP, as it would on GPUs.

accelerate shares weights out on accelerators only; on a CPU it falls back to copies. PyTorch's FSDP itself runs there.
"""

import torch
from accelerate import state

from voxmoe.cli.main import run

torch.distributed.init_process_group("gloo")
state.PartialState._prepare_backend = lambda *_, **__: ("gloo", state.DistributedType.MULTI_GPU)
run()

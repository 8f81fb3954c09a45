"""The command in a process group on a CPU in which accelerate uses DeepSpeed, as it would on GPUs."""

from accelerate import state

from voxmoe.cli.main import run
from voxmoe.training import processes

state.PartialState._prepare_backend = lambda *_, **__: ("gloo", state.DistributedType.MULTI_GPU)
processes.PartialState = lambda cpu, timeout: state.PartialState(timeout=timeout)
run()

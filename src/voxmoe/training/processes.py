"""The processes that train together: one alone, or those that torchrun or `accelerate launch` started."""

from datetime import timedelta

import torch
from accelerate import PartialState

PATIENCE = timedelta(days=2)
"""How long one process waits for another, which may be pretraining the eye or computing its share of features."""


class Processes:
    """Which of how many this is, on which device, and waiting for each other."""

    def __init__(self) -> None:
        # A group of processes on a GPU talks through NCCL, on a CPU through gloo, as accelerate chooses.
        self._state = PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)

    @property
    def rank(self) -> int:
        return int(self._state.process_index)

    @property
    def count(self) -> int:
        return int(self._state.num_processes)

    @property
    def first(self) -> bool:
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        device: torch.device = self._state.device
        return device

    def wait(self) -> None:
        """Go on when all are here."""
        self._state.wait_for_everyone()

    def end(self) -> None:
        """Leave the group, if there is one."""
        self._state.destroy_process_group()

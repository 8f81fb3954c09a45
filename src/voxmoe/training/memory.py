"""How much memory this process takes: of the machine, where the system tells it (Linux), and of its GPU."""

import re
from contextlib import suppress
from pathlib import Path

import torch

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def resident() -> int | None:
    """Bytes in memory now."""
    return _told("VmRSS")


def peak() -> int | None:
    """Bytes in memory at most since the last `reset_peaks`."""
    return _told("VmHWM")


def gpu_peak() -> int | None:
    """Bytes that PyTorch held on the GPU at most since the last `reset_peaks`; None without one."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None


def reset_peaks() -> None:
    """Count peaks from now on; where the system does not let it, that of the machine counts from the start."""
    with suppress(OSError):  # no such file, or a container that forbids it
        _RESET.write_text("5")
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def _told(which: str) -> int | None:
    found = re.search(rf"{which}:\s+(\d+) kB", _STATUS.read_text()) if _STATUS.is_file() else None
    return int(found[1]) * 1024 if found else None

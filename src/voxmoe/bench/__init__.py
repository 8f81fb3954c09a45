"""Side-by-side measurements: ours and the ordinary way, in turn, as a ratio."""

from collections.abc import Callable
from typing import Any

from voxmoe.bench.adapters import bench_adapters
from voxmoe.bench.building import bench_build
from voxmoe.bench.caching import bench_cache
from voxmoe.bench.experts import bench_experts
from voxmoe.bench.findings import bench_findings
from voxmoe.bench.memory import bench_memory
from voxmoe.bench.reading import bench_reading
from voxmoe.bench.slices import bench_slices
from voxmoe.errors import BenchError

BENCHES: dict[str, Callable[[], dict[str, Any]]] = {
    "adapters": bench_adapters,
    "build": bench_build,
    "cache": bench_cache,
    "experts": bench_experts,
    "findings": bench_findings,
    "memory": bench_memory,
    "reading": bench_reading,
    "slices": bench_slices,
}


def bench_named(name: str) -> Callable[[], dict[str, Any]]:
    """The benchmark of that name; raises `BenchError` listing those that exist."""
    if name not in BENCHES:
        raise BenchError(f"no benchmark is called {name!r}; there are {', '.join(BENCHES)}")
    return BENCHES[name]

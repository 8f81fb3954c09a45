"""Who measures the studies of a build: this machine's processes (joblib), or the workers of a Dask cluster."""

import asyncio
import logging
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import joblib

from voxmoe import __version__
from voxmoe.errors import ClusterError, MissingPackageError, check_jobs

if TYPE_CHECKING:
    from distributed import Client

_PATIENCE_S = 10
"""How long an address, and then the first worker, may take to answer."""
_TALKATIVE = ("distributed", "distributed.client", "tornado.application")
Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]
"""As `joblib.delayed` makes it."""


@contextmanager
def results(calls: Iterable[Call], jobs: int = 1, cluster: str | None = None) -> Iterator[Iterator[Any]]:
    """The result of each call as soon as it is there, in any order; what is not done when the block ends is dropped.

    Done by `jobs` processes here (-1 for one a core), or by all workers of the Dask scheduler at the address `cluster`,
    which must see the files under the same paths; those that join later help, and what a worker that dies has begun is
    done by another. Raises `JobsError` for 0 jobs, `MissingPackageError` without the extra `cluster`, and
    `ClusterError` if nothing answers there, the workers run another version or die of a call, or the scheduler goes
    away.
    """
    with _done_here(calls, jobs) if cluster is None else _done_there(calls, cluster) as work:
        yield work


@contextmanager
def _done_here(calls: Iterable[Call], jobs: int) -> Iterator[Iterator[Any]]:
    check_jobs(jobs)
    # one call a task: no result waits for its neighbours
    parallel = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)
    work: Generator[Any] = parallel(calls)
    try:
        yield work
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # says that work is dropped, which is meant
            work.close()


@contextmanager
def _done_there(calls: Iterable[Call], address: str) -> Iterator[Iterator[Any]]:
    with _connected(address) as client:
        from distributed import KilledWorker
        from distributed.comm import CommClosedError

        try:
            yield _gathered(client, calls)
        except KilledWorker as error:
            raise ClusterError(f"{address}: its workers die over and over, of too little memory? {error}") from None
        except (CancelledError, CommClosedError):
            raise ClusterError(
                f"{address}: the scheduler is gone; what was done is kept, so run this again, there or on another "
                "scheduler, or here without --cluster"
            ) from None


def _gathered(client: "Client", calls: Iterable[Call]) -> Iterator[Any]:
    """By Dask's own `as_completed`: joblib's backend for it waits forever for a call that the cluster gives up."""
    from distributed import as_completed

    futures = [client.submit(call, *args, pure=False, **kwargs) for call, args, kwargs in calls]
    for future in as_completed(futures, loop=client.loop):
        result = future.result()
        future.release()
        yield result


async def _knock(address: str) -> None:
    """Raise `OSError` or `ValueError` if no scheduler answers (a `Client` that fails leaves threads behind)."""
    from distributed import Security
    from distributed.comm import connect

    channel = await connect(address, timeout=_PATIENCE_S, **Security().get_connection_args("client"))
    await channel.close()


@contextmanager
def _connected(address: str) -> "Iterator[Client]":
    try:
        from distributed import Client
    except ImportError:
        raise MissingPackageError(
            "a Dask cluster needs the package distributed: pip install 'voxmoe[cluster]'"
        ) from None
    try:
        asyncio.run(_knock(address))
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"{address}: no Dask scheduler answers there ({error}); give the address that `dask scheduler` prints, "
            "such as tcp://host:8786"
        ) from None
    with _quiet(), Client(address, timeout=_PATIENCE_S, set_as_default=False) as client:
        _check_workers(client, address)
        yield client


@contextmanager
def _quiet() -> Iterator[None]:
    """Dask logs tracebacks of whatever goes away; what matters of it is raised."""
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    before = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _version() -> str:
    return __version__


def _check_workers(client: "Client", address: str) -> None:
    try:
        client.wait_for_workers(1, timeout=_PATIENCE_S)
    except TimeoutError:
        raise ClusterError(
            f"{address}: the scheduler has no worker; start some with `dask worker {address}` and run this again"
        ) from None
    found: dict[str, Any] = client.run(_version, on_error="return")
    for worker, version in found.items():
        if isinstance(version, ModuleNotFoundError):
            raise ClusterError(f"{worker}: voxmoe is not installed where this worker runs")
        if version != __version__:
            raise ClusterError(f"{worker}: runs voxmoe {version} and this is {__version__}; use one version everywhere")

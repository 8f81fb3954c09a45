"""Who measures the studies of a build: this machine's processes, or the workers of a Dask cluster, through joblib."""

import asyncio
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import joblib

from voxmoe import __version__
from voxmoe.errors import ClusterError, MissingPackageError

if TYPE_CHECKING:
    from distributed import Client

_PATIENCE_S = 10
"""How long an address, and then the first worker, may take to answer."""
Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]
"""As `joblib.delayed` makes it."""


@contextmanager
def results(calls: Iterable[Call], jobs: int = 1, cluster: str | None = None) -> Iterator[Iterator[Any]]:
    """The result of each call as soon as it is there, in any order; what is not done when the block ends is dropped.

    Done by `jobs` processes here (-1 for one a core), or by all workers of the Dask scheduler at the address `cluster`,
    which must see the files under the same paths. Raises `MissingPackageError` without the extra `cluster`, and
    `ClusterError` if nothing answers there, the workers run another version, or they die of a call.
    """
    if cluster is None:
        with _begun(calls, jobs) as work:
            yield work
        return
    with _connected(cluster) as client, joblib.parallel_config(_dask_backend(client)):
        from distributed import KilledWorker

        try:
            with _begun(calls, -1, pre_dispatch="all") as work:  # workers may join later
                yield work
        except KilledWorker as error:
            raise ClusterError(f"{cluster}: its workers die over and over, of too little memory? {error}") from None


@contextmanager
def _begun(calls: Iterable[Call], jobs: int, pre_dispatch: str = "2 * n_jobs") -> Iterator[Iterator[Any]]:
    # one call a task: no result waits for its neighbours
    parallel = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1, pre_dispatch=pre_dispatch)
    work: Generator[Any] = parallel(calls)
    try:
        yield work
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # says that work is dropped, which is meant
            work.close()


def _dask_backend(client: "Client") -> Any:
    from joblib._dask import DaskDistributedBackend
    from joblib._utils import _ExceptionWithTraceback

    class Backend(DaskDistributedBackend):  # type: ignore[misc]  # joblib has no types
        """joblib's (1.6) works here rather than on a single worker, and waits forever for a call that Dask gives up."""

        def effective_n_jobs(self, n_jobs: int) -> int:
            return max(2, int(super().effective_n_jobs(n_jobs)))

        def submit(self, func: Any, callback: Any = None) -> Any:
            future = super().submit(func, callback)

            def failed(done: Any) -> None:
                if error := done.exception():
                    callback(_ExceptionWithTraceback(error))

            future.add_done_callback(failed)
            return future

    return Backend(client=client)


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
    with Client(address, timeout=_PATIENCE_S, set_as_default=False) as client:
        _check_workers(client, address)
        yield client


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

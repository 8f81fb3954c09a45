"""The same work on this machine and on a Dask cluster: a real scheduler and two workers, each a process of its own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import joblib
import pytest
from test_dataset import content, write_study

from voxmoe.errors import ClusterError, DatasetError, MissingPackageError
from voxmoe.vqa import workers as module
from voxmoe.vqa.dataset import build_dataset
from voxmoe.vqa.protocol import PAPER_V2
from voxmoe.vqa.workers import results

pytest.importorskip("distributed")


@contextmanager
def process(*arguments: str, cwd: Path) -> Iterator[None]:
    with (cwd / f"{arguments[0]}.log").open("a") as log:
        command = [sys.executable, "-m", "dask", *arguments]
        with subprocess.Popen(command, cwd=cwd, stdout=log, stderr=log) as running:
            try:
                yield
            finally:
                running.terminate()


@contextmanager
def dask_cluster(folder: Path, n: int) -> Iterator[str]:
    """The address of a scheduler with n workers."""
    told = folder / "scheduler.json"
    with ExitStack() as stack:
        options = ("--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(told))
        stack.enter_context(process("scheduler", *options, cwd=folder))
        patience = time.monotonic() + 60
        while not told.exists() or not told.read_text():
            assert time.monotonic() < patience, (folder / "scheduler.log").read_text()
            time.sleep(0.1)
        address = json.loads(told.read_text())["address"]
        for _ in range(n):
            options = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", str(folder))
            stack.enter_context(process("worker", address, *options, cwd=folder))
        yield address


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    from distributed import Client

    with dask_cluster(tmp_path_factory.mktemp("cluster"), 2) as address:
        with Client(address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)
        yield address


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four good studies and a broken one."""
    cohort = tmp_path_factory.mktemp("cohort")
    for number in range(5):
        study = f"BraTS-GLI-0000{number}-100"
        write_study(cohort, study, number)
    mask = cohort / study / f"{study}-seg.nii.gz"
    mask.write_bytes(mask.read_bytes()[:500])
    return cohort


def test_both_workers_do_the_work(cluster: str) -> None:
    with results([joblib.delayed(os.getpid)()] * 40, cluster=cluster) as work:
        processes = list(work)
    assert len(processes) == 40
    assert len(set(processes)) == 2
    assert os.getpid() not in processes


def test_what_is_not_asked_for_is_dropped() -> None:
    with results((joblib.delayed(time.sleep)(0.01) for _ in range(10_000)), jobs=2) as work:
        next(work)


@pytest.mark.parametrize("there", [False, True])
def test_an_error_of_a_call_is_raised(there: bool, cluster: str) -> None:
    calls = [joblib.delayed(divmod)(1, number) for number in (2, 1, 0)]
    with pytest.raises(ZeroDivisionError), results(calls, jobs=2, cluster=cluster if there else None) as work:
        list(work)


def test_a_call_that_kills_its_worker_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", "0")
    with (
        dask_cluster(tmp_path, 1) as address,
        pytest.raises(ClusterError, match="its workers die over and over"),
        results([joblib.delayed(os._exit)(1)], cluster=address) as work,
    ):
        list(work)


def test_a_cluster_writes_the_same_bytes(cluster: str, cohort: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    here = build_dataset(cohort, tmp_path / "here", PAPER_V2)
    there = build_dataset(
        cohort, tmp_path / "there", PAPER_V2, cluster=cluster, progress=lambda *step: told.append(step)
    )
    assert there == here
    assert list(here.skipped) == ["BraTS-GLI-00004-100"]
    assert told == [(number, 5) for number in range(6)]
    assert content(tmp_path / "there") == content(tmp_path / "here")


def test_a_worker_and_then_the_scheduler_die(
    cluster: str, cohort: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from distributed import Client

    whole, report = tmp_path / "whole", build_dataset(cohort, tmp_path / "whole", PAPER_V2)
    with dask_cluster(tmp_path, 2) as address:
        with Client(address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)
            worker = next(iter(client.run(os.getpid).values()))
            scheduler = client.run_on_scheduler(os.getpid)

        def end(process: int, after: int) -> Callable[[int, int], None]:
            return lambda done, total: os.kill(process, signal.SIGKILL) if done == after else None

        assert build_dataset(cohort, tmp_path / "1", PAPER_V2, cluster=address, progress=end(worker, 1)) == report
        assert content(tmp_path / "1") == content(whole)
        capfd.readouterr()
        with pytest.raises(ClusterError, match="the scheduler is gone; what was done is kept, so run this again"):
            build_dataset(cohort, tmp_path / "2", PAPER_V2, cluster=address, progress=end(scheduler, 2))
        assert capfd.readouterr() == ("", "")
    shutil.copytree(tmp_path / "2", tmp_path / "3")
    for out, elsewhere in (("2", None), ("3", cluster)):
        told: list[int] = []
        build_dataset(
            cohort, tmp_path / out, PAPER_V2, cluster=elsewhere, progress=lambda done, _, told=told: told.append(done)
        )
        assert told[0] >= 2
        assert content(tmp_path / out) == content(whole)


def test_strict_on_a_cluster(cluster: str, cohort: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="study BraTS-GLI-00004-100 cannot be used"):
        build_dataset(cohort, tmp_path / "there", PAPER_V2, cluster=cluster, strict=True)


def test_workers_of_another_version(cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "__version__", "0.0.0")
    with (
        pytest.raises(ClusterError, match=r"tcp://.*: runs voxmoe .* and this is 0\.0\.0; use one version everywhere"),
        results([], cluster=cluster),
    ):
        pass


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nonsense", "ftp://host:1"])
def test_nothing_answers_at_an_address(address: str, cohort: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE_S", 0.5)
    with pytest.raises(ClusterError, match=r"no Dask scheduler answers there .*; give the address that"):
        build_dataset(cohort, cohort / "out", PAPER_V2, cluster=address)
    assert not (cohort / "out").exists()


def test_a_scheduler_without_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE_S", 2)
    with (
        dask_cluster(tmp_path, 0) as address,
        pytest.raises(ClusterError, match="has no worker; start some with `dask worker tcp://"),
        results([], cluster=address),
    ):
        pass


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(MissingPackageError, match=r"pip install 'voxmoe\[cluster\]'"),
        results([], cluster="tcp://127.0.0.1:9"),
    ):
        pass

"""Peaks of memory, as the system tells them."""

from pathlib import Path

import pytest

from voxmoe.training import memory


def test_a_peak_stays_until_it_is_reset(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    status, reset = tmp_path / "status", tmp_path / "clear_refs"
    status.write_text("Name:\tpython\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n")
    reset.write_text("")
    monkeypatch.setattr(memory, "_STATUS", status)
    monkeypatch.setattr(memory, "_RESET", reset)
    assert (memory.peak(), memory.resident()) == (2048 * 1024, 1024 * 1024)
    memory.reset_peaks()
    assert reset.read_text() == "5"


def test_a_system_that_tells_or_allows_nothing_stops_no_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "status")
    monkeypatch.setattr(memory, "_RESET", tmp_path)
    memory.reset_peaks()
    assert memory.peak() is None
    assert memory.resident() is None

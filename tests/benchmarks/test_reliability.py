"""The fast rows of the reliability benchmark, as every commit has to pass them."""

import importlib
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("resource", reason="signals, limits and mounts are POSIX")
if not Path("/proc/self/clear_refs").exists():
    pytest.skip("figures come from /proc", allow_module_level=True)

from benchmarks.reliability.rows import FAST, ROWS, Bench, BrokenError, claim, row

importlib.import_module("benchmarks.reliability.__main__")  # and with it all files of rows


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    return tmp_path_factory.mktemp("reliability")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", FAST)
def test_row(number, tmp_path, shared):
    _, function = ROWS[number]
    bench = Bench(tmp_path / "row", False, shared, np.random.default_rng(0))
    try:
        assert function(bench)
    finally:
        bench.end()


def test_all_rows_are_there_but_those_of_several_processes_and_the_studio():
    assert sorted(ROWS) == [number for number in range(1, 33) if number not in (10, 16)]


def test_a_row_that_does_not_hold_says_why(tmp_path, monkeypatch):
    monkeypatch.setitem(ROWS, 99, ("", lambda _: ""))

    @row(99, "planted")
    def planted(bench):
        claim(bench.full, "not full")
        return "all"

    with pytest.raises(BrokenError, match="not full"):
        ROWS[99][1](Bench(tmp_path, False, tmp_path))
    assert ROWS[99][1](Bench(tmp_path, True, tmp_path)) == "all"

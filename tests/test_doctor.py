"""The doctor: finds what is there, and each fault planted in turn, with advice; fails only where it must."""

import io
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from reroll import doctor
from reroll.doctor import Finding, examine, exit_code, print_findings
from reroll.training import machine


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """A machine that is quiet and where bf16 pays: measuring it is tested with the engine."""
    monkeypatch.setattr(doctor, "measure_bf16", lambda device: 2.0)
    monkeypatch.setattr(machine, "busy_cores", lambda: 0)
    monkeypatch.setattr(machine, "usable_cores", lambda: 2)


def finding(name, tmp_path):
    return next(f for f in examine(tmp_path, tmp_path) if f.name == name)


def test_this_machine_can_train(tmp_path):
    findings = examine(tmp_path / "runs" / "not yet", tmp_path)
    assert exit_code(findings) == 0
    assert [f for f in findings if f.status == "fail"] == []
    assert len({f.name for f in findings}) == len(findings)
    assert not (tmp_path / "runs").exists(), "looking changes nothing"
    assert list(tmp_path.iterdir()) == []


def planted(monkeypatch, fault):
    match fault:
        case "busy":
            monkeypatch.setattr(machine, "busy_cores", lambda: 1)
        case "one core":
            monkeypatch.setattr(machine, "usable_cores", lambda: 1)
        case "no encoder":
            monkeypatch.setattr(doctor, "_has_codec", lambda name, mode: name != "libx264")
        case "no prores":
            monkeypatch.setattr(doctor, "_has_codec", lambda name, mode: name != "prores")
        case "little memory":
            monkeypatch.setattr(machine, "free_memory_bytes", lambda: 2 * 10**9)
        case "no memory":
            monkeypatch.setattr(machine, "free_memory_bytes", lambda: 10**8)
        case "full disk":
            monkeypatch.setattr(
                doctor.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 8, 1000)
            )
        case "old torch":
            monkeypatch.setattr(doctor.torch, "__version__", "2.9.1+cpu")
        case "old python":
            monkeypatch.setattr(doctor.sys, "version_info", (3, 10, 4))


@pytest.mark.parametrize(
    ("fault", "name", "status"),
    [
        ("busy", "load", "warn"),
        ("one core", "cores", "warn"),
        ("no encoder", "H.264 encoder", "fail"),
        ("no prores", "decoders", "warn"),
        ("little memory", "memory", "warn"),
        ("no memory", "memory", "fail"),
        ("full disk", "disk for runs", "fail"),
        ("full disk", "disk for the cache", "fail"),
        ("old torch", "torch", "fail"),
        ("old python", "python", "fail"),
    ],
)
def test_a_planted_fault_is_found_and_has_advice(monkeypatch, tmp_path, fault, name, status):
    assert finding(name, tmp_path).status == "ok"
    planted(monkeypatch, fault)
    found = finding(name, tmp_path)
    assert (found.status, bool(found.advice)) == (status, True)
    assert exit_code([found]) == (status == "fail")


def test_a_place_that_cannot_be_written_to_fails(monkeypatch, tmp_path):
    def refuse(dir):
        raise PermissionError(13, "Permission denied", str(dir))

    monkeypatch.setattr(doctor.tempfile, "NamedTemporaryFile", refuse)
    found = finding("disk for the cache", tmp_path)
    assert found.status == "fail"
    assert "REROLL_CACHE" in found.advice
    assert "Permission denied" in found.found


def test_a_file_in_the_way_fails(tmp_path):
    (tmp_path / "taken").touch()
    found = doctor._disk("disk for runs", tmp_path / "taken" / "run")
    assert (found.status, "is a file" in found.found) == ("fail", True)


def test_the_table_says_everything_and_how_it_ends():
    findings = [Finding("a", "ok", "[red]fine"), Finding("b", "warn", "so-so", "mend it")]
    for extra, verdict in (
        ([], "reroll works here; 1 of 2 could be better."),
        ([Finding("c", "fail", "gone", "get it")], "1 of 3 fail"),
    ):
        console = Console(file=io.StringIO(), width=100)
        print_findings(findings + extra, console)
        text = console.file.getvalue()
        assert "[red]fine" in text, "what was found is not taken for markup"
        assert "→ mend it" in text
        assert verdict in text


def test_the_cache_goes_where_it_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("REROLL_CACHE", str(tmp_path))
    assert machine.cache_dir() == tmp_path
    monkeypatch.delenv("REROLL_CACHE")
    assert machine.cache_dir().name == "reroll" or Path("reroll") in machine.cache_dir().parents

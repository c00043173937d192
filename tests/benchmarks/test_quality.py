"""The benchmark of quality at tiny settings: one line a system, made once, from files small enough to keep."""

import json
import re
import sys

import pytest

from benchmarks import quality
from benchmarks.contender import commit
from benchmarks.speed.footage import make_clip
from reroll.evaluation import networks

SYSTEM = "video-texture"


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return make_clip(tmp_path_factory.mktemp("clips") / "swing.mp4", 5.0)


@pytest.fixture
def ask(monkeypatch, clip, tmp_path):
    """Run the program with these systems; without the networks, which take their time."""
    monkeypatch.setattr(networks, "available", lambda: False)

    def run(*systems):
        words = ["quality", "--clips", clip, "--systems", *systems, "--minutes", "0.01", "--size", "32"]
        monkeypatch.setattr(sys, "argv", [*map(str, words), "-o", str(tmp_path)])
        quality.main()
        return (tmp_path / "table-0.01min.md").read_text(encoding="utf-8")

    return run


def test_a_system_gets_a_line_once_and_the_table_needs_only_what_is_kept(ask, tmp_path):
    table = ask(SYSTEM)
    rows = [line for line in table.splitlines() if line.startswith(f"| {SYSTEM}")]
    assert len(rows) == 1
    assert re.search(r"\| system \| flow \| differences \| direction \| texture \|", table)
    place = tmp_path / "swing-32" / f"{SYSTEM}-0.01min-seed0"
    about = json.loads((place / "about.json").read_text(encoding="utf-8"))
    assert about["commit"] == commit()
    assert "cores" in about["machine"]
    assert (tmp_path / "swing-32" / "sheet-0.01min.png").exists()
    for large in ("frames.npz", "judgement.json"):
        (place / large).unlink()
    assert ask(SYSTEM) == table
    assert not (place / "frames.npz").exists()


def test_a_system_without_its_package_is_left_out_with_a_line(ask, monkeypatch, capsys):
    monkeypatch.setattr(quality, "find_spec", lambda name: None)
    table = ask("tutorial-gan", SYSTEM)
    assert "tutorial-gan is skipped: tensorflow is not installed" in capsys.readouterr().out
    assert "tutorial-gan" not in table
    assert SYSTEM in table

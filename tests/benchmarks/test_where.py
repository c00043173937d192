"""Where detail is lost: footage against itself has all of it, and every stage of a run has a line."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import toy

from benchmarks import where
from reroll.footage import Store, Windows
from reroll.footage.dataset import Span
from reroll.training.run import read_record


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Recipe → a toy run."""
    folder = tmp_path_factory.mktemp("where")
    with pytest.MonkeyPatch.context() as patch:
        toy.shrink(patch)
        patch.setenv("REROLL_CACHE", str(folder / "cache"))
        footage = toy.write_footage(folder / "clips")
        for recipe in ("vae", "gan"):
            toy.train(footage, folder / recipe, recipe)
        yield {recipe: folder / recipe for recipe in ("vae", "gan")}


def test_every_stage_has_a_line(runs, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["where", str(runs["vae"]), "--windows", "3"])
    where.main()
    lines = [line for line in capsys.readouterr().out.splitlines() if re.search(r"\d / \d", line)]
    assert [line.split(" | ")[0][2:] for line in lines] == [
        "rebuilt", "in-betweens of true keyframes", "the same frames, rebuilt", "keyframes, rebuilt",
        "keyframes, sampled", "one window with its in-betweens", "samples", "footage where windows of keyframes lie",
    ]  # fmt: skip


def test_a_run_without_an_encoder_is_refused_in_a_line(runs, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["where", str(runs["gan"])])
    with pytest.raises(SystemExit):
        where.main()
    assert "gan has no Encoder" in capsys.readouterr().err


def test_footage_has_all_of_its_detail_and_is_cut_where_windows_lie(runs):
    store = Store.open(Path(read_record(runs["vae"]).store))
    shot = max(store.shots, key=lambda each: each.stop - each.start)
    windows = Windows(store, [Span(shot.start, shot.stop)], seed=0, mirror=False)
    drawn = windows.draw(0, batch=2, frames=5, strides=[2])
    lying = where.lying_at(store, drawn, 4)
    first = int(drawn.indices[0, 0])
    np.testing.assert_array_equal(lying[:2].reshape(-1, *lying.shape[2:]), store.frames(first, first + 8))
    assert where.row("it", lying, lying) == {
        "what": "it", "detail": "1.00 / 1.00", "motion": "1.00", "trembling": "1.00",
    }  # fmt: skip
    shaken = lying.copy()
    shaken[:, ::2] = np.roll(lying[:, ::2], 1, axis=3)
    assert float(where.row("shaken", shaken, lying)["trembling"]) > 1.2

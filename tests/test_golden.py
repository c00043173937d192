"""A run of every format there was: each has to load, and to sample what it sampled then.

`python tests/test_golden.py` makes that of the present format, when there is a new one; older ones stay. One that no
longer can be read must be refused by a line that names the converter, and its test say so.
"""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import toy

import reroll
from reroll.training import checkpoint
from reroll.training.run import FORMAT

GOLDEN = Path(__file__).parent / "golden"
RUNS = sorted(path.name for path in GOLDEN.glob("format-*"))


def sampled(run: Path) -> np.ndarray:
    """Ten frames."""
    return reroll.load(run, device="cpu", threads=1).sample(0.4, seed=3, denoise_steps=2).frames


def test_the_present_format_has_one():
    assert f"format-{FORMAT}" in RUNS


@pytest.mark.parametrize("name", RUNS)
def test_it_samples_what_it_sampled_then(name):
    """But for what another machine rounds otherwise."""
    expected = np.load(GOLDEN / name / "sample.npy")
    found = sampled(GOLDEN / name)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).mean() < 0.5


@pytest.mark.parametrize("name", RUNS)
def test_a_new_run_can_begin_with_it(name, tmp_path, monkeypatch):
    toy.shrink(monkeypatch)
    monkeypatch.setenv("REROLL_CACHE", str(tmp_path / "cache"))
    footage = toy.write_footage(tmp_path / "footage")
    record = toy.train(footage, tmp_path / "run", "vaegan", init=str(GOLDEN / name), steps=8)
    assert record.status == "finished"


@pytest.mark.parametrize("name", RUNS)
def test_its_checkpoint_verifies(name):
    (path,) = checkpoint.checkpoints(GOLDEN / name / "checkpoints")
    assert checkpoint.load(path).finite


def make() -> None:
    """Train the present format's run, and keep of it what loading needs."""
    place = GOLDEN / f"format-{FORMAT}"
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        toy.shrink(patch)
        patch.setenv("REROLL_CACHE", f"{folder}/cache")
        patch.chdir(folder)
        toy.write_footage(Path("clips"))
        toy.train("clips", "run", "vaegan", steps=60)
        newest = checkpoint.checkpoints(Path("run/checkpoints"))[-1]
        shutil.copytree(newest, place / "checkpoints" / newest.name)
        shutil.copy("run/run.json", place)
        shutil.copy("run/events.jsonl", place)
    np.save(place / "sample.npy", sampled(place))


if __name__ == "__main__":
    make()

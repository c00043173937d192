"""MoCoGAN as a baseline: shapes, seeds, the clock, clips of every length, and that it learns where a dot is."""

from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks.baselines import mocogan
from benchmarks.baselines.mocogan import WINDOW, Footage, Grid, Training, to_and_fro, train


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    """Networks a quarter as wide."""
    monkeypatch.setattr(mocogan, "WIDTH", 8)


def moving_dot(frames: int = 40, height: int = 32, width: int = 32) -> np.ndarray:
    """A bright dot going round on dark blue."""
    clip = np.full((frames, height, width, 3), (10, 20, 90), np.uint8)
    for index, frame in enumerate(clip):
        angle = 2 * np.pi * index / 20
        y, x = height / 2 + height / 5 * np.sin(angle), width / 2 + width / 5 * np.cos(angle)
        frame[int(y) - 3 : int(y) + 3, int(x) - 3 : int(x) + 3] = 240
    return clip


def after(steps: int, seed: int = 0) -> mocogan.MoCoGan:
    """Trained for so many steps, however long they take."""
    training = Training([moving_dot()], seed)
    for _ in range(steps):
        training.step()
    return mocogan.MoCoGan(training.average, (32, 32), training.steps)


@pytest.fixture(scope="module")
def young() -> mocogan.MoCoGan:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mocogan, "WIDTH", 8)
        return after(3)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (36, 50), (128, 64)])
def test_samples_have_the_size_of_the_footage(height, width):
    clip = moving_dot(20, height, width)
    sample = train([clip], 30.0, 0.0, 0).sample(5, seed=0)
    assert sample.shape == (5, height, width, 3)
    assert sample.dtype == np.uint8


def test_grid_follows_the_footage():
    assert Grid.of(64, 64) == Grid(4, 4, 4)
    assert Grid.of(128, 128) == Grid(4, 4, 5)
    assert Grid.of(64, 86) == Grid(4, 5, 4)


@pytest.mark.parametrize("frames", [1, 16, 200])
def test_a_clip_of_any_length(young, frames):
    assert young.sample(frames, seed=1).shape == (frames, 32, 32, 3)


def test_a_seed_is_a_clip(young):
    first = young.sample(20, seed=3)
    assert np.array_equal(first, young.sample(20, seed=3))
    assert not np.array_equal(first, young.sample(20, seed=4))


def test_content_stays_and_motion_goes_on(young):
    codes = young.generator.codes(2, 30, torch.Generator().manual_seed(0))
    content, motion = codes.split([mocogan.CONTENT, mocogan.MOTION], 2)
    assert torch.equal(content[:, 0], content[:, -1])
    assert not torch.equal(content[0], content[1])
    assert (motion.diff(dim=1).abs().amax((0, 2)) > 0).all()


def test_no_loop_and_no_encoder(young):
    assert young.loop(20, 0) is None
    assert young.rebuild(moving_dot()) is None


def test_stops_in_time_and_leaves_no_trace(monkeypatch):
    """By a clock that moves on a second whenever it is read: a step takes one, and there is one between two."""
    torch.manual_seed(5)
    before, ticks = torch.get_rng_state(), count()
    monkeypatch.setattr(mocogan, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
    trained = train([moving_dot()], 30.0, 8, 0)
    assert trained.steps == 3, "begun at 1, 3 and 5; what begins at 7 would end at the deadline"
    assert torch.equal(before, torch.get_rng_state())


def test_the_same_seed_trains_the_same():
    first, again, other = (after(2, seed).sample(4, 0) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_short_clips_go_to_and_fro():
    clip = np.arange(4, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    assert to_and_fro(clip)[:9, 0, 0, 0].tolist() == [0, 1, 2, 3, 2, 1, 0, 1, 2]
    for frames in (1, 2, 15, 16):
        assert len(to_and_fro(moving_dot(frames))) >= WINDOW


def test_windows_are_footage_at_their_stride():
    clips = [np.full((frames, 8, 8, 3), 0, np.uint8) for frames in (3, 17, 47)]
    for number, clip in enumerate(clips):
        clip[:] = (np.arange(len(clip)) + 50 * number)[:, None, None, None]
    footage = Footage(clips, (8, 8))
    assert footage.strides == [1, 1, 2, 3]
    for seed in range(20):
        windows = footage.windows(torch.Generator().manual_seed(seed))
        assert windows.shape == (4, WINDOW, 3, 8, 8)
        levels = ((windows[:, :, 0, 0, 0] + 1) * 127.5).round()
        for stride, window in list(zip(footage.strides, levels, strict=True))[2:]:
            assert (window.diff() == stride).all()


def test_training_comes_nearer_to_the_footage():
    dot = moving_dot().astype(np.float32)
    far, near = (np.abs(after(n).sample(40, 0).mean(0) - dot.mean(0)).mean() for n in (0, 60))
    assert near < 0.6 * far

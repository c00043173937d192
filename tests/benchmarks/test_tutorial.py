"""The tutorial's GAN and the VAE with its generator: walks, their pace, training in time and by its seed."""

import time

import cv2
import numpy as np
import pytest

from benchmarks.baselines import tutorial_gan, tutorial_vae

tf = pytest.importorskip(
    "tensorflow", reason="the tutorial's program needs TensorFlow: pip install '.[tutorial]'"
)

HEIGHT, WIDTH, FPS, SECONDS, STEPS = 40, 56, 25.0, 3.0, 25
BOTH = pytest.mark.parametrize("baseline", [tutorial_gan, tutorial_vae], ids=["gan", "vae"])


def dots(frames):
    """A red dot that goes round on blue."""
    clip = np.full((frames, HEIGHT, WIDTH, 3), (20, 60, 160), np.uint8)
    for frame, turn in zip(clip, np.arange(frames) * 2 * np.pi / 50, strict=True):
        centre = round(WIDTH / 2 + 16 * np.cos(turn)), round(HEIGHT / 2 + 10 * np.sin(turn))
        cv2.circle(frame, centre, 7, (220, 40, 40), -1)
    return clip


CLIPS = [dots(60), dots(30)]


def changes(clip):
    """Mean change from each frame to the next."""
    return np.abs(np.diff(clip.astype(float), axis=0)).mean((1, 2, 3))


def apart(frames, footage):
    """How far frames are from the nearest ones of the footage, on average."""
    return np.mean([np.abs(footage.astype(float) - frame).mean((1, 2, 3)).min() for frame in frames])


def walker(pace=0.05):
    """A walker that needs no network: each of its eight numbers is the brightness of a stripe."""

    def draw(noise):
        stripes = np.clip(128 + 40 * noise, 0, 255).astype(np.uint8)
        return np.repeat(np.broadcast_to(stripes[:, None, :, None], (len(noise), 64, 8, 3)), 8, 2)

    return tutorial_gan.Walker(draw, size=8, height=HEIGHT, width=WIDTH, steps=0, pace=pace)


def steps_made(number):
    """In place of `run`: so many steps, whatever the time."""

    def run(step, began, seconds):
        for _ in range(number):
            step()
        return number

    return run


@pytest.fixture(scope="module", params=[tutorial_gan, tutorial_vae], ids=["gan", "vae"])
def trained(request):
    """A baseline after some steps on few frames each, and one after none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tutorial_gan, "BATCH", 8)
        patch.setattr(tutorial_gan, "run", steps_made(STEPS))
        baseline = request.param.train(CLIPS, FPS, 600.0, 0)
    return baseline, request.param.train(CLIPS, FPS, 0.0, 0)


def test_a_path_is_as_normal_anywhere_as_at_its_points():
    points = np.random.default_rng(0).standard_normal((40, 2000))
    noise = tutorial_gan.path(points, np.linspace(3, 30, 200))
    assert np.allclose(noise.std(1), 1, atol=0.08)
    speed = np.linalg.norm(np.diff(noise, axis=0), axis=1)
    assert speed.max() < 1.2 * speed.min()


def test_a_path_is_closed():
    points = np.random.default_rng(0).standard_normal((11, 5))
    assert np.allclose(
        tutorial_gan.path(points, np.array([0.3])), tutorial_gan.path(points, np.array([11.3]))
    )


def test_the_pace_is_the_footages():
    for pace in (0.02, 0.3):
        footage = [walker(pace).sample(200, seed) for seed in range(10)]
        found = walker()
        found.calibrate(footage, time.monotonic() + 60)
        assert found.pace == pytest.approx(pace, rel=0.25)


def test_no_time_leaves_the_pace():
    found = walker()
    found.calibrate(CLIPS, time.monotonic())
    assert found.pace == walker().pace


@pytest.mark.parametrize("frames", [1, 40, 400])
def test_loops_close_and_are_as_fast_as_samples(frames):
    loops = [walker().loop(frames, seed) for seed in range(5)]
    assert {loop.shape for loop in loops} == {(frames, HEIGHT, WIDTH, 3)}
    if frames > 1:
        steps = [changes(np.concatenate([loop, loop[:1]])) for loop in loops]
        assert all(each[-1] < 1.5 * each[:-1].max() for each in steps)
        assert np.mean(steps) == pytest.approx(changes(walker().sample(400, 0)).mean(), rel=0.35)


def test_a_longer_sample_begins_like_a_shorter_one():
    assert np.array_equal(walker().sample(100, seed=1)[:33], walker().sample(33, seed=1))


@BOTH
def test_training_ends_in_time(baseline):
    began = time.monotonic()
    assert baseline.train(CLIPS, FPS, SECONDS, 0).steps > 0
    assert time.monotonic() - began < SECONDS + 5


def test_samples_have_the_footages_shape_and_their_seeds_frames(trained):
    baseline, _ = trained
    clip = baseline.sample(35, seed=3)
    assert clip.shape == (35, HEIGHT, WIDTH, 3)
    assert clip.dtype == np.uint8
    assert np.array_equal(clip, baseline.sample(35, seed=3))
    assert not np.array_equal(clip, baseline.sample(35, seed=4))
    assert baseline.loop(20, seed=3).shape == (20, HEIGHT, WIDTH, 3)


def test_training_comes_nearer_to_the_footage(trained):
    baseline, untrained = trained
    assert apart(baseline.sample(30, 0), CLIPS[0]) < 0.8 * apart(untrained.sample(30, 0), CLIPS[0])


def test_the_vae_alone_rebuilds(trained):
    baseline, untrained = trained
    rebuilt = baseline.rebuild(CLIPS[1])
    if baseline.encode is None:
        assert rebuilt is None
        return
    assert rebuilt.shape == CLIPS[1].shape
    assert rebuilt.dtype == np.uint8
    errors = [np.abs(each.astype(float) - CLIPS[1]).mean() for each in (rebuilt, untrained.rebuild(CLIPS[1]))]
    assert errors[0] < 0.75 * errors[1]


@BOTH
def test_training_is_its_seeds(baseline, monkeypatch):
    monkeypatch.setattr(tutorial_gan, "BATCH", 8)
    monkeypatch.setattr(tutorial_gan.Walker, "calibrate", lambda *_: None)
    monkeypatch.setattr(tutorial_gan, "run", steps_made(1))
    tf.config.run_functions_eagerly(True)
    try:
        clips = [baseline.train(CLIPS, FPS, 600.0, seed).sample(4, seed=0) for seed in (0, 0, 1)]
    finally:
        tf.config.run_functions_eagerly(False)
    first, again, other = clips
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)

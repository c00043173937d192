"""The noise's paces: fast waves for what flickers, slow ones for all else, whatever the camera adds."""

from types import SimpleNamespace

import numpy as np
import pytest

from reroll.training.paces import flicker, noise_paces

RANDOM = np.random.default_rng(0)


def store(*clips, fps=25.0):
    frames = np.concatenate(clips)
    ends = np.cumsum([len(clip) for clip in clips]).tolist()
    shots = [SimpleNamespace(start=a, stop=b) for a, b in zip([0, *ends], ends, strict=False)]
    return SimpleNamespace(
        shots=shots, files=[SimpleNamespace(fps=fps)], height=frames.shape[1], width=frames.shape[2],
        frames=lambda start, stop: frames[start:stop],
    )  # fmt: skip


def blobs(count):
    """Coarse and fine detail, new in each frame."""
    coarse = RANDOM.integers(0, 120, (count, 6, 8, 3)).repeat(8, 1).repeat(8, 2)
    return (coarse + RANDOM.integers(0, 120, coarse.shape)).astype(np.uint8)


def swinging():
    """A soft spot that goes to and fro in two seconds."""
    x = 32 + 16 * np.sin(np.arange(60) * 2 * np.pi / 50)
    far = np.hypot(np.arange(64) - x[:, None, None], np.arange(48)[:, None] - 24)
    return (230 * np.exp(-((far / 8) ** 2)))[..., None].repeat(3, -1).astype(np.uint8)


def wandering():
    """Half of what changes is new in each frame, half of it wanders off."""
    walk = np.cumsum(RANDOM.normal(0, 6, (40, 6, 8, 3)), 0).repeat(8, 1).repeat(8, 2)
    return np.clip(128 + walk + 0.1 * blobs(40), 0, 255).astype(np.uint8)


def test_what_is_new_in_each_frame_flickers():
    assert flicker(store(blobs(40))) == pytest.approx(1, abs=0.1)
    slowest, fastest = noise_paces(store(blobs(40)))
    assert fastest == pytest.approx(3.6 / 25)
    assert slowest == 12


def test_what_moves_does_not():
    footage = store(swinging(), swinging()[::-1])
    assert 1 / 16 < flicker(footage) < 0.15
    assert noise_paces(store(swinging(), fps=30.0)) == (12.0, pytest.approx(10.5 / 30))


def test_what_wanders_is_between():
    assert 0.25 < flicker(store(wandering())) < 0.5


def test_a_cameras_noise_does_not_make_it_flicker():
    clip = swinging()
    noisy = np.clip(clip + RANDOM.normal(0, 12, clip.shape), 0, 255).astype(np.uint8)
    assert flicker(store(noisy)) < flicker(store(clip)) + 0.1


@pytest.mark.parametrize("clips", [[np.zeros((40, 32, 48, 3), np.uint8)], [blobs(3), blobs(4)]])
def test_nothing_to_tell_by_is_steady(clips):
    assert flicker(store(*clips)) == 0
    assert noise_paces(store(*clips))[1] == pytest.approx(10.5 / 25)


def test_slow_footage_has_a_slower_wave_than_its_fastest():
    slowest, fastest = noise_paces(store(swinging(), fps=0.5))
    assert slowest >= 2 * fastest > 12

"""Noise for one-step generators: its statistics, its independence of what else is asked, its period."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reroll.parts.noise import motion_noise

PACES = 12.0, 0.35


def noise(times, shape=(9, 4, 6), seed=0, period=None, paces=PACES):
    generator = torch.Generator().manual_seed(seed)
    return motion_noise(torch.as_tensor(times, dtype=torch.float64), shape, generator, paces, period)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 16])
def test_every_channel_has_mean_zero_and_variance_one(channels):
    drawn = torch.stack([noise([0.0, 3.3], (channels, 2, 2), seed) for seed in range(1500)])
    assert drawn.shape == (1500, 2, channels, 2, 2)
    by_channel = drawn.permute(1, 2, 0, 3, 4).flatten(2)  # time, channel, draws and places
    values = by_channel.flatten(1)  # time, everything of it
    assert values.var(1).sub(1).abs().max() < 0.1
    assert by_channel.var(-1).sub(1).abs().max() < 0.12
    assert by_channel.mean(-1).abs().max() < 0.08


def test_what_is_whole_is_the_same_at_every_place():
    """Of 16 channels the 6 constant ones and 2 of 5 pairs; the others differ from place to place."""
    clip = noise(torch.arange(4) / 2, (16, 4, 6))
    same = (clip == clip[..., :1, :1]).all(-1).all(-1).all(0)
    assert same.nonzero()[:, 0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 11, 12]
    assert clip[:, ~same].std((2, 3)).min() > 0.3


@given(
    times=st.lists(st.floats(0, 600, allow_nan=False), min_size=2, max_size=9),
    seed=st.integers(0, 2**31),
    period=st.none() | st.floats(0.5, 60),
)
@settings(deadline=None, max_examples=40)
def test_a_time_has_its_noise_whatever_else_is_asked(times, seed, period):
    together = noise(times, seed=seed, period=period)
    alone = torch.cat([noise([time], seed=seed, period=period) for time in times])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


@given(period=st.floats(0.3, 120), time=st.floats(0, 120), seed=st.integers(0, 99))
@example(period=108.0, time=0.0, seed=59)
@settings(deadline=None, max_examples=40)
def test_a_period_closes(period, time, seed):
    first, again = noise([time, time + period], seed=seed, period=period)
    torch.testing.assert_close(first, again, rtol=0, atol=5e-6)


def test_without_a_period_it_does_not_come_back():
    first, later = noise([0.0, 60.0])
    assert (first - later).abs().mean() > 0.3


def test_it_is_smooth_and_partly_constant():
    times = torch.arange(200) / 100
    clip = noise(times, (9, 8, 8))
    constant = (clip - clip[:1]).abs().amax((0, 2, 3)) == 0
    assert constant.sum() == 3
    step = clip.diff(dim=0).square().mean().sqrt()
    apart = (clip[-1] - clip[0]).square().mean().sqrt()
    assert step < 0.5 * apart


def test_it_is_smooth_over_the_seam():
    period = PACES[0]
    times = torch.arange(3000) * period / 3000
    clip = noise(times, period=period)
    steps = torch.cat([clip, clip[:1]]).diff(dim=0).square().mean((1, 2, 3)).sqrt()
    assert steps[-1] <= 1.2 * steps[:-1].max()


def test_each_pair_has_a_pace_of_its_own():
    """Of 16 channels 5 pairs: two that are the same at every place, three that are not; the later, the faster."""
    clips = torch.stack([noise(torch.arange(60) / 60, (16, 3, 3), seed) for seed in range(40)])
    pace = clips.diff(dim=1).square().mean((0, 1, 3, 4)).sqrt()[6:].unflatten(0, (2, 5)).mean(0)
    assert pace[1] > 3 * pace[0]
    assert pace[3] > 3 * pace[2]
    assert pace[4] > 3 * pace[3]


@pytest.mark.parametrize(("period", "last"), [(None, [0.9423, -0.8097]), (2.0, [-0.3263, 0.6627])])
def test_older_runs_hear_what_they_were_trained_with(period, last):
    found = noise([0.0, 1.5], (9, 2, 2), period=period, paces=None)[1, -2:, 1, 0]
    torch.testing.assert_close(found, torch.tensor(last), rtol=0, atol=1e-4)


def test_seeds_differ_and_repeat():
    assert torch.equal(noise([1.0], seed=4), noise([1.0], seed=4))
    assert (noise([1.0], seed=4) - noise([1.0], seed=5)).abs().mean() > 0.3


def test_it_has_a_direction_of_time():
    """One-sided: in every pair the second channel follows the first by a quarter turn, never leads."""
    clip = torch.stack([noise(torch.arange(100) / 50, (6, 3, 3), seed) for seed in range(40)])
    real, imaginary = clip[:, :, 2:4], clip[:, :, 4:6]
    turning = (real[:, :-1] * imaginary[:, 1:] - imaginary[:, :-1] * real[:, 1:]).mean()
    assert turning > 0.05

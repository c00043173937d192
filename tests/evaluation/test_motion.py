"""Motion measurements against motions that are known."""

import numpy as np
import pytest

from reroll.evaluation import motion


def rolling(frames, height=48, width=64, step=1, seed=0):
    """`T H W 3`: one texture that moves right by `step` pixels a frame and wraps after `width` of them."""
    import cv2

    noise = np.random.default_rng(seed).normal(0, 1, (height, 3 * width, 3)).astype(np.float32)
    noise[:, width : 2 * width] = noise[:, :width]
    noise[:, 2 * width :] = noise[:, :width]
    picture = np.clip(128 + 300 * cv2.GaussianBlur(noise, (0, 0), 3), 0, 255)[:, width : 2 * width]
    return np.stack([np.roll(picture, step * t, axis=1) for t in range(frames)]).round().astype(np.uint8)


@pytest.mark.parametrize("step", [1, 2])
def test_flow_is_the_known_shift_in_percent_of_the_short_side(step):
    field = motion.flow(rolling(4, step=step))
    assert field.shape == (3, 64, 85, 2)
    inner = field[:, 16:-16, 16:-16]
    assert np.median(inner[..., 0]) == pytest.approx(100 * step / 48, rel=0.1)
    assert abs(np.median(inner[..., 1])) < 0.2


def test_flow_features_name_the_direction():
    right = motion.flow_features(motion.flow(rolling(6)))
    left = motion.flow_features(motion.flow(rolling(6)[:, :, ::-1]))
    directions = slice(16, 16 + motion.DIRECTIONS)
    assert right[directions].argmax() == 0
    assert left[directions].argmax() == motion.DIRECTIONS // 2
    assert len(right) == 30


def test_motion_ratio_sees_half_speed_stills_and_nothing_else(moving_textures):
    footage = moving_textures(6)
    assert motion.motion_ratio(moving_textures(6, seed=1), footage) == pytest.approx(1, abs=0.15)
    assert motion.motion_ratio(moving_textures(6, seed=1, speed=0.4), footage) < 0.6
    assert motion.motion_ratio(np.repeat(footage[:, :1], 12, 1), footage) < 0.01
    assert motion.moves_alike(1.0)
    assert not motion.moves_alike(0.5)
    assert not motion.moves_alike(1.5)


def test_freeze_counts_the_still_steps(moving_textures):
    footage = moving_textures(4)
    sample = np.concatenate([footage[0], np.repeat(footage[0][-1:], 12, axis=0)])
    limit = motion.still_limit(footage)
    assert motion.freeze(footage[0], limit) == motion.Freeze(0.0, 0)
    frozen = motion.freeze(sample, limit)
    assert frozen.longest_frames == 12
    assert frozen.share == pytest.approx(12 / 23)


def test_a_leap_is_a_step_that_the_footage_never_makes(moving_textures):
    footage = moving_textures(8)
    limit, _ = motion.leap_limits(footage)
    assert motion.leap_share(footage, limit) < 0.005
    cut = np.concatenate([footage[0], footage[1]])[None]
    assert motion.leap_share(cut, limit) == pytest.approx(1 / 23)


def test_drift_is_none_when_short_and_zero_when_steady():
    assert motion.drift(rolling(30), fps=12) is None
    steady = motion.drift(rolling(128), fps=12)
    assert steady.colour_levels < 0.5
    assert steady.sharpness_ratio == pytest.approx(1, abs=0.02)
    assert steady.motion_ratio == pytest.approx(1, abs=0.05)
    fading = rolling(128).astype(float) * np.linspace(1, 0.5, 128)[:, None, None, None]
    worse = motion.drift(fading.astype(np.uint8), fps=12)
    assert worse.colour_levels > 40
    assert worse.sharpness_ratio < 0.7


def test_continuity_ranks_steady_below_shuffled():
    steady = rolling(12)
    shuffled = steady[np.random.default_rng(0).permutation(12)]
    assert motion.continuity(steady).warp_error < 0.5 * motion.continuity(shuffled).warp_error
    assert motion.continuity(steady).flicker < 1 < motion.continuity(shuffled).flicker


def test_a_ring_closes_and_a_cut_does_not():
    footage = np.stack([rolling(16, seed=s) for s in range(3)])
    ring = rolling(64)
    seam = motion.seam_error(ring, np.concatenate([footage, ring[None, :16]]))
    assert seam.measurable
    assert seam.hidden
    for moved in (0, 20):
        cut = motion.seam_error(np.roll(rolling(40), moved, axis=0), footage)
        assert cut.measurable
        assert not cut.hidden
        assert cut.leap > 2 * cut.leap_limit


def test_a_reversal_is_a_jolt():
    there = rolling(32)
    spring = np.concatenate([there, there[-2:0:-1]])
    for moved in (0, 16):
        seam = motion.seam_error(np.roll(spring, moved, axis=0), there[None])
        assert seam.leap <= seam.leap_limit
        assert seam.jolt > seam.jolt_limit
        assert not seam.hidden


def test_a_still_does_not_pass_for_a_loop():
    footage = rolling(16)[None]
    seam = motion.seam_error(np.repeat(footage[0, :1], 16, axis=0), footage)
    assert not seam.measurable
    assert not seam.hidden

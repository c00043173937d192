"""Frames between two, on pictures whose motion is known."""

import cv2
import numpy as np
import pytest

from reroll.sampling.morph import carried, flow, morph, warp


def texture(height=64, width=86, seed=0):
    """A smooth random picture, twice as wide."""
    noise = np.random.default_rng(seed).random((height, 2 * width, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    return ((smooth - smooth.min()) / np.ptp(smooth) * 255).round().astype(np.uint8)


def apart(one, other):
    """Mean absolute difference away from the borders, where a pan shows what neither frame has."""
    return np.abs(one.astype(float) - other)[8:-8, 16:-16].mean()


def test_what_pans_is_in_between_where_it_would_have_been():
    wide = texture()
    pan = [wide[:, at : at + 86] for at in range(0, 9, 2)]
    between = morph(pan[0], pan[-1], 4)
    assert between.shape == (3, 64, 86, 3)
    assert between.dtype == np.uint8
    for found, true, share in zip(between, pan[1:-1], (0.25, 0.5, 0.75), strict=True):
        faded = (1 - share) * pan[0] + share * pan[-1].astype(float)
        assert apart(found, true) < 0.25 * apart(faded, true)


def test_flow_is_in_pixels_of_the_frame_at_any_size():
    for scale in (1, 3):
        wide = cv2.resize(texture(), None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        one, other = wide[:, 4 * scale : 90 * scale], wide[:, : 86 * scale]
        field = flow(one, other)[8 * scale : -8 * scale, 16 * scale : -16 * scale]
        assert np.abs(field - (4 * scale, 0)).mean() < 0.5 * scale


def test_what_stands_still_stays_as_it_is():
    frame = texture()[:, :86]
    assert np.abs(morph(frame, frame, 3).astype(int) - frame).max() <= 1


@pytest.mark.parametrize(("height", "width"), [(16, 16), (32, 76), (200, 90)])
def test_where_nothing_is_alike_every_step_is_about_as_long(height, width):
    one, other = texture(height, width)[:, :width], texture(height, width, seed=1)[:, :width]
    frames = np.concatenate([one[None], morph(one, other, 5), other[None]]).astype(float)
    steps = np.abs(np.diff(frames, axis=0)).mean((1, 2, 3))
    assert steps.max() < 2 * steps.mean()
    assert len(morph(one, other, 1)) == 0


def swaying(picture, axis, frames=24):
    """A picture that sways by five pixels along an axis."""
    by = 5 * np.sin(np.arange(frames) / 3)
    return np.stack(
        [warp(picture, np.full((*picture.shape[:2], 2), np.eye(2)[axis] * -b, np.float32)) for b in by]
    )


def test_what_is_carried_along_a_take_becomes_its_frames():
    take = swaying(texture(seed=0)[:, :86], 0).clip(0, 255).astype(np.uint8)
    inside = np.s_[:, 8:-8, 8:-8]
    apart = np.abs(carried(take[0], take)[inside].astype(float) - take[inside])
    still = np.abs(take[:1][inside].astype(float) - take[inside])
    assert apart.mean() < 0.3 * still.mean()


def test_what_is_carried_keeps_its_look_and_moves_as_the_other_does():
    look = swaying(texture(seed=1)[:, :86], 1).clip(0, 255).astype(np.uint8)
    motion = swaying(texture(seed=2)[:, :86], 0).clip(0, 255).astype(np.uint8)
    moved = carried(look[0], motion)
    assert np.array_equal(moved[0], look[0])

    def flows(clip):
        return np.stack([flow(clip[0], frame) for frame in clip[1:]])[:, 8:-8, 8:-8]

    apart = {
        name: np.abs(flows(moved) - flows(clip)).mean() for name, clip in (("look", look), ("motion", motion))
    }
    assert apart["motion"] < 0.3 * apart["look"]

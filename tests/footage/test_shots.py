"""Cuts are found where they are and nowhere else; stills and repeats are told from slow motion."""

import itertools

import numpy as np
import pytest
from footage_maker import background, moving_square, panning, shaking, with_cuts, with_still

from reroll.footage.shots import (
    MOST_GAPS,
    CutFinder,
    DissolveFinder,
    Pending,
    StillFilter,
    glance,
    largest_gap,
    split_shots,
    usual_gap,
)


def cuts_in(frames):
    finder = CutFinder()
    found = [cut for frame in frames for cut in finder.push(glance(frame))]
    return sorted(found + finder.finish())


def kept_of(frames, fps=25.0):
    still = StillFilter()
    kept = []
    for number, frame in enumerate(frames):
        kept += still.push(Pending(number, number / fps, frame), glance(frame))
    kept += still.finish()
    assert len(kept) + still.stills + still.repeats == len(frames)
    return [item.index for item in kept], still


@pytest.mark.parametrize("lengths", [(20, 16, 18), (10, 5, 5, 10), (30, 3, 30), (25, 2), (2, 25)])
def test_cuts_are_where_shots_meet(lengths):
    assert cuts_in(with_cuts(lengths)) == list(np.cumsum(lengths)[:-1])


def test_motion_is_no_cut():
    for frames in (moving_square(60, step=9), shaking(60), panning(60, step=6)):
        assert cuts_in(frames) == []


def test_flicker_and_flashes_are_no_cuts():
    frames = moving_square(60)
    flicker = (frames * np.where(np.arange(60) % 7 < 3, 0.55, 1.0)[:, None, None, None]).astype(np.uint8)
    assert cuts_in(flicker) == []
    flash = frames.copy()
    flash[30:32] = 255
    assert cuts_in(flash) == []


def dissolves_in(frames):
    finder = DissolveFinder()
    for frame in frames:
        finder.push(glance(frame))
    return finder.spans


def test_dissolves_and_fades_belong_to_no_shot():
    weight = np.clip((np.arange(80) - 30) / 16, 0, 1)[:, None, None, None]
    first, second = moving_square(80, step=0.5, seed=1), moving_square(80, step=0.5, seed=2)
    ((start, stop),) = dissolves_in(((1 - weight) * first + weight * second).astype(np.uint8))
    assert start <= 32
    assert stop >= 44
    assert stop - start < 50
    fade = ((1 - weight) * first).astype(np.uint8)
    assert len(dissolves_in(fade)) == 1
    indices = np.arange(80)
    assert split_shots(indices, indices / 25, [], [(start, stop)]) == [(0, start), (stop, 80)]


def test_motion_is_no_dissolve():
    for frames in (
        moving_square(80, step=9),
        shaking(80),
        panning(80, step=1),
        panning(80, step=6),
        with_cuts(),
    ):
        assert dissolves_in(frames) == []


def test_noise_is_no_cut():
    noise = np.random.default_rng(0).normal(0, 12, (40, 48, 64, 3))
    assert cuts_in(np.clip(moving_square(40) + noise, 0, 255).astype(np.uint8)) == []


def test_a_still_stretch_leaves_its_first_frame():
    kept, still = kept_of(with_still(20, 30, 20))
    assert kept == [*range(20), *range(50, 70)]
    assert (still.stills, still.repeats) == (30, 0)


def test_a_short_pause_stays():
    frames = with_still(20, 6, 20)
    noise = np.random.default_rng(0).normal(0, 1.0, frames.shape)
    kept, _ = kept_of(np.clip(frames + noise, 0, 255).astype(np.uint8))
    assert len(kept) == 46


def test_noise_does_not_hide_a_still():
    frames = np.repeat(background(240, 320)[None], 40, axis=0)
    noise = np.random.default_rng(0).normal(0, 3, frames.shape)
    kept, still = kept_of(np.clip(frames + noise, 0, 255).astype(np.uint8))
    assert kept == [0]
    assert still.stills == 39


def test_repeats_go_one_by_one():
    kept, still = kept_of(np.repeat(moving_square(12), 2, axis=0))
    assert kept == list(range(0, 24, 2))
    assert still.repeats == 12


def test_slow_motion_is_thinned_at_most():
    # a tenth of a pixel a frame
    wide = np.asarray(panning(2, 48, 400, seed=4)[0], np.float32)
    frames = []
    for number in range(100):
        whole, part = divmod(number * 0.1, 1)
        left = int(whole)
        frames.append((1 - part) * wide[:, left : left + 64] + part * wide[:, left + 1 : left + 65])
    kept, still = kept_of(np.stack(frames).round().astype(np.uint8))
    assert still.stills == 0
    assert len(kept) > 50


def test_held_frames_are_bounded():
    still = StillFilter()
    frame = background(48, 64)
    for number in range(500):
        still.push(Pending(number, number / 25, frame), glance(frame))
        assert len(still._held) <= 13


def test_bursts_count_as_their_mean():
    times = np.cumsum(np.tile([0.083, 0.017, 0.016, 0.017], 20))
    assert usual_gap(times) == pytest.approx(0.0333, abs=0.001)
    assert split_shots(np.arange(80), times, []) == [(0, 80)]


def test_shots_split_at_cuts_and_gaps():
    indices = np.array([0, 1, 2, 3, 20, 21, 22, 23, 24])
    assert split_shots(indices, indices / 25, [22]) == [(0, 4), (4, 6), (6, 9)]
    assert split_shots(np.arange(5), np.arange(5) / 25, [0, 5]) == [(0, 5)]
    assert split_shots(np.array([7]), np.array([0.3]), []) == [(0, 1)]
    assert split_shots(np.array([], int), np.array([]), []) == []


def test_long_files_are_split_where_short_ones_are():
    count = 3 * MOST_GAPS
    times = np.arange(count) / 25
    for late in (10, MOST_GAPS, MOST_GAPS + 1, 2 * MOST_GAPS - 1, count - 1):
        times[late:] += 5
    assert usual_gap(times) == pytest.approx(0.04)
    assert largest_gap(times) == pytest.approx(5.04)
    edges = [0, 10, MOST_GAPS, MOST_GAPS + 1, 2 * MOST_GAPS - 1, count - 1, count]
    assert split_shots(np.arange(count), times, []) == list(itertools.pairwise(edges))
    assert largest_gap(np.array([])) == largest_gap(np.array([3.0])) == 0.0

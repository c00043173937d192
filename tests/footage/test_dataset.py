"""Windows: a pure function of seed and index, inside shots, with true times; held-out footage stays apart."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from footage_maker import moving_square, shaking, with_cuts, write_clip, write_picture
from hypothesis import given
from hypothesis import strategies as st

from reroll.footage import Store, Windows, find_footage, ingest, split
from reroll.footage.dataset import Span


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    """Three shots of 40, 9 and 30 frames in one file, and a picture."""
    folder = tmp_path_factory.mktemp("footage")
    write_clip(folder / "a.mp4", with_cuts((40, 9, 30)))
    write_picture(folder / "b.png", moving_square(1, seed=5)[0])
    return ingest(find_footage([folder])[0], short_side=16, cache_dir=folder / "cache")


def spans_of(store: Store) -> list[Span]:
    return [Span(shot.start, shot.stop, shot.label) for shot in store.shots]


def numbered(store: Store) -> dict[bytes, int]:
    """Which frame an image is."""
    return {store.frames(n, n + 1)[0].tobytes(): n for n in range(store.frame_count)}


def test_a_batch_depends_on_seed_index_and_arguments_alone(store: Store):
    arguments = {"batch": 4, "frames": 8, "strides": (1, 2, 3)}
    one = Windows(store, spans_of(store), seed=3, mirror=True)
    expected = [one.batch(index, **arguments) for index in range(4)]
    other = Windows(Store.open(store.path), spans_of(store), seed=3, mirror=True)
    for index in (3, 0, 2, 1):
        again = other.batch(index, **arguments)
        np.testing.assert_array_equal(again.frames, expected[index].frames)
        np.testing.assert_array_equal(again.timestamps, expected[index].timestamps)
        np.testing.assert_array_equal(again.labels, expected[index].labels)
    assert not np.array_equal(expected[0].frames, expected[1].frames)
    assert not np.array_equal(
        expected[0].frames, Windows(store, spans_of(store), seed=4, mirror=True).batch(0, **arguments).frames
    )


def test_another_process_draws_the_same(store: Store):
    program = (
        "import sys, hashlib; from reroll.footage import *; from reroll.footage.dataset import Span\n"
        "store = Store.open(sys.argv[1]); spans = [Span(s.start, s.stop, s.label) for s in store.shots]\n"
        "batch = Windows(store, spans, seed=1, mirror=True).batch(7, batch=3, frames=6, strides=[1, 4])\n"
        "print(hashlib.sha256(batch.frames.tobytes() + batch.timestamps.tobytes()).hexdigest())"
    )
    run = [sys.executable, "-c", program, str(store.path)]
    there = subprocess.run(run, capture_output=True, text=True, check=True).stdout.strip()
    batch = Windows(store, spans_of(store), seed=1, mirror=True).batch(7, batch=3, frames=6, strides=[1, 4])
    assert hashlib.sha256(batch.frames.tobytes() + batch.timestamps.tobytes()).hexdigest() == there


def test_arrays_are_fresh(store: Store):
    windows = Windows(store, spans_of(store), seed=0, mirror=False)
    first = windows.batch(0, batch=2, frames=4, strides=[1])
    kept = first.frames.copy()
    first.frames[:] = 0
    np.testing.assert_array_equal(windows.batch(0, batch=2, frames=4, strides=[1]).frames, kept)


@given(
    index=st.integers(0, 10_000),
    frames=st.integers(1, 24),
    strides=st.lists(st.integers(1, 6), min_size=1, max_size=3),
)
def test_no_window_leaves_its_shot(store: Store, index, frames, strides):
    windows = Windows(store, spans_of(store), seed=0, mirror=False)
    batch = windows.batch(index, batch=3, frames=frames, strides=strides)
    assert batch.frames.shape == (3, frames, store.height, store.width, 3)
    assert batch.frames.dtype == np.uint8
    assert (batch.timestamps[:, 0] == 0).all()
    names = numbered(store)
    for row, times in zip(batch.frames, batch.timestamps, strict=True):
        assert (np.diff(times) > 0).all()
        numbers = np.array([names[image.tobytes()] for image in row])
        (shot,) = [shot for shot in store.shots if shot.start <= numbers[0] < shot.stop]
        assert ((shot.start <= numbers) & (numbers < shot.stop)).all()
        steps = np.diff(numbers)
        if shot.stop - shot.start >= frames > 1:
            assert (steps == steps[0]).all()
            assert 1 <= steps[0] <= max(strides)
            np.testing.assert_allclose(np.diff(times), steps[0] / 25, atol=1e-3)
        else:
            assert (np.abs(steps) <= 1).all()


def test_every_start_is_drawn_equally_often(store: Store):
    windows = Windows(store, [Span(0, 20)], seed=0, mirror=False)
    names = numbered(store)
    counts = np.zeros(13)
    for index in range(260):
        for row in windows.batch(index, batch=10, frames=8, strides=[1]).frames:
            counts[names[row[0].tobytes()]] += 1
    assert counts.min() > 140
    assert counts.max() < 260


def test_a_shot_is_drawn_as_often_as_it_is_long_however_few_windows_begin_in_it(store: Store):
    windows = Windows(store, spans_of(store)[:3], seed=0, mirror=False)  # 40, 9 and 30 frames
    # Windows of 29 frames: 12 begin in the first shot, 2 in the last; the short one is played to and fro.
    first = windows.draw(0, batch=2000, frames=8, strides=[4]).indices.min(1)
    shares = np.bincount(np.searchsorted([40, 49, 79], first, side="right"), minlength=3) / len(first)
    np.testing.assert_allclose(shares, np.array([40, 9, 30]) / 79, atol=0.04)


def test_files_of_mixed_rates_are_drawn_as_often_as_they_last(tmp_path: Path):
    for fps in (25, 50):
        write_clip(tmp_path / f"{fps}.mp4", shaking(2 * fps, seed=fps), fps=fps)
    store = ingest(find_footage([tmp_path])[0], short_side=16, cache_dir=tmp_path / "cache")
    windows = Windows(store, spans_of(store), seed=0, mirror=False)
    first = windows.draw(0, batch=2000, frames=8, strides=[1]).indices[:, 0]
    assert 0.45 < (first < store.files[0].stop).mean() < 0.55


def test_a_stride_that_is_there_twice_is_drawn_twice_as_often(store: Store):
    windows = Windows(store, spans_of(store), seed=0, mirror=False)
    strides = windows.draw(0, batch=900, frames=4, strides=[3, 1, 3]).strides
    assert set(strides.tolist()) == {1, 3}
    assert 0.6 < (strides == 3).mean() < 0.73


def test_strides_that_do_not_fit_give_way_to_the_largest_that_does(store: Store):
    windows = Windows(store, [Span(0, 20)], seed=0, mirror=False)
    times = windows.batch(0, batch=8, frames=8, strides=[5]).timestamps
    assert (windows.draw(0, batch=8, frames=8, strides=[5]).strides == 5).all()
    np.testing.assert_allclose(np.diff(times, axis=1), 2 / 25, atol=1e-3)


def test_mixed_rates_are_drawn_at_the_same_time_steps(tmp_path: Path):
    for fps in (24, 25, 30, 60):
        write_clip(tmp_path / f"{fps}.mp4", shaking(3 * fps, seed=fps), fps=fps)
    store = ingest(find_footage([tmp_path])[0], short_side=16, cache_dir=tmp_path / "cache")
    windows = Windows(store, spans_of(store), seed=0, mirror=False)
    times = windows.batch(0, batch=64, frames=8, strides=(4,)).timestamps
    gaps = np.diff(times).mean(1)
    usual = 4 / np.median([24, 25, 30, 60])
    np.testing.assert_allclose(gaps, usual, rtol=0.16)
    assert len(np.unique(gaps.round(4))) >= 3


def test_fixed_windows_of_mixed_rates_have_the_same_time_steps(tmp_path: Path):
    for fps in (24, 25, 30, 60):
        write_clip(tmp_path / f"{fps}.mp4", shaking(3 * fps, seed=fps), fps=fps)
    store = ingest(find_footage([tmp_path])[0], short_side=16, cache_dir=tmp_path / "cache")
    found = Windows(store, spans_of(store), seed=0, mirror=False).fixed(8)
    gaps = [np.median(np.diff(store.timestamps[start:stop:step])) for start, stop, step in found]
    np.testing.assert_allclose(gaps, 1 / np.median([24, 25, 30, 60]), rtol=0.16)
    assert {step for _, _, step in found} == {1, 2}


def test_held_out_windows_of_a_fast_file_are_counted_at_the_usual_rate(tmp_path: Path):
    """The longest file is of 120 frames a second: at 30 a fifth of it has three windows, not eleven."""
    write_clip(tmp_path / "fast.mp4", shaking(400), fps=120)
    for number in range(2):
        write_clip(tmp_path / f"{number}.mp4", shaking(20, seed=number + 1), fps=30)
    store = ingest(find_footage([tmp_path])[0], short_side=16, cache_dir=tmp_path / "cache")
    parts = split(store, 8)
    held = Windows(store, parts.heldout or parts.train, seed=0, mirror=False).fixed(8)
    assert parts.heldout == []
    assert max(step for _, _, step in held) == 4


def test_mirroring_flips_whole_windows_half_the_time(store: Store):
    plain = Windows(store, spans_of(store), seed=0, mirror=False)
    mirrored = Windows(store, spans_of(store), seed=0, mirror=True)
    flips = 0
    for index in range(40):
        one = plain.batch(index, batch=4, frames=4, strides=[1]).frames
        two = mirrored.batch(index, batch=4, frames=4, strides=[1]).frames
        for left, right in zip(one, two, strict=True):
            flipped = np.array_equal(left[:, :, ::-1], right)
            assert flipped or np.array_equal(left, right)
            flips += flipped
    assert 55 < flips < 105


def test_short_shots_are_played_to_and_fro_and_it_is_said(store: Store):
    windows = Windows(store, [Span(40, 49)], seed=0, mirror=False)
    names = numbered(store)
    for index in range(20):
        (row,) = windows.batch(index, batch=1, frames=24, strides=[1, 2]).frames
        numbers = [names[image.tobytes()] for image in row]
        assert (np.abs(np.diff(numbers)) == 1).all()
        assert set(numbers) == set(range(40, 49))
    assert "forwards and backwards" in windows.notes(24)[0]
    assert windows.notes(9) == []


def test_a_picture_is_held(store: Store):
    last = store.frame_count - 1
    windows = Windows(store, [Span(last, last + 1)], seed=0, mirror=False)
    batch = windows.batch(0, batch=1, frames=4, strides=[2])
    assert (batch.frames == batch.frames[:, :1]).all()
    np.testing.assert_allclose(batch.timestamps[0], np.arange(4) / 25)
    assert "single picture" in windows.notes(4)[0]


def test_fixed_windows(store: Store):
    windows = Windows(store, spans_of(store), seed=0, mirror=False)
    found = windows.fixed(8)
    assert found[:5] == [(0, 8, 1), (8, 16, 1), (16, 24, 1), (24, 32, 1), (32, 40, 1)]
    assert found[5] == (40, 48, 1)
    assert windows.fixed(24, 6) == [(at, at + 24, 1) for at in (0, 6, 12, 49, 55)]


def clips(folder: Path, count: int, frames: int, labels: int = 0) -> Store:
    for number in range(count):
        place = folder / f"label{number % labels}" if labels else folder
        place.mkdir(exist_ok=True)
        write_clip(place / f"{number:02}.mp4", moving_square(frames, seed=number))
    return ingest(find_footage([folder])[0], short_side=16, cache_dir=folder.parent / "cache")


def test_several_clips_are_split_by_clip(tmp_path: Path):
    folder = tmp_path / "footage"
    folder.mkdir()
    store = clips(folder, 14, 40, labels=2)
    parts = split(store, 8)
    held = {span.start for span in parts.heldout}
    assert held.isdisjoint(span.start for span in parts.train)
    assert sum(span.stop - span.start for span in parts.heldout) <= 0.2 * store.frame_count
    assert sum((span.stop - span.start) // 8 for span in parts.heldout) >= 8
    assert len(parts.train) + len(parts.heldout) == len(store.shots)
    assert {span.label for span in parts.train} == {0, 1}
    assert "by clip" in parts.reason


def test_one_clip_is_split_in_time_with_a_gap(tmp_path: Path):
    path = write_clip(tmp_path / "a.mp4", shaking(500))
    store = ingest(find_footage([path])[0], short_side=16, cache_dir=tmp_path / "cache")
    parts = split(store, 8)
    (train,), (heldout,) = parts.train, parts.heldout
    assert heldout.stop == store.frame_count
    assert heldout.start - train.stop >= 8
    assert heldout.stop - heldout.start <= 0.2 * store.frame_count
    assert (heldout.stop - heldout.start) // 8 >= 8
    assert "after a gap of 8" in parts.reason


def test_too_little_footage_is_not_split_and_says_so(tmp_path: Path):
    path = write_clip(tmp_path / "a.mp4", shaking(100))
    store = ingest(find_footage([path])[0], short_side=16, cache_dir=tmp_path / "cache")
    parts = split(store, 16)
    assert parts.heldout == []
    assert sum(span.stop - span.start for span in parts.train) == store.frame_count
    assert "nothing is held out" in parts.reason
    assert "\n" not in parts.reason

"""What a report is made from: footage of mixed frame rates at one speed, and for the copy check all of it."""

import numpy as np
import pytest
from footage_maker import moving_square, shaking, write_clip, write_picture

from reroll.evaluation import reference
from reroll.evaluation.nearest import nearest_footage
from reroll.evaluation.reference import _searched, _stretches, _windows
from reroll.footage import Span, Windows, find_footage, ingest


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Two files of 30 frames a second, and a longer one of 60."""
    folder = tmp_path_factory.mktemp("mixed")
    for name, fps, seconds in (("a", 30, 1), ("b", 30, 1), ("c", 60, 2)):
        write_clip(folder / f"{name}.mp4", shaking(fps * seconds, seed=ord(name)), fps=fps)
    return ingest(find_footage([folder])[0], short_side=16, cache_dir=folder / "cache")


def test_windows_of_a_fast_file_are_not_slow(store):
    fast = store.files[2]
    windows = Windows(store, [Span(fast.start, fast.stop)], seed=0, mirror=False)
    found, places = _windows(windows, 8, 2)
    for number, start in enumerate((fast.start, fast.start + 4)):
        np.testing.assert_array_equal(found[number], store.frames(start, start + 15, 2))
    assert places[1].seconds == pytest.approx(4 / 60, abs=1e-3)


def test_stretches_of_a_fast_file_are_not_slow(store):
    start = store.files[2].start
    np.testing.assert_array_equal(next(_stretches(store, 20)), store.frames(start, start + 40, 2))


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    """A clip of 60 frames, one of 10 and a picture: two shots that are shorter than a window of 16."""
    folder = tmp_path_factory.mktemp("uneven")
    write_clip(folder / "a.mp4", shaking(60, seed=1), fps=30)
    write_clip(folder / "b.mp4", moving_square(10, seed=2), fps=30)
    write_picture(folder / "c.png", moving_square(1, seed=3)[0])
    return ingest(find_footage([folder])[0], short_side=16, cache_dir=folder / "cache")


def all_of(store):
    return Windows(store, [Span(shot.start, shot.stop) for shot in store.shots], seed=0, mirror=False)


def test_stretches_without_a_window_and_short_shots_are_searched(uneven, monkeypatch):
    monkeypatch.setattr(reference, "MOST_WINDOWS", 2)
    windows, b = all_of(uneven), uneven.files[1]
    kept, _ = _windows(windows, 16, 4)
    assert len(kept) == 2
    short = uneven.frames(b.start, b.stop)
    to_and_fro = np.concatenate([short[3:], short[-2:0:-1]])
    asked = np.stack([uneven.frames(21, 36), to_and_fro, np.repeat(uneven.frames(70, 71), 15, axis=0)])
    nearest = nearest_footage(asked, _searched(windows, 16, mirrored=False))
    assert nearest.distance.max() < 0.2
    assert [place.file for place in nearest.places] == ["a.mp4", "b.mp4", "c.png"]
    assert nearest.places[0].seconds == pytest.approx((21 + nearest.start[0]) / 30, abs=1e-3)


def test_every_run_that_training_shows_is_searched(uneven, store):
    for footage in (uneven, store):
        windows = all_of(footage)
        searched = {tuple(p[at : at + 8]) for p in windows.passes(16, 8) for at in range(len(p) - 7)}
        for index in range(20):
            for row in windows.draw(index, batch=8, frames=16, strides=(1,)).indices:
                assert all(tuple(row[at : at + 8]) in searched for at in range(9))


def test_windows_of_short_shots_alone_are_named_after_their_own_file(uneven):
    b, c = uneven.files[1:]
    windows = Windows(uneven, [Span(b.start, b.stop), Span(c.start, c.stop)], seed=0, mirror=False)
    found, places = _windows(windows, 16, 4)
    assert found.shape[1] == 16
    assert {place.file for place in places} == {"b.mp4", "c.png"}
    np.testing.assert_array_equal(found[0][:10], uneven.frames(b.start, b.stop))
    np.testing.assert_array_equal(found[0][10], uneven.frames(b.stop - 2, b.stop - 1)[0])
    np.testing.assert_array_equal(found[-1], np.repeat(uneven.frames(c.start, c.stop), 16, axis=0))
    assert places[1].seconds == pytest.approx(4 / 30, abs=1e-3)

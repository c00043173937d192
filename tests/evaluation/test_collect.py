"""What a report is made from: footage of mixed frame rates is taken at one speed."""

import numpy as np
import pytest
from footage_maker import shaking, write_clip

from reroll.evaluation.collect import _stretches, _windows
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
    np.testing.assert_array_equal(_stretches(store, 20)[0], store.frames(start, start + 40, 2))

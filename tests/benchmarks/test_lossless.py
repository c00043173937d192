"""Lossless footage: the same pixels, the same bytes each time, pieces of one length."""

import numpy as np
import pytest
from footage_maker import moving_square, write_clip

from benchmarks import lossless
from reroll.footage import decode, resize


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", moving_square(24, 48, 64))


def frames(path):
    return np.stack([frame.image for frame in decode(path)])


def test_what_is_read_back_is_what_was_written(clip, tmp_path):
    folder = lossless.square(clip, 32, tmp_path)
    expected = np.stack([resize(frame.image, 32, 32) for frame in decode(clip)])
    assert np.array_equal(frames(folder / "clip.mkv"), expected)


def test_the_same_frames_make_the_same_bytes(clip, tmp_path):
    """Which clips are held out goes by the hash of their files."""
    one, other = (lossless.square(clip, 32, tmp_path / name) / "clip.mkv" for name in ("one", "other"))
    assert one.read_bytes() == other.read_bytes()


def test_squares_are_made_once(clip, tmp_path):
    made = lossless.square(clip, 32, tmp_path) / "clip.mkv"
    before = made.stat().st_mtime_ns
    lossless.square(clip, 32, tmp_path)
    assert made.stat().st_mtime_ns == before


def test_pieces_are_of_one_length(clip, tmp_path):
    pieces = lossless.cut(clip, 10 / 25, 32, tmp_path)
    files = sorted(tmp_path.iterdir())
    assert pieces == len(files) == 2
    assert [len(frames(file)) for file in files] == [10, 10]

"""Whatever the bytes of a file: frames, or one line."""

import string

import pytest
from footage_maker import moving_square, write_clip
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reroll.errors import FootageError
from reroll.footage import decode, probe

CONTAINERS = {
    "mp4": {},
    "mkv": {},
    "avi": {"codec": "mpeg4"},
    "gif": {"codec": "gif", "pix_fmt": "rgb8"},
    "ts": {"codec": "mpeg2video", "container_format": "mpegts"},
}
REUSED = [HealthCheck.function_scoped_fixture]


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    return {
        ending: write_clip(folder / f"whole.{ending}", moving_square(6, 16, 24), **options).read_bytes()
        for ending, options in CONTAINERS.items()
    }


def one_line(path):
    """Frames it gives; its line has to be one, and the decoder alive."""
    try:
        probe(path)
        return sum(1 for _ in decode(path))
    except FootageError as error:
        words = str(error)
        assert "\n" not in words
        assert "crashed" not in words
        assert "too long" not in words
        return words


@settings(max_examples=60, suppress_health_check=REUSED)
@given(
    ending=st.sampled_from(sorted(CONTAINERS)),
    edits=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.binary(max_size=9), st.integers(0, 40)), max_size=6
    ),
    cut=st.floats(0.2, 1),
)
def test_edited_files_give_frames_or_one_line(clips, tmp_path, ending, edits, cut):
    content = bytearray(clips[ending])
    for where, put, removed in edits:
        at = int(where * len(content))
        content[at : at + removed] = put
    path = tmp_path / f"edited.{ending}"
    path.write_bytes(content[: int(cut * len(content))])
    found = one_line(path)
    assert isinstance(found, str) or 0 < found <= 100


@settings(max_examples=40, suppress_health_check=REUSED)
@given(content=st.binary(max_size=3000), ending=st.sampled_from(["mp4", "mkv", "png", "gif", "txt"]))
def test_any_bytes_give_one_line(tmp_path, content, ending):
    path = tmp_path / f"any.{ending}"
    path.write_bytes(content)
    one_line(path)


@settings(max_examples=40, suppress_health_check=REUSED)
@given(text=st.text(string.printable, max_size=300))
def test_text_is_never_footage(tmp_path, text):
    path = tmp_path / "words.mp4"
    path.write_text(text)
    assert isinstance(one_line(path), str)

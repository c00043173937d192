"""Files that are written must be what was asked: colours, counts, rates, whole or absent."""

import base64
import json
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from reroll.errors import RerollError, UsageError
from reroll.export.clip import Clip
from reroll.export.formats import read_record
from reroll.export.media import (
    VideoWriter,
    atomic_path,
    exact_rate,
    write_grid,
    write_video,
)


def decode(path):
    """Frames `T H W 3` by a BT.709 limited-range conversion written out here, and the stream's facts."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        planes = [frame.to_ndarray().astype(np.float64) for frame in container.decode(stream)]
        facts = stream.codec_context
        tags = (facts.color_primaries, facts.color_trc, facts.colorspace, facts.color_range)
        rate, duration = stream.average_rate, stream.duration * stream.time_base
        height, width = facts.height, facts.width
    images = []
    for plane in planes:
        luma = (plane[:height] - 16) / 219
        chroma = (plane[height:].reshape(2, height // 2, width // 2) - 128) / 224
        blue, red = np.repeat(np.repeat(chroma, 2, 1), 2, 2)
        r, b = luma + 1.5748 * red, luma + 1.8556 * blue
        images.append(np.stack([r, (luma - 0.2126 * r - 0.0722 * b) / 0.7152, b], -1) * 255)
    return np.array(images), tags, rate, duration


def gradient_clip(frames=12, height=48, width=64):
    ramp = np.mgrid[0:frames, 0:height, 0:width].astype(float)
    red = 255 * ramp[2] / width
    green = 255 * ramp[1] / height
    blue = 127 + 100 * np.sin(ramp[0] / 3)
    return np.stack([red, green, blue], -1).round().astype(np.uint8)


@pytest.mark.parametrize(
    "colour", [(255, 255, 255), (0, 0, 0), (200, 30, 30), (20, 180, 60), (30, 60, 220), (128, 128, 128)]
)
def test_flat_colours_come_back_within_two_levels(tmp_path, colour):
    frames = np.full((5, 32, 48, 3), colour, np.uint8)
    decoded, tags, _, _ = decode(write_video(tmp_path / "flat.mp4", frames, 24))
    assert np.abs(decoded.mean((0, 1, 2)) - colour).max() < 2
    assert tags == (1, 1, 1, 1)


def test_a_gradient_keeps_its_mean_colour_in_every_frame(tmp_path):
    frames = gradient_clip()
    decoded, *_ = decode(write_video(tmp_path / "ramp.mp4", frames, 24))
    assert np.abs(decoded.mean((1, 2)) - frames.mean((1, 2))).max() < 2
    assert np.abs(decoded - frames).mean() < 4


@pytest.mark.parametrize(
    ("fps", "exact"),
    [
        (24, Fraction(24)),
        (23.976, Fraction(24000, 1001)),
        (29.97, Fraction(30000, 1001)),
        (12.5, Fraction(25, 2)),
        (Fraction(15), Fraction(15)),
        (59.94, Fraction(60000, 1001)),
        (8.0, Fraction(8)),
    ],
)
@pytest.mark.parametrize("count", [1, 2, 37])
def test_frame_count_rate_and_duration_are_exact(tmp_path, fps, exact, count):
    frames = np.resize(gradient_clip(16, 32, 32), (count, 32, 32, 3))
    decoded, _, rate, duration = decode(write_video(tmp_path / "clip.mp4", frames, fps))
    assert len(decoded) == count
    assert rate == exact
    assert duration == count / exact


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf"), 5000])
def test_impossible_rates_are_refused(fps):
    with pytest.raises(UsageError, match="frame rate"):
        exact_rate(fps)


def test_faststart_puts_the_index_before_the_pictures(tmp_path):
    data = write_video(tmp_path / "clip.mp4", gradient_clip(), 24).read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


def test_the_record_survives(tmp_path):
    record = {
        "seed": 3,
        "run": 'a "quoted" <name>',
        "words": "生成 é",
        "take": "stra\udcdfe.mp4",
        "long": ["x" * 50] * 400,
    }
    path = Clip(gradient_clip(), 12.5, record).save(tmp_path / "clip.mp4")
    assert read_record(path) == json.loads(json.dumps(record))
    assert read_record(write_video(tmp_path / "plain.mp4", gradient_clip(), 24)) == {}


def test_writing_piece_by_piece_equals_writing_at_once(tmp_path):
    frames = gradient_clip(20)
    with VideoWriter(tmp_path / "pieces.mp4", 24, 48, 64) as writer:
        writer.write(frames[:1])
        writer.write(frames[1])
        writer.write(frames[2:])
    whole = write_video(tmp_path / "whole.mp4", frames, 24)
    assert (tmp_path / "pieces.mp4").read_bytes() == whole.read_bytes()


def test_the_same_frames_make_the_same_file(tmp_path):
    files = [write_video(tmp_path / f"{i}.mp4", gradient_clip(20), 24).read_bytes() for i in range(30)]
    assert len(set(files)) == 1


def test_a_failure_leaves_nothing_and_keeps_the_old_file(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"old")

    def fail_half_way():
        with VideoWriter(path, 24, 48, 64) as writer:
            writer.write(gradient_clip())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert [p.name for p in tmp_path.iterdir()] == ["clip.mp4"]
    assert path.read_bytes() == b"old"


def test_no_frames_is_an_error_and_no_file(tmp_path):
    with pytest.raises(RerollError, match="no frames"), VideoWriter(tmp_path / "clip.mp4", 24, 48, 64):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shape", [(3, 33, 32, 3), (3, 32, 31, 3), (3, 32, 32, 4), (3, 32, 32)])
def test_frames_that_cannot_be_written_are_refused_by_name(tmp_path, shape):
    with pytest.raises(UsageError, match=r"clip\.mp4"):
        write_video(tmp_path / "clip.mp4", np.zeros(shape, np.uint8), 24)
    assert not list(tmp_path.iterdir())


def test_frames_of_another_size_are_refused(tmp_path):
    with (
        pytest.raises(UsageError, match="opened for 48×64"),
        VideoWriter(tmp_path / "a.mp4", 24, 48, 64) as writer,
    ):
        writer.write(np.zeros((1, 64, 48, 3), np.uint8))


def test_atomic_path_replaces_only_on_success(tmp_path):
    path = tmp_path / "new" / "folder" / "file.json"
    with atomic_path(path) as temporary:
        temporary.write_text("one")
        assert not path.exists()
    with pytest.raises(TypeError), atomic_path(path) as temporary:
        temporary.write_bytes("two")
    assert path.read_text() == "one"
    assert len(list(path.parent.iterdir())) == 1


def test_the_contact_sheet_has_a_row_a_clip(tmp_path):
    clips = np.stack([gradient_clip(), 255 - gradient_clip()])
    sheet = cv2.imread(str(write_grid(tmp_path / "grid.png", clips, columns=4)))[..., ::-1]
    assert sheet.shape == (2 * 48, 4 * 64, 3)
    assert np.array_equal(sheet[:48, :64], clips[0, 0])
    assert np.array_equal(sheet[48:, -64:], clips[1, -1])


def test_a_clip_plays_in_a_notebook():
    clip = Clip(gradient_clip(), 24)
    page = clip._repr_html_()
    assert all(word in page for word in ("<video", "loop", "autoplay", "muted", "controls", "pixelated"))
    assert base64.b64decode(page.split("base64,")[1].split('"')[0])[4:8] == b"ftyp"
    assert clip.seconds == 0.5

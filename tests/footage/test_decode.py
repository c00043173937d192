"""Frames come out upright, with square pixels, true colours and true times, whatever the file looks like
inside.
"""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from footage_maker import (
    BLUE,
    CORNERS,
    GREEN,
    RED,
    WHITE,
    interlace,
    moving_square,
    turn_by_exif,
    write_audio_only,
    write_clip,
    write_picture,
)

from reroll.errors import FootageError
from reroll.footage import decode, probe, read_clip, read_picture, resize


def corners(image):
    """Mean colours of the four corners: top left, top right, bottom left, bottom right."""
    height, width = image.shape[:2]
    places = [(y, x) for y in (height // 8, height - height // 8) for x in (width // 8, width - width // 8)]
    return np.array([image[y - 2 : y + 3, x - 2 : x + 3].reshape(-1, 3).mean(0) for y, x in places])


@pytest.mark.parametrize(
    ("degrees", "expected"),
    [
        (0, [RED, GREEN, BLUE, WHITE]),
        (90, [GREEN, WHITE, RED, BLUE]),
        (180, [WHITE, BLUE, GREEN, RED]),
        (270, [BLUE, RED, WHITE, GREEN]),
    ],
)
def test_rotation_is_applied(tmp_path: Path, degrees, expected):
    path = write_clip(tmp_path / "turned.mp4", moving_square(4, corners=True), rotation_degrees=degrees)
    image = next(decode(path)).image
    assert image.shape == ((64, 48, 3) if degrees % 180 else (48, 64, 3))
    np.testing.assert_allclose(corners(image), expected, atol=3)
    found = probe(path)
    assert (found.height, found.width) == image.shape[:2]
    assert found.rotation_degrees == degrees


@pytest.mark.parametrize(("aspect", "shape"), [(Fraction(2), (48, 128, 3)), (Fraction(1, 2), (96, 64, 3))])
def test_pixels_become_square(tmp_path: Path, aspect, shape):
    path = write_clip(tmp_path / "wide.mp4", moving_square(3, corners=True), sample_aspect_ratio=aspect)
    image = next(decode(path)).image
    assert image.shape == shape
    np.testing.assert_allclose(corners(image), list(CORNERS.values()), atol=3)
    assert (probe(path).height, probe(path).width) == shape[:2]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("plain.mp4", {}),
        ("bt709.mp4", {"colorspace": 1}),
        ("full.mp4", {"full_range": True}),
        ("ten_bit.mp4", {"pix_fmt": "yuv420p10le"}),
        ("full_chroma.mkv", {"codec": "ffv1", "pix_fmt": "yuv444p"}),
        ("mpeg4.avi", {"codec": "mpeg4"}),
        ("stream.ts", {"codec": "mpeg2video", "container_format": "mpegts"}),
        ("web.webm", {"codec": "libvpx-vp9"}),
        ("sound.mp4", {"audio_seconds": 0.5}),
        ("palette.gif", {"codec": "gif", "pix_fmt": "rgb8"}),
    ],
)
def test_colours_survive(tmp_path: Path, name, options):
    frames = moving_square(6, corners=True)
    path = write_clip(tmp_path / name, frames, **options)
    decoded = list(decode(path))
    assert len(decoded) == 6
    np.testing.assert_allclose(corners(decoded[0].image), list(CORNERS.values()), atol=5)
    times = [frame.timestamp for frame in decoded]
    np.testing.assert_allclose(times, np.arange(6) / 25, atol=0.002)


def test_mean_colour_within_two_levels(tmp_path: Path):
    flat = np.full((4, 48, 64, 3), (90, 140, 60), np.uint8)
    for options in ({}, {"colorspace": 1}, {"full_range": True}, {"pix_fmt": "yuv420p10le"}):
        image = next(decode(write_clip(tmp_path / "flat.mp4", flat, **options))).image
        np.testing.assert_allclose(image.reshape(-1, 3).mean(0), (90, 140, 60), atol=2)


def test_variable_rate_keeps_its_times(tmp_path: Path):
    times = [0, 0.04, 0.1, 0.2, 0.24, 0.5]
    for name in ("vfr.mp4", "vfr.mkv"):
        path = write_clip(tmp_path / name, moving_square(6), times=times)
        np.testing.assert_allclose([frame.timestamp for frame in decode(path)], times, atol=0.002)


def test_interlaced_becomes_whole_frames(tmp_path: Path):
    moving = moving_square(24, step=4)
    path = write_clip(tmp_path / "fields.mp4", interlace(moving), interlaced=True)
    assert probe(path).interlaced
    decoded = list(decode(path))
    assert len(decoded) == 12

    def combing(image):
        lines = image @ np.array([0.299, 0.587, 0.114])
        return np.abs(lines[1:-1] - (lines[:-2] + lines[2:]) / 2).mean()

    clean = np.mean([combing(image) for image in moving])
    woven = np.mean([combing(image) for image in interlace(moving)]) - clean
    whole = np.mean([combing(frame.image) for frame in decoded]) - clean
    assert whole < 0.4 * woven


def test_interlaced_and_turned(tmp_path: Path):
    moving = interlace(moving_square(12, corners=True))
    path = write_clip(tmp_path / "fields.mp4", moving, interlaced=True, rotation_degrees=90)
    np.testing.assert_allclose(corners(next(decode(path)).image), [GREEN, WHITE, RED, BLUE], atol=12)


def test_alpha_is_laid_over_black(tmp_path: Path):
    frames = moving_square(3, corners=True)
    half = np.concatenate([frames, np.full((*frames.shape[:3], 1), 128, np.uint8)], axis=-1)
    image = next(decode(write_clip(tmp_path / "half.mov", half, codec="qtrle", pix_fmt="argb"))).image
    np.testing.assert_allclose(corners(image), np.array(list(CORNERS.values())) / 2, atol=3)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (33, 17), (16, 700)])
def test_odd_sizes(tmp_path: Path, height, width):
    frames = moving_square(3, height, width)
    path = write_clip(tmp_path / "odd.mkv", frames, codec="ffv1", pix_fmt="yuv444p")
    assert next(decode(path)).image.shape == (height, width, 3)
    assert read_clip(path, 8, 10)[0].shape == (3, 8, 10, 3)


def test_resolution_may_change_within_a_file(tmp_path: Path):
    for number, (height, width) in enumerate([(48, 64), (64, 48)]):
        frames = moving_square(5, height, width)
        write_clip(tmp_path / f"{number}.ts", frames, codec="mpeg2video", container_format="mpegts")
    joined = tmp_path / "joined.ts"
    joined.write_bytes((tmp_path / "0.ts").read_bytes() + (tmp_path / "1.ts").read_bytes())
    decoded = list(decode(joined))
    assert {frame.image.shape for frame in decoded} == {(48, 64, 3), (64, 48, 3)}
    assert (np.diff([frame.timestamp for frame in decoded]) > 0).all()


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [("%03d.png", "png", "rgb24"), ("photo.jpg", "mjpeg", "yuvj420p"), ("p.bmp", "bmp", "bgr24")],
)
def test_pictures(tmp_path: Path, name, codec, pix_fmt):
    path = write_picture(tmp_path / name, moving_square(1, corners=True)[0], codec, pix_fmt)
    assert probe(path).is_picture
    picture = read_picture(path, 48, 64)
    assert picture.shape == (1, 48, 64, 3)
    np.testing.assert_allclose(corners(picture[0]), list(CORNERS.values()), atol=3)


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [
        (1, [RED, GREEN, BLUE, WHITE]),
        (3, [WHITE, BLUE, GREEN, RED]),
        (6, [BLUE, RED, WHITE, GREEN]),
        (8, [GREEN, WHITE, RED, BLUE]),
    ],
)
def test_photographs_are_turned_by_their_exif(tmp_path: Path, orientation, expected):
    path = write_picture(tmp_path / "p.jpg", moving_square(1, corners=True)[0], "mjpeg", "yuvj420p")
    image = next(decode(turn_by_exif(path, orientation))).image
    np.testing.assert_allclose(corners(image), expected, atol=5)
    assert (probe(path).height, probe(path).width) == image.shape[:2]


def test_read_clip_stops_early(tmp_path: Path):
    frames, times = read_clip(write_clip(tmp_path / "clip.mp4", moving_square(20)), 24, 32, max_frames=7)
    assert frames.shape == (7, 24, 32, 3)
    assert frames.dtype == np.uint8
    np.testing.assert_allclose(times, np.arange(7) / 25, atol=1e-3)


def test_resize_crops_the_middle():
    image = np.zeros((40, 100, 3), np.uint8)
    image[:, 30:70] = 255
    assert resize(image, 20, 20).min() > 250
    assert resize(image, 80, 80).shape == (80, 80, 3)


def test_resize_averages_areas():
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    exact = noise.reshape(30, 16, 40, 16, 3).mean((1, 3))
    np.testing.assert_allclose(resize(noise, 30, 40), exact, atol=3)


def test_sound_alone_is_one_clear_line(tmp_path: Path):
    path = write_audio_only(tmp_path / "song.mp4")
    for action in (probe, lambda p: list(decode(p))):
        with pytest.raises(FootageError, match=r"song\.mp4: it holds only sound"):
            action(path)

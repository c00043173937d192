"""Every format, written and read back by other software: counts, rates, colours, the record, whole or absent."""

import json
from fractions import Fraction

import av
import numpy as np
import pytest
from footage_maker import moving_square
from PIL import Image

from reroll.errors import RerollError, UsageError
from reroll.export import pictures
from reroll.export.formats import FORMATS, choose, is_folder, open_output, read_record, sidecar

RECORD = {"seed": 3, "run": 'a "quoted" <name>', "words": "生成 é", "long": ["x" * 50] * 400}
VIDEOS = "mp4", "webm", "prores"
ANIMATIONS = "gif", "apng", "webp"


def write(folder, name, frames, fps=25, record=RECORD):
    path = folder / f"clip{FORMATS[name].ending}"
    with open_output(path, FORMATS[name], fps, *frames.shape[1:3], record) as writer:
        writer.write(frames[:3])
        writer.write(frames[3])
        writer.write(frames[4:])
    return path


def read_animation(path):
    """Frames `T H W 3` and durations in milliseconds, as Pillow sees them."""
    frames, durations = [], []
    with Image.open(path) as image:
        for number in range(image.n_frames):
            image.seek(number)
            image.load()
            durations.append(image.info["duration"])
            frames.append(np.asarray(image.convert("RGB")))
    return np.stack(frames), durations


def read_video(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])
        facts = stream.codec_context
        tags = facts.color_primaries, facts.color_trc, facts.colorspace, facts.color_range
        return frames, stream.average_rate, tags


@pytest.mark.parametrize("name", VIDEOS)
@pytest.mark.parametrize("fps", [24, 29.97, 12.5, 60])
def test_a_video_has_every_frame_its_rate_and_its_colours(tmp_path, name, fps):
    frames = moving_square(23, 48, 64)
    read, rate, tags = read_video(write(tmp_path, name, frames, fps))
    assert len(read) == len(frames)
    assert float(rate) == pytest.approx(fps, abs=1e-3)
    assert np.abs(read.mean((0, 1, 2)) - frames.mean((0, 1, 2))).max() < 2
    assert np.abs(read.astype(int) - frames).mean() < 6
    assert tags == (1, 1, 1, 1)


@pytest.mark.parametrize("name", ANIMATIONS)
@pytest.mark.parametrize("fps", [24, 29.97, 12.5, 50])
def test_an_animation_has_every_frame_its_rate_and_its_colours(tmp_path, name, fps):
    frames = moving_square(23, 48, 64)
    read, durations = read_animation(write(tmp_path, name, frames, fps))
    assert len(read) == len(frames)
    assert sum(durations) / 1000 == pytest.approx(23 / fps, abs=0.006)
    assert max(durations) - min(durations) <= 10  # a hundredth of a second is a GIF's tick
    assert np.abs(read.mean((0, 1, 2)) - frames.mean((0, 1, 2))).max() < 2
    assert np.abs(read.astype(int) - frames).mean() < 6


def test_what_stands_still_in_a_gif_does_not_flicker(tmp_path):
    frames = moving_square(12, 48, 64)
    frames[:, :12] = frames[0, :12]
    read, _ = read_animation(write(tmp_path, "gif", frames))
    assert (read[:, :10] == read[0, :10]).all()


@pytest.mark.parametrize("name", ANIMATIONS)
def test_animations_play_round_and_round(tmp_path, name):
    with Image.open(write(tmp_path, name, moving_square(6))) as image:
        assert image.info["loop"] == 0


def test_an_apng_loses_nothing(tmp_path):
    frames = moving_square(9)
    read, _ = read_animation(write(tmp_path, "apng", frames))
    assert np.array_equal(read, frames)


def test_a_sequence_is_a_folder_of_frames_that_loses_nothing(tmp_path):
    frames = moving_square(9)
    folder = write(tmp_path, "png", frames)
    names = sorted(path.name for path in folder.iterdir())
    assert names == [f"frame-{number:05d}.png" for number in range(9)]
    for name, frame in zip(names, frames, strict=True):
        with Image.open(folder / name) as image:
            assert np.array_equal(np.asarray(image), frame)


def test_a_sequence_takes_the_place_of_an_older_one_but_of_no_other_folder(tmp_path):
    write(tmp_path, "png", moving_square(9))
    folder = write(tmp_path, "png", moving_square(5))
    assert len(list(folder.iterdir())) == 5
    (folder / "thesis.doc").write_text("all I have")
    with pytest.raises(UsageError, match="not a folder of PNG frames"):
        write(tmp_path, "png", moving_square(5))
    assert (folder / "thesis.doc").read_text() == "all I have"


def test_a_sprite_sheet_has_every_frame_where_its_json_says(tmp_path):
    frames = moving_square(11, 48, 64)
    path = write(tmp_path, "sprite", frames, 12)
    layout = json.loads(path.with_suffix(".json").read_text())
    with Image.open(path) as image:
        sheet = np.asarray(image)
    assert layout["meta"]["image"] == path.name
    assert layout["meta"]["size"] == {"w": sheet.shape[1], "h": sheet.shape[0]}
    assert 0.5 < sheet.shape[1] / sheet.shape[0] < 2
    assert layout["animations"]["clip"] == list(layout["frames"])
    assert layout["meta"]["frameTags"] == [{"name": "clip", "from": 0, "to": 10, "direction": "forward"}]
    for frame, entry in zip(frames, layout["frames"].values(), strict=True):
        x, y, width, height = (entry["frame"][side] for side in "xywh")
        assert np.array_equal(sheet[y : y + height, x : x + width], frame)
        assert entry["duration"] == pytest.approx(1000 / 12, abs=1e-3)


def test_a_sprite_sheet_that_no_graphics_card_takes_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "LARGEST_SIDE", 130)
    with pytest.raises(UsageError, match=r"clip\.png: 6 frames are too many .* 4 would fit"):
        write(tmp_path, "sprite", moving_square(6, 48, 64))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("count", [1, 4, 7, 100])
def test_a_contact_sheet_shows_the_clip_from_its_first_frame_to_its_last(tmp_path, count):
    frames = moving_square(count, 48, 64)
    path = tmp_path / "sheet.png"
    with open_output(path, FORMATS["sheet"], 25, 48, 64) as writer:
        writer.write(frames)
    with Image.open(path) as image:
        sheet = np.asarray(image)
    shown, columns = min(count, 20), min(count, 5)
    assert np.array_equal(sheet[:48, :64], frames[0])
    row, column = divmod(shown - 1, columns)
    assert np.array_equal(sheet[row * 48 : row * 48 + 48, column * 64 : column * 64 + 64], frames[-1])


@pytest.mark.parametrize("name", FORMATS)
def test_the_record_is_in_the_file_and_beside_it(tmp_path, name):
    path = write(tmp_path, name, moving_square(6))
    assert read_record(path) == RECORD
    assert json.loads(sidecar(path).read_text()) == RECORD


@pytest.mark.parametrize("name", FORMATS)
def test_without_a_record_there_is_none(tmp_path, name):
    path = write(tmp_path, name, moving_square(6), record=None)
    assert read_record(path) == {}
    assert not sidecar(path).exists()


@pytest.mark.parametrize("name", FORMATS)
def test_a_failure_leaves_nothing_and_keeps_the_old_file(tmp_path, name):
    path = write(tmp_path, name, moving_square(6))
    old = {each: each.read_bytes() for each in tmp_path.rglob("*") if each.is_file()}

    def fail_half_way():
        with open_output(path, FORMATS[name], 25, 48, 64, {"seed": 4}) as writer:
            writer.write(moving_square(4))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert {each: each.read_bytes() for each in tmp_path.rglob("*") if each.is_file()} == old


@pytest.mark.parametrize("name", FORMATS)
def test_no_frames_is_an_error_and_no_file(tmp_path, name):
    path = tmp_path / f"clip{FORMATS[name].ending}"
    with (
        pytest.raises(RerollError, match="no frames"),
        open_output(path, FORMATS[name], 25, 48, 64, RECORD),
    ):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_frames_make_the_same_file(tmp_path, name):
    def made(folder):
        path = write(folder, name, moving_square(12))
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        return [file.read_bytes() for file in files]

    folders = [tmp_path / str(number) for number in range(3)]
    assert made(folders[0]) == made(folders[1]) == made(folders[2])


def test_a_gif_faster_than_players_show_is_refused_before_anything_is_made(tmp_path):
    with (
        pytest.raises(UsageError, match=r"at most 50 frames a second, not 60; give --fps"),
        open_output(tmp_path / "clip.gif", FORMATS["gif"], 60, 48, 64),
    ):
        raise AssertionError("frames were asked for")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("output", "asked", "name"),
    [
        ("out.mp4", None, "mp4"), ("OUT.MP4", None, "mp4"), ("out", None, "mp4"), ("out.v2", None, "mp4"),
        ("a.webm", None, "webm"), ("a.gif", None, "gif"), ("a.apng", None, "apng"), ("a.webp", None, "webp"),
        ("a.mov", None, "prores"), ("out", "gif", "gif"), ("out", "png", "png"), ("a.png", "sprite", "sprite"),
        ("a.png", "sheet", "sheet"), ("a.mov", "prores", "prores"),
    ],
)  # fmt: skip
def test_the_ending_or_the_format_chooses(tmp_path, output, asked, name):
    assert choose(tmp_path / output, asked).name == name


@pytest.mark.parametrize(
    ("output", "asked", "message"),
    [
        ("a.mkv", None, r"a\.mkv: \.mkv is not written here; give a folder, or a name that ends in \.apng"),
        ("a.jpg", None, r"\.jpg is not written here"),
        ("a.png", None, r"a\.png: give --format sprite or sheet; a folder with --format png"),
        ("a.mp4", "gif", r"a\.mp4: --format gif is written to a name that ends in \.gif"),
        ("a.png", "png", r"--format png is written to the name of a folder"),
        ("out", "avi", r"--format avi: give one of mp4, webm, prores"),
    ],
)
def test_what_does_not_go_together_is_one_line(tmp_path, output, asked, message):
    with pytest.raises(UsageError, match=message):
        choose(tmp_path / output, asked)


def test_a_name_without_a_known_ending_is_a_folder(tmp_path):
    assert is_folder(tmp_path / "out")
    assert is_folder(tmp_path / "take.v2")
    assert not is_folder(tmp_path / "a.gif")


def test_memory_does_not_grow_with_the_length(tmp_path):
    with open_output(tmp_path / "long.apng", FORMATS["apng"], Fraction(25), 48, 64) as writer:
        for _ in range(40):
            writer.write(moving_square(10))
        assert not hasattr(writer, "frames")
    assert len(read_animation(tmp_path / "long.apng")[0]) == 400

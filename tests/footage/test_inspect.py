"""Inspection: what it reports of made clips is what was made."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
from footage_maker import (
    moving_square,
    panning,
    shaking,
    with_cuts,
    with_still,
    write_audio_only,
    write_clip,
)

from reroll.errors import FootageError
from reroll.footage import decode, probe
from reroll.footage.inspect import KEPT_FRAMES, _Sample, inspect_footage


def look(path: Path):
    return inspect_footage([path])


def test_a_pan_has_a_direction_and_is_not_mirrored(tmp_path: Path):
    path = write_clip(tmp_path / "pan.mp4", panning(40, 96, 128))
    found = look(path)
    assert not found.mirror
    assert "to the left" in found.mirror_reason
    assert found.direction_degrees == pytest.approx(180, abs=10)
    assert found.direction_dominance > 0.8
    assert found.motion == pytest.approx(2 / 96, rel=0.25)


def test_pans_both_ways_may_be_mirrored(tmp_path: Path):
    for number in range(6):
        frames = panning(30, 96, 128, seed=number)
        write_clip(tmp_path / f"{number}.mp4", frames[::-1] if number % 2 else frames)
    found = look(tmp_path)
    assert found.mirror, found.mirror_reason


def test_a_fixed_scene_is_not_mirrored(tmp_path: Path):
    found = look(write_clip(tmp_path / "fixed.mp4", shaking(60, 96, 128)))
    assert not found.mirror
    assert "fixed" in found.mirror_reason


def test_shots_rates_and_sizes(tmp_path: Path):
    path = write_clip(tmp_path / "cuts.mp4", with_cuts((20, 16, 18)), fps=20)
    found = look(path)
    (file,) = found.files
    assert (file.width, file.height, file.shots, file.complete) == (64, 48, 3, True)
    assert file.fps == pytest.approx(20, abs=0.1)
    np.testing.assert_allclose(file.shot_seconds, [1.0, 0.8, 0.9], atol=0.01)
    assert found.seconds == pytest.approx(2.7, abs=0.01)
    assert found.training_aspect == pytest.approx(4 / 3, abs=0.02)


def test_json(tmp_path: Path):
    found = look(write_clip(tmp_path / "a.mp4", shaking(30)))
    content = json.loads(found.model_dump_json())
    assert content["files"][0]["frames_decoded"] == 30


def test_black_bars_are_measured(tmp_path: Path):
    frames = panning(30, 96, 128)
    frames[:, :12] = 0
    frames[:, -12:] = 0
    (file,) = look(write_clip(tmp_path / "bars.mp4", frames)).files
    assert abs(file.black_bars.top - 12) <= 1
    assert abs(file.black_bars.bottom - 12) <= 1
    assert file.black_bars[2:] == (0, 0)
    assert any("black bars" in reason for reason in file.suspicious)


def test_dark_footage_has_no_bars(tmp_path: Path):
    frames = np.full((20, 96, 128, 3), 4, np.uint8)
    frames[:, 40:60, 50:80] = shaking(20, 20, 30)
    assert look(write_clip(tmp_path / "night.mp4", frames)).files[0].black_bars == (0, 0, 0, 0)


def test_a_logo_is_found_and_writing_is_not_mirrored(tmp_path: Path):
    frames = np.concatenate([panning(20, 144, 192, seed=seed, step=3) for seed in range(5)])
    frames[:, 12:28, 150:180] = 245
    frames[:, 16:24, 156:174] = 20
    found = look(write_clip(tmp_path / "logo.mp4", frames))
    boxes = found.files[0].overlays
    assert any(
        box.left <= 165 <= box.left + box.width and box.top <= 20 <= box.top + box.height for box in boxes
    )
    assert any("static overlay" in reason for reason in found.files[0].suspicious)
    assert not found.mirror
    clean = np.concatenate([panning(20, 144, 192, seed=seed, step=3) for seed in range(5)])
    assert look(write_clip(tmp_path / "clean.mp4", clean)).files[0].overlays == ()


def test_suspicious_files_say_why(tmp_path: Path):
    write_clip(tmp_path / "still.mp4", np.repeat(moving_square(1), 40, axis=0))
    write_clip(tmp_path / "black.mp4", np.zeros((30, 96, 128, 3), np.uint8))
    write_clip(tmp_path / "paused.mp4", with_still(20, 40, 20))
    write_clip(tmp_path / "brief.mp4", shaking(6, 96, 128))
    write_clip(tmp_path / "frame.mp4", shaking(1, 96, 128))
    write_audio_only(tmp_path / "song.mp4")
    found = look(tmp_path)
    reasons = {Path(file.path).name: " ".join(file.suspicious) for file in found.files}
    assert "nothing moves" in reasons["still.mp4"]
    assert "almost black" in reasons["black.mp4"]
    assert "stills and repeats" in reasons["paused.mp4"]
    assert reasons["brief.mp4"] == "only 0.24 s long"
    assert reasons["frame.mp4"] == "a single frame"
    assert [Path(item.path).name for item in found.skipped] == ["song.mp4"]


def test_motion_of_a_clip_of_few_frames_is_measured(tmp_path: Path):
    found = look(write_clip(tmp_path / "few.mp4", panning(4, 96, 128)))
    assert found.motion == pytest.approx(2 / 96, rel=0.25)
    assert found.files[0].suspicious == ("only 0.16 s long",)


def test_many_files_take_a_bounded_look(tmp_path: Path):
    for number in range(12):
        write_clip(tmp_path / f"{number:02}.mp4", shaking(25, seed=number))
    found = inspect_footage([tmp_path], sample_files=4)
    assert (found.file_count, found.files_inspected) == (12, 4)
    assert found.seconds == pytest.approx(12.0, rel=0.05)
    assert any("estimates" in note for note in found.notes)


def test_what_short_files_leave_over_others_get_and_their_cuts_count(tmp_path: Path):
    write_clip(tmp_path / "b.mp4", shaking(10))
    write_clip(tmp_path / "a.mp4", with_cuts((40, 40)))
    found = inspect_footage([tmp_path], sample_pixels=64 * 48 * 100)
    assert [(file.complete, file.shots) for file in found.files] == [(True, 2), (True, 1)]
    found = inspect_footage([tmp_path], sample_pixels=64 * 48 * 60)
    assert [file.complete for file in found.files] == [False, True]
    assert found.files[0].shots <= 2
    assert any("1 of the files" in note for note in found.notes)


def test_a_long_file_is_looked_into_in_parts(tmp_path: Path):
    path = write_clip(tmp_path / "long.mp4", shaking(2000))
    started = time.monotonic()
    found = inspect_footage([path], sample_pixels=64 * 48 * 120)
    assert time.monotonic() - started < 3
    (file,) = found.files
    assert not file.complete
    assert file.frames_decoded <= 130
    assert file.seconds == pytest.approx(80, rel=0.02)


def test_no_footage_is_one_clear_line(tmp_path: Path):
    (tmp_path / "words.txt").write_text("hello")
    with pytest.raises(FootageError, match="no footage in"):
        look(tmp_path)


def test_a_file_that_does_not_say_how_long_it_is_is_measured_in_bounded_memory(tmp_path: Path):
    """A raw H.264 stream, as some cameras write it, has no header at all."""
    path = write_clip(tmp_path / "raw.h264", shaking(400))
    assert probe(path).duration_seconds is None
    [file] = look(path).files
    assert (file.complete, file.frames_decoded) == (True, 400)
    assert file.seconds == pytest.approx(16, rel=0.05)
    assert file.motion > 0
    sample = _Sample(frames_apart=1, pairs=4, expected_frames=1)
    sample.segment(decode(path))
    assert KEPT_FRAMES <= len(sample.kept) <= 2 * KEPT_FRAMES
    [file] = inspect_footage([path], sample_pixels=64 * 48 * 40).files
    assert not file.complete
    assert file.seconds == pytest.approx(160 / 25, rel=0.05), "what was seen of it"


def test_files_that_are_no_footage_do_not_spoil_the_estimate(tmp_path: Path):
    for number in range(8):
        write_clip(tmp_path / f"{number}.mp4", shaking(25, seed=number))
        (tmp_path / f"{number}.srt").write_text("subtitles")
    found = inspect_footage([tmp_path], sample_files=4)
    assert found.seconds == pytest.approx(8.0, rel=0.05)
    assert any("estimates" in note for note in found.notes)

"""Ingest: decoded once, reused, rebuilt when the footage changes; what was dropped or odd is said."""

import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from footage_maker import (
    moving_square,
    shaking,
    with_cuts,
    with_still,
    write_audio_only,
    write_clip,
    write_picture,
)

from reroll.errors import FootageError, SpaceError, UsageError
from reroll.footage import Store, decode, find_footage, ingest, resize, shards
from reroll.footage.shards import FolderWriter
from reroll.footage.store import frame_size


def take(paths, tmp_path: Path, size: int = 24, progress=None) -> Store:
    """Ingest paths into this test's own cache."""
    paths = paths if isinstance(paths, list) else [paths]
    return ingest(find_footage(paths)[0], short_side=size, cache_dir=tmp_path / "cache", progress=progress)


def test_frames_and_times_are_those_decoded(tmp_path: Path):
    path = write_clip(tmp_path / "clip.mp4", moving_square(30, 96, 128))
    store = take(path, tmp_path)
    assert (store.height, store.width, store.frame_count) == (24, 32, 30)
    expected = [resize(frame.image, 24, 32) for frame in decode(path)]
    np.testing.assert_allclose(store.frames(0, 30).astype(int), np.stack(expected).astype(int), atol=1)
    np.testing.assert_allclose(store.timestamps, np.arange(30) / 25, atol=1e-3)
    np.testing.assert_array_equal(store.frames(3, 20, 4), store.frames(0, 30)[3:20:4])
    assert [(shot.start, shot.stop) for shot in store.shots] == [(0, 30)]
    store.frames(0, 1)[:] = 0
    assert store.frames(0, 1).any()


def test_the_next_run_decodes_nothing(tmp_path: Path, monkeypatch):
    path = write_clip(tmp_path / "clip.mp4", moving_square(20))
    first = take(path, tmp_path)

    def refuse(*_):
        raise AssertionError("decoded again")

    monkeypatch.setattr("reroll.footage.intake.Decoder", refuse)
    again = take(path, tmp_path)
    assert again.fingerprint == first.fingerprint
    np.testing.assert_array_equal(again.frames(0, 20), first.frames(0, 20))
    reopened = Store.open(first.path)
    np.testing.assert_array_equal(reopened.timestamps, first.timestamps)
    moved = tmp_path / "other name.mp4"
    shutil.move(path, moved)
    assert take(moved, tmp_path).fingerprint == first.fingerprint


def test_changed_footage_is_taken_anew(tmp_path: Path):
    path = write_clip(tmp_path / "clip.mp4", moving_square(20))
    first = take(path, tmp_path)
    status = os.stat(path)
    write_clip(path, moving_square(25, seed=3))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    second = take(path, tmp_path)
    assert second.fingerprint != first.fingerprint
    assert (first.frame_count, second.frame_count) == (20, 25)


def test_the_size_is_part_of_the_key(tmp_path: Path):
    path = write_clip(tmp_path / "clip.mp4", moving_square(10))
    assert take(path, tmp_path, 16).fingerprint != take(path, tmp_path, 24).fingerprint


def test_a_damaged_cache_is_made_again(tmp_path: Path):
    path = write_clip(tmp_path / "clip.mp4", moving_square(20))
    store = take(path, tmp_path)
    (shard,) = (tmp_path / "cache" / "files").glob("*/frames-0000.u8")
    shard.write_bytes(shard.read_bytes()[:-5])
    with pytest.raises(FootageError, match="missing from the store"):
        Store.open(store.path)
    assert take(path, tmp_path).frame_count == 20


def test_times_are_not_mapped_and_may_be_replaced(tmp_path: Path):
    """Windows refuses to replace a file that is mapped, and the next ingest replaces this one."""
    store = take(write_clip(tmp_path / "clip.mp4", moving_square(10)), tmp_path)
    assert not isinstance(store.timestamps, np.memmap)
    times = store.path / "timestamps.f64"
    times.write_bytes(times.read_bytes()[:-8])
    with pytest.raises(FootageError, match="times are missing"):
        Store.open(store.path)


def test_a_cache_that_cannot_be_made_is_one_clear_line(tmp_path: Path):
    path = write_clip(tmp_path / "clip.mp4", moving_square(10))
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(UsageError, match="REROLL_CACHE"):
        take(path, tmp_path)


def test_too_little_room_for_frames_is_found_before_they_are_decoded(tmp_path: Path, monkeypatch):
    clip = write_clip(tmp_path / "clip.mp4", moving_square(40, 96, 128))
    lies = write_clip(tmp_path / "lies.mkv", moving_square(3), times=[0, 0.04, 864_000.0])
    free = 100_000  # enough for what a file of a few kB can hold, not for what it says that it does
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1 << 30, 0, free))
    with pytest.raises(SpaceError, match=r"need at least \d+ MB in .* are free; make room"):
        ingest(find_footage([clip])[0], short_side=96, cache_dir=tmp_path / "cache")
    assert not list((tmp_path / "cache" / "files").iterdir())
    assert ingest(find_footage([lies])[0], short_side=16, cache_dir=tmp_path / "cache").frame_count == 3


def test_a_missing_store_is_one_clear_line(tmp_path: Path):
    with pytest.raises(FootageError, match="no usable frame store"):
        Store.open(tmp_path / "nowhere")


def test_cuts_part_shots(tmp_path: Path):
    store = take(write_clip(tmp_path / "cuts.mp4", with_cuts((20, 16, 18))), tmp_path)
    assert [(shot.start, shot.stop) for shot in store.shots] == [(0, 20), (20, 36), (36, 54)]


def test_stills_and_repeats_go_and_it_is_said(tmp_path: Path):
    store = take(write_clip(tmp_path / "still.mp4", with_still(20, 30, 20)), tmp_path)
    assert store.frame_count == 40
    assert [(shot.start, shot.stop) for shot in store.shots] == [(0, 20), (20, 40)]
    assert store.timestamps[20] - store.timestamps[19] == pytest.approx(31 / 25, abs=0.01)
    assert any("dropped 30 of 70 frames as frames of still stretches" in note for note in store.notes)
    doubled = np.repeat(moving_square(12, 192, 256, step=5), 2, axis=0)
    store = take(write_clip(tmp_path / "doubled.mp4", doubled), tmp_path)
    assert store.frame_count == 12
    assert len(store.shots) == 1
    assert any("12 of 24 frames as repeated frames" in note for note in store.notes)
    assert store.files[0].fps == pytest.approx(12.5), (
        "of the frames that are kept: what training sees in a second"
    )


def test_one_bad_file_does_not_end_ingest(tmp_path: Path):
    folder = tmp_path / "footage"
    folder.mkdir()
    write_clip(folder / "a.mp4", moving_square(10))
    write_audio_only(folder / "song.mp4")
    (folder / "broken.mp4").write_bytes((folder / "a.mp4").read_bytes()[:200])
    shutil.copy(folder / "a.mp4", folder / "copy.mp4")
    store = take(folder, tmp_path)
    assert store.frame_count == 10
    reasons = {item.path.name: item.reason for item in store.skipped}
    assert set(reasons) == {"song.mp4", "broken.mp4"}
    assert "only sound" in reasons["song.mp4"]
    assert any("copies" in note and "copy.mp4" in note for note in store.notes)


def test_nothing_usable_is_one_clear_line(tmp_path: Path):
    with pytest.raises(FootageError, match="no footage was given"):
        ingest([], short_side=16, cache_dir=tmp_path / "cache")
    for name in ("one.mp4", "two.mp4"):
        write_audio_only(tmp_path / name)
    with pytest.raises(FootageError, match="none of the 2 files can be used"):
        take([tmp_path / "one.mp4", tmp_path / "two.mp4"], tmp_path)
    with pytest.raises(FootageError, match="no such file or folder"):
        find_footage([tmp_path / "gone.mp4"])


def test_labels_are_subfolders_when_there_are_several(tmp_path: Path):
    root = tmp_path / "footage"
    for number, name in enumerate(["wave", "bow", "empty"]):
        (root / name / "deeper").mkdir(parents=True)
        if name != "empty":
            write_clip(root / name / "deeper" / "x.mp4", moving_square(10, seed=number))
    write_clip(root / "loose.mp4", moving_square(10, seed=9))
    store = take(root, tmp_path)
    assert store.labels == ["bow", "wave"]
    assert [file.label for file in store.files] == [0, None, 1]
    assert [shot.label for shot in store.shots] == [0, None, 1]
    assert take(root / "wave", tmp_path).labels == []


def test_a_run_among_the_footage_is_not_footage(tmp_path: Path):
    """Its previews would be, and the run could not go on: its footage had changed."""
    write_clip(tmp_path / "a.mp4", shaking(10))
    run = tmp_path / "run"
    run.mkdir()
    write_clip(run / "preview.mp4", shaking(10))
    assert len(find_footage([tmp_path])[0]) == 2
    (run / "run.json").write_text("{}")
    files, skipped = find_footage([tmp_path])
    assert [file.path.name for file in files] == ["a.mp4"]
    assert "a run of reroll" in skipped[0].reason


def test_most_of_the_footage_decides_the_shape(tmp_path: Path):
    folder = tmp_path / "footage"
    folder.mkdir()
    write_clip(folder / "wide.mp4", moving_square(40, 48, 80))
    write_clip(folder / "tall.mp4", moving_square(10, 80, 48))
    store = take(folder, tmp_path)
    assert (store.height, store.width) == (24, 40)
    assert any("cropped" in note and "tall.mp4 (48x80)" in note for note in store.notes)


def test_frame_size():
    assert frame_size([(1920, 1080, 5.0)], 64) == (64, 114)
    assert frame_size([(1080, 1920, 5.0)], 64) == (114, 64)
    assert frame_size([(1000, 100, 5.0)], 64) == (64, 154)
    assert frame_size([(640, 480, 1.0), (641, 480, 1.0), (1920, 1080, 1.5)], 96) == (96, 128)
    with pytest.raises(UsageError, match="even"):
        frame_size([(640, 480, 1.0)], 63)


def test_pictures_and_video_may_be_mixed(tmp_path: Path):
    folder = tmp_path / "footage"
    folder.mkdir()
    write_clip(folder / "a.mp4", moving_square(10))
    write_picture(folder / "b.png", moving_square(1, seed=5)[0])
    store = take(folder, tmp_path)
    assert [(shot.start, shot.stop) for shot in store.shots] == [(0, 10), (10, 11)]


def test_progress_only_goes_forward(tmp_path: Path):
    for number in range(3):
        write_clip(tmp_path / f"{number}.mp4", moving_square(70, seed=number))
    seen = []
    store = take([tmp_path / f"{n}.mp4" for n in range(3)], tmp_path, progress=seen.append)
    fractions = [item.fraction for item in seen]
    assert fractions == sorted(fractions)
    assert {item.stage for item in seen} == {"reading", "decoding"}
    assert 0 <= fractions[0] <= fractions[-1] <= 1
    assert store.frame_count == 210


def test_a_large_file_takes_several_shards(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("reroll.footage.shards.SHARD_BYTES", 7 * 24 * 32 * 3 + 5)
    path = write_clip(tmp_path / "clip.mp4", moving_square(30))
    store = take(path, tmp_path)
    assert len(list((tmp_path / "cache" / "files").glob("*/frames-*.u8"))) == 5
    whole = np.stack([resize(frame.image, 24, 32) for frame in decode(path)])
    np.testing.assert_array_equal(store.frames(0, 30), whole)
    np.testing.assert_array_equal(store.frames(5, 30, 3), whole[5::3])


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path):
    def fail():
        with FolderWriter(tmp_path / "place", 4) as folder:
            folder.frame(np.zeros((2, 2, 3), np.uint8))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_gaps_in_time_part_shots(tmp_path: Path):
    times = [*(n / 25 for n in range(10)), *(100 + n / 25 for n in range(10))]
    store = take(write_clip(tmp_path / "gap.mkv", moving_square(20), times=times), tmp_path)
    assert [(shot.start, shot.stop) for shot in store.shots] == [(0, 10), (10, 20)]
    assert any("gap of 100 s" in note for note in store.notes)


def test_a_slow_camera_is_not_taken_for_gaps(tmp_path: Path):
    store = take(write_clip(tmp_path / "slow.mkv", moving_square(20), times=np.arange(20) * 0.5), tmp_path)
    assert len(store.shots) == 1


def test_memory_does_not_grow_with_the_footage(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(shards, "MAPPED_BYTES", 8 << 20)
    take(write_clip(tmp_path / "short.mp4", shaking(100)), tmp_path, size=48)
    write_clip(tmp_path / "long.mp4", shaking(6000))
    seen: list[int] = []

    def look(*_):
        seen.append(psutil.Process().memory_info().rss)

    look()
    store = take(tmp_path / "long.mp4", tmp_path, size=48, progress=look)
    assert store.frame_count * store.frame_bytes > 50_000_000
    for start in range(0, store.frame_count - 50, 50):
        store.frames(start, start + 50)
        look()
    assert max(seen) - seen[0] < 30_000_000


def test_random_windows_are_fast(tmp_path: Path):
    store = take(write_clip(tmp_path / "clip.mp4", shaking(300)), tmp_path, size=64)
    starts = np.random.default_rng(0).integers(0, store.frame_count - 16, 300)
    store.frames(0, 16)
    started = time.perf_counter()
    for start in starts:
        store.frames(int(start), int(start) + 16)
    assert (time.perf_counter() - started) / 100 < 0.005


def test_the_index_is_plain_json(tmp_path: Path):
    store = take(write_clip(tmp_path / "clip.mp4", moving_square(10)), tmp_path)
    index = json.loads((store.path / "index.json").read_text())
    assert index["format"] == 1
    assert index["files"][0]["sha256"] == store.files[0].sha256

"""Ingest: footage files in, a `Store` of small uint8 frames out, each file decoded once and never again.

One pass over a file decodes, resizes, finds cuts, drops stills and repeats, and writes shards; memory holds a few
frames whatever the length. A file met before at the same size is taken from the cache (size and time of change are
looked at first, then the hash of its content). One bad file does not end ingest: it is skipped, with the reason.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reroll.errors import FootageError, SpaceError, UsageError
from reroll.footage.container import shown
from reroll.footage.decode import DecodedFrame, Decoder, resize
from reroll.footage.probe import FootageFile, Skipped, probe
from reroll.footage.shards import (
    FORMAT,
    FolderWriter,
    Shot,
    Store,
    StoredFile,
    file_key,
    frames_per_shard,
    write_json,
    write_synced,
)
from reroll.footage.shots import CutFinder, Pending, StillFilter, glance, split_shots, usual_gap

__all__ = ["IngestProgress", "Shot", "Store", "StoredFile", "frame_size", "ingest"]

MAX_ASPECT = 2.4
"""Widest (or tallest) frame shape that is trained; anything beyond is cropped."""

NAMED_FILES = 4
"""A note names so many files at most, then counts."""


@dataclass(frozen=True)
class IngestProgress:
    """How far ingest is: `stage` is "reading" (hashes, headers) or "decoding"; `fraction` of the whole, 0 to 1."""

    stage: str
    file: Path
    files_done: int
    files_total: int
    frames_decoded: int
    fraction: float


@dataclass(frozen=True)
class _Known:
    """What is known of a file before it is decoded at this size."""

    file: FootageFile
    size: int
    mtime_ns: int
    sha256: str
    width: int
    height: int
    seconds: float


def frame_size(shapes: Sequence[tuple[int, int, float]], short_side: int) -> tuple[int, int]:
    """Even height and width with the aspect most of the footage has, by seconds; short side as asked.

    `shapes` are (width, height, seconds) of upright frames.
    """
    if short_side < 8 or short_side % 2:
        raise UsageError(f"--size {short_side}: the short side has to be an even number of pixels, 8 or more")
    groups: dict[int, list[tuple[float, float]]] = {}
    for width, height, seconds in shapes:
        aspect = min(MAX_ASPECT, max(1 / MAX_ASPECT, width / height))
        groups.setdefault(round(np.log(aspect) / 0.04), []).append((seconds, aspect))
    _, group = max(groups.items(), key=lambda item: (sum(seconds for seconds, _ in item[1]), -abs(item[0])))
    aspect = max(group)[1]
    long_side = 2 * round(short_side * max(aspect, 1 / aspect) / 2)
    return (short_side, long_side) if aspect >= 1 else (long_side, short_side)


def ingest(
    files: Sequence[FootageFile],
    *,
    short_side: int,
    cache_dir: Path | str,
    progress: Callable[[IngestProgress], None] | None = None,
) -> Store:
    """Make (or find again) the store of these files at this size; see the module's first lines."""
    cache = Path(cache_dir)
    report = progress or (lambda _: None)
    skipped: list[Skipped] = []
    with _space_errors(cache):
        (cache / "files").mkdir(parents=True, exist_ok=True)
        (cache / "stores").mkdir(exist_ok=True)
        _sweep(cache)
        known, notes = _look_at_all(files, cache, skipped, report)
        if not known:
            raise FootageError(_nothing_usable(files, skipped))
        height, width = frame_size([(k.width, k.height, k.seconds) for k in known], short_side)
        entries = _ingest_all(known, height, width, cache, skipped, report)
        if not entries:
            raise FootageError(_nothing_usable(files, skipped))
        return _assemble(entries, height, width, cache, skipped, notes)


@contextmanager
def _space_errors(cache: Path) -> Iterator[None]:
    """A full disk is one clear line."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        free = shutil.disk_usage(cache).free >> 20
        raise SpaceError(
            f"the frame cache {shown(cache)} does not fit: {free} MB are free; make room or choose another cache folder"
        ) from None


def _sweep(cache: Path) -> None:
    """Remove what a killed ingest left half-written more than a day ago."""
    for left in (*cache.glob("files/*.tmp-*"), *cache.glob("stores/*.tmp-*"), *cache.glob("*.tmp-*")):
        try:
            if time.time() - left.stat().st_mtime > 86_400:
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        except OSError:
            continue


def _nothing_usable(files: Sequence[FootageFile], skipped: Sequence[Skipped]) -> str:
    if not files:
        return "no footage was given; name video files, pictures or folders that hold them"
    first = skipped[0].reason
    if len(files) == 1:
        return f"{first}"
    return f"none of the {len(files)} files can be used; the first: {first}"


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _look_at_all(
    files: Sequence[FootageFile],
    cache: Path,
    skipped: list[Skipped],
    report: Callable[[IngestProgress], None],
) -> tuple[list[_Known], list[str]]:
    """Hash and probe every file (or remember it); copies of the same content are used once."""
    seen_path = cache / "seen.json"
    try:
        seen: dict[str, list[Any]] = json.loads(seen_path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        seen = {}
    known: dict[str, _Known] = {}
    copies: list[str] = []
    changed = False
    for number, file in enumerate(files):
        report(IngestProgress("reading", file.path, number, len(files), 0, 0.1 * number / len(files)))
        where = os.path.abspath(file.path)
        try:
            status = os.stat(where)
            if seen.get(where, [])[:2] != [status.st_size, status.st_mtime_ns]:
                found = probe(file.path)
                seconds = found.duration_seconds or 1.0
                seen[where] = [
                    status.st_size, status.st_mtime_ns, _sha256(file.path), found.width, found.height, seconds,
                ]  # fmt: skip
                changed = True
            item = _Known(file, *seen[where])
        except FootageError as error:
            skipped.append(Skipped(file.path, str(error)))
            continue
        except OSError as error:
            reason = f"cannot read {shown(file.path)}: {(error.strerror or str(error)).lower()}"
            skipped.append(Skipped(file.path, reason))
            continue
        if item.sha256 in known:
            copies.append(f"{shown(file.path)} (the same as {shown(known[item.sha256].file.path)})")
        else:
            known[item.sha256] = item
    if changed:
        write_json(seen_path, seen)
    notes = [f"used once, being copies: {_some(copies)}"] if copies else []
    return list(known.values()), notes


def _some(names: Sequence[str]) -> str:
    """A list for people: a few names, then a count."""
    rest = len(names) - NAMED_FILES
    return ", ".join(names[:NAMED_FILES]) + (f" and {rest} more" if rest > 0 else "")


def _ingest_all(
    known: Sequence[_Known],
    height: int,
    width: int,
    cache: Path,
    skipped: list[Skipped],
    report: Callable[[IngestProgress], None],
) -> list[tuple[_Known, dict[str, Any]]]:
    """The index of every file's frames, decoding those not in the cache."""
    total_bytes = max(1, sum(item.size for item in known))
    done_bytes, frames_decoded = 0, 0
    entries = []
    for number, item in enumerate(known):

        def tell(frames: int, part: float, item: _Known = item, number: int = number) -> None:
            fraction = 0.1 + 0.9 * (done_bytes + part * item.size) / total_bytes
            report(
                IngestProgress(
                    "decoding", item.file.path, number, len(known), frames_decoded + frames, fraction
                )
            )

        tell(0, 0.0)
        try:
            index = _cached(item, height, width, cache) or _ingest_file(item, height, width, cache, tell)
            entries.append((item, index))
            frames_decoded += index["decoded_frames"]
        except FootageError as error:
            skipped.append(Skipped(item.file.path, str(error)))
        done_bytes += item.size
    return entries


def _cached(item: _Known, height: int, width: int, cache: Path) -> dict[str, Any] | None:
    """The index of a file ingested before at this size, if it is whole."""
    folder = cache / "files" / file_key(item.sha256, height, width)
    try:
        index: dict[str, Any] = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        have = sum(shard.stat().st_size for shard in folder.glob("frames-*.u8"))
        timed = (folder / "timestamps.f64").stat().st_size
    except (OSError, ValueError):
        return None
    whole = have == index["frames"] * height * width * 3 and timed == index["frames"] * 8
    return index if whole and index["format"] == FORMAT else None


def _ingest_file(
    item: _Known, height: int, width: int, cache: Path, tell: Callable[[int, float], None]
) -> dict[str, Any]:
    """Decode one file into its folder of shards; returns its index."""
    place = cache / "files" / file_key(item.sha256, height, width)
    if place.exists():
        shutil.rmtree(place)
    with FolderWriter(place, frames_per_shard(height, width)) as folder, Decoder(item.file.path) as decoder:
        taken = _Taken(folder, height, width)
        for frame in decoder:
            taken.push(frame)
            if taken.decoded % 64 == 0:
                part = frame.timestamp / item.seconds if item.seconds > 0 else 0.0
                tell(taken.decoded, min(1.0, part))
        taken.finish()
        status = os.stat(item.file.path)
        if (status.st_size, status.st_mtime_ns) != (item.size, item.mtime_ns):
            raise FootageError(f"cannot use {shown(item.file.path)}: it changed while it was read; run again")
        index = {
            "format": FORMAT,
            "sha256": item.sha256,
            "height": height,
            "width": width,
            "source_height": item.height,
            "source_width": item.width,
            "declared_seconds": decoder.declared_seconds,
            "damaged_packets": decoder.damage.packets,
            **taken.summary(decoder.fps),
        }
        write_synced(folder.folder / "timestamps.f64", taken.times.tobytes())
        write_synced(folder.folder / "index.json", json.dumps(index).encode())
    return index


class _Taken:
    """What one file yields while it is decoded: frames to the shards, times and cuts kept for its index."""

    def __init__(self, folder: FolderWriter, height: int, width: int) -> None:
        self._folder, self._height, self._width = folder, height, width
        self._cut_finder, self._still_filter = CutFinder(), StillFilter()
        self._cuts: list[int] = []
        self._indices = array("q")
        self.times = array("d")
        self._all_times = array("d")
        self.decoded = 0

    def push(self, frame: DecodedFrame) -> None:
        """Take the next decoded frame."""
        small = glance(frame.image)
        self._cuts += self._cut_finder.push(small)
        pending = Pending(self.decoded, frame.timestamp, resize(frame.image, self._height, self._width))
        self._keep(self._still_filter.push(pending, small))
        self._all_times.append(frame.timestamp)
        self.decoded += 1

    def finish(self) -> None:
        """The end of the file."""
        self._cuts += self._cut_finder.finish()
        self._keep(self._still_filter.finish())

    def _keep(self, frames: Sequence[Pending]) -> None:
        for frame in frames:
            self._folder.frame(frame.image)
            self._indices.append(frame.index)
            self.times.append(frame.timestamp)

    def summary(self, declared_fps: float | None) -> dict[str, Any]:
        """The part of the file's index that decoding tells."""
        times = np.frombuffer(self._all_times, np.float64)
        usual = usual_gap(times) or 1 / (declared_fps or 25.0)
        shots = split_shots(np.asarray(self._indices), np.asarray(self.times), self._cuts)
        return {
            "frames": len(self._indices),
            "decoded_frames": self.decoded,
            "seconds": float(times[-1]) + usual,
            "fps": 1 / usual,
            "largest_gap_seconds": float(np.diff(times).max(initial=0.0)),
            "cuts": sorted(self._cuts),
            "repeats": self._still_filter.repeats,
            "stills": self._still_filter.stills,
            "shots": shots,
        }


def _assemble(
    entries: Sequence[tuple[_Known, dict[str, Any]]],
    height: int,
    width: int,
    cache: Path,
    skipped: Sequence[Skipped],
    notes: list[str],
) -> Store:
    """Write the store's own index over its files' folders, and open it."""
    labels = sorted({item.file.label for item, _ in entries if item.file.label is not None})
    identity = [[item.sha256, item.file.label] for item, _ in entries]
    described = json.dumps([FORMAT, height, width, identity])
    files, start = [], 0
    for item, index in entries:
        label = labels.index(item.file.label) if item.file.label is not None else None
        stored = StoredFile(
            path=os.fspath(item.file.path),
            sha256=item.sha256,
            label=label,
            start=start,
            stop=start + index["frames"],
            fps=index["fps"],
            seconds=index["seconds"],
            decoded_frames=index["decoded_frames"],
            key=file_key(item.sha256, height, width),
        )
        files.append({**asdict(stored), "shots": index["shots"]})
        start = stored.stop
    content = {
        "format": FORMAT,
        "height": height,
        "width": width,
        "fingerprint": hashlib.sha256(described.encode()).hexdigest(),
        "labels": labels,
        "notes": [*notes, *_notes(entries, height, width)],
        "skipped": [{"path": os.fspath(item.path), "reason": item.reason} for item in skipped],
        "files": files,
    }
    return _write_store(content, cache)


def _write_store(content: dict[str, Any], cache: Path) -> Store:
    """Put the store's index and all timestamps in place; an older one of the same content is replaced whole."""
    folder = cache / "stores" / content["fingerprint"][:32]
    folder.mkdir(parents=True, exist_ok=True)
    times = folder / "timestamps.f64"
    fresh = times.with_name(f"{times.name}.tmp-{os.getpid()}")
    with open(fresh, "wb") as out:
        for file in content["files"]:
            out.write((cache / "files" / file["key"] / "timestamps.f64").read_bytes())
        out.flush()
        os.fsync(out.fileno())
    os.replace(fresh, times)
    write_json(folder / "index.json", content)
    return Store.open(folder)


def _notes(entries: Sequence[tuple[_Known, dict[str, Any]]], height: int, width: int) -> list[str]:
    """What was done to the footage, in sentences for the user."""
    notes = []
    aspect = width / height
    cropped = [
        f"{shown(item.file.path)} ({item.width}x{item.height})"
        for item, _ in entries
        if abs(np.log(item.width / item.height / aspect)) > 0.03
    ]
    if cropped:
        notes.append(f"cropped in the middle to {width}x{height}, being of another shape: {_some(cropped)}")
    small = [
        shown(item.file.path) for item, _ in entries if min(item.width, item.height) < min(height, width)
    ]
    if small:
        notes.append(f"smaller than {width}x{height}, so enlarged: {_some(small)}")
    notes += _dropped(entries)
    for item, index in entries:
        notes += _reading_notes(shown(item.file.path), index)
    return notes


def _dropped(entries: Sequence[tuple[_Known, dict[str, Any]]]) -> list[str]:
    """One sentence each for still stretches and repeats."""
    decoded = sum(index["decoded_frames"] for _, index in entries)
    notes = []
    for key, what in (("stills", "frames of still stretches"), ("repeats", "repeated frames")):
        count = sum(index[key] for _, index in entries)
        if count:
            worst = sorted((pair for pair in entries if pair[1][key]), key=lambda pair: -pair[1][key])
            names = [f"{shown(item.file.path)} {index[key]}" for item, index in worst]
            notes.append(f"dropped {count} of {decoded} frames as {what}: {_some(names)}")
    return notes


def _reading_notes(name: str, index: dict[str, Any]) -> list[str]:
    """What was odd in reading one file."""
    notes = []
    declared, seconds = index["declared_seconds"], index["seconds"]
    if declared and seconds < 0.98 * declared and declared - seconds > 1.5 / index["fps"]:
        notes.append(
            f"{name} ends early: {seconds:.2f} s could be decoded of the {declared:.2f} s it declares"
        )
    if index["damaged_packets"]:
        notes.append(
            f"{name} is damaged: {index['damaged_packets']} pieces could not be decoded and were left out"
        )
    if index["largest_gap_seconds"] > 60:
        gap = index["largest_gap_seconds"]
        notes.append(f"{name} has a gap of {gap:.0f} s in its timestamps: a new shot begins there")
    return notes

"""Ingest: footage files in, a `Store` of small uint8 frames out, each file decoded once and never again.

One pass over a file decodes, resizes, finds cuts, drops stills and repeats, and writes shards; memory holds a
few frames whatever the length. A file met before at the same size is taken from the cache (size and time of
change are looked at first, then the hash of its content). One bad file does not end ingest: it is skipped,
with the reason.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from reroll.errors import NO_SPACE, FootageError, SpaceError, UsageError
from reroll.footage.container import shown
from reroll.footage.guard import probe
from reroll.footage.intake import KnownFile, cached_index, take_file
from reroll.footage.notes import ingest_notes, some
from reroll.footage.probe import FootageFile, Skipped
from reroll.footage.shards import (
    FORMAT,
    RULES,
    Shot,
    Store,
    StoredFile,
    file_key,
    write_json,
)

__all__ = ["IngestProgress", "Shot", "Store", "StoredFile", "frame_size", "ingest"]

MOST_ASPECT = 2.4
"""Widest (or tallest) frame shape that is trained; anything beyond is cropped."""
PICTURE_SECONDS = 0.04
"""What a picture counts for, beside clips, in the choice of the frame's shape."""

LEAST_FPS, MOST_FRAME_BYTES = 5.0, 2000
"""Few frames a second, and many of a file's bytes for each: for the room that frames will take at the least."""


@dataclass(frozen=True)
class IngestProgress:
    """How far ingest is: `stage` is "reading" (hashes, headers) or "decoding"; `fraction` of the whole, 0 to
    1.
    """

    stage: str
    file: Path
    files_done: int
    files_total: int
    frames_decoded: int
    fraction: float


def frame_size(shapes: Sequence[tuple[int, int, float]], short_side: int) -> tuple[int, int]:
    """Even height and width with the aspect most of the footage has, by seconds; short side as asked.

    `shapes` are (width, height, seconds) of upright frames.
    """
    if short_side < 8 or short_side % 2:
        raise UsageError(f"--size {short_side}: the short side has to be an even number of pixels, 8 or more")
    groups: dict[int, list[tuple[float, float]]] = {}
    for width, height, seconds in shapes:
        aspect = min(MOST_ASPECT, max(1 / MOST_ASPECT, width / height))
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
        _make_cache(cache)
        _sweep(cache)
        known, notes = _look_at_all(files, cache, skipped, report)
        if not known:
            raise FootageError(_nothing_usable(files, skipped))
        height, width = frame_size([(k.width, k.height, k.seconds) for k in known], short_side)
        _require_space(known, height, width, cache)
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
        if error.errno not in NO_SPACE:
            raise
        free = shutil.disk_usage(cache).free >> 20
        raise SpaceError(
            f"the disk is full ({free} MB free): frames do not fit into {shown(cache)}; make room there"
        ) from None


def _require_space(known: Sequence[KnownFile], height: int, width: int, cache: Path) -> None:
    """SpaceError if frames of the files that are not kept yet would not fit, even if they were few. What a file says of
    its length counts as far as it has bytes for it."""
    new = [item for item in known if cached_index(item, height, width, cache) is None]
    frames = sum(min(item.seconds * LEAST_FPS, item.size / MOST_FRAME_BYTES) for item in new)
    needed, free = int(frames * height * width * 3), shutil.disk_usage(cache).free
    if needed > free:
        raise SpaceError(
            f"frames of {sum(item.seconds for item in new) / 60:.0f} minutes of footage need at least"
            f" {needed >> 20} MB in {shown(cache)} and {free >> 20} MB are free; make room there, or set REROLL_CACHE"
            " to another folder"
        )


def _make_cache(cache: Path) -> None:
    try:
        (cache / "files").mkdir(parents=True, exist_ok=True)
        (cache / "stores").mkdir(exist_ok=True)
    except OSError as error:
        if error.errno in NO_SPACE:
            raise
        raise UsageError(
            f"frames cannot be kept in {shown(cache)} ({(error.strerror or str(error)).lower()}); set REROLL_CACHE to"
            " a folder that can be written to"
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
) -> tuple[list[KnownFile], list[str]]:
    """Hash and probe every file (or remember it); copies of the same content are used once."""
    seen_path = cache / "seen.json"
    try:
        seen: dict[str, list[Any]] = json.loads(seen_path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        seen = {}
    known: dict[str, KnownFile] = {}
    copies: list[str] = []
    changed = False
    for number, file in enumerate(files):
        report(IngestProgress("reading", file.path, number, len(files), 0, 0.1 * number / len(files)))
        where = os.path.abspath(file.path)
        try:
            status = os.stat(where)
            if seen.get(where, [])[:2] != [status.st_size, status.st_mtime_ns]:
                found = probe(file.path)
                seconds = PICTURE_SECONDS if found.is_picture else found.duration_seconds or 1.0
                shape = [found.width, found.height, seconds]
                seen[where] = [status.st_size, status.st_mtime_ns, _sha256(file.path), *shape]
                changed = True
            item = KnownFile(file, *seen[where])
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
    notes = [f"used once, being copies: {some(copies)}"] if copies else []
    return list(known.values()), notes


def _ingest_all(
    known: Sequence[KnownFile],
    height: int,
    width: int,
    cache: Path,
    skipped: list[Skipped],
    report: Callable[[IngestProgress], None],
) -> list[tuple[KnownFile, dict[str, Any]]]:
    """The index of every file's frames, decoding those not in the cache."""
    total_bytes = max(1, sum(item.size for item in known))
    done_bytes, frames_decoded = 0, 0
    entries = []
    for number, item in enumerate(known):
        fraction = 0.1 + 0.9 * done_bytes / total_bytes
        base = IngestProgress("decoding", item.file.path, number, len(known), frames_decoded, fraction)
        report(base)
        tell = partial(_tell_within_file, report, base, 0.9 * item.size / total_bytes)
        try:
            index = cached_index(item, height, width, cache) or take_file(item, height, width, cache, tell)
            entries.append((item, index))
            frames_decoded += index["decoded_frames"]
        except FootageError as error:
            skipped.append(Skipped(item.file.path, str(error)))
        done_bytes += item.size
    return entries


def _tell_within_file(
    report: Callable[[IngestProgress], None], base: IngestProgress, share: float, frames: int, part: float
) -> None:
    """Report progress `part` of the way through a file that is `share` of the work."""
    report(replace(base, frames_decoded=base.frames_decoded + frames, fraction=base.fraction + share * part))


def _assemble(
    entries: Sequence[tuple[KnownFile, dict[str, Any]]],
    height: int,
    width: int,
    cache: Path,
    skipped: Sequence[Skipped],
    notes: list[str],
) -> Store:
    """Write the store's own index over its files' folders, and open it."""
    labels = sorted({item.file.label for item, _ in entries if item.file.label is not None})
    identity = [[item.sha256, item.file.label] for item, _ in entries]
    described = json.dumps([FORMAT, RULES, height, width, identity])
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
        "notes": [*notes, *ingest_notes(entries, height, width)],
        "skipped": [{"path": os.fspath(item.path), "reason": item.reason} for item in skipped],
        "files": files,
    }
    return _write_store(content, cache)


def _write_store(content: dict[str, Any], cache: Path) -> Store:
    """Put the store's index and all timestamps in place; an older one of the same content is replaced
    whole.
    """
    folder = cache / "stores" / content["fingerprint"][:32]
    folder.mkdir(parents=True, exist_ok=True)
    times = folder / "timestamps.f64"
    fresh = times.with_name(f"{times.name}.tmp-{os.getpid()}")
    with open(fresh, "wb") as out:
        for file in content["files"]:
            with open(cache / "files" / file["key"] / "timestamps.f64", "rb") as one:
                shutil.copyfileobj(one, out)
        out.flush()
        os.fsync(out.fileno())
    os.replace(fresh, times)
    write_json(folder / "index.json", content)
    return Store.open(folder)

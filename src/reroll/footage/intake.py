"""Taking one file in: decoded once, from its first frame to its last, into a folder of shards.

In: a `KnownFile` and a frame size. Out: the file's index (JSON content) and, on disk, its frames and times.
Each frame is resized, looked at for cuts, stills and repeats, and written; a few frames are in memory at a
time.
"""

from __future__ import annotations

import json
import os
import shutil
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reroll.errors import FootageError
from reroll.footage.container import shown
from reroll.footage.decode import DecodedFrame, resize
from reroll.footage.guard import Decoder
from reroll.footage.probe import FootageFile
from reroll.footage.shards import FORMAT, FolderWriter, file_key, frames_per_shard, write_synced
from reroll.footage.shots import (
    CutFinder,
    DissolveFinder,
    Pending,
    StillFilter,
    glance,
    halving_end,
    largest_gap,
    split_shots,
    usual_gap,
)

MOST_REPEATED = 5.5
"""How often each frame may be shown in a row, and the file be one of a lower rate; beyond it has stills."""


@dataclass(frozen=True)
class KnownFile:
    """What is known of a file before it is decoded: its state on disk, its content's hash, its upright
    size.
    """

    file: FootageFile
    size: int
    mtime_ns: int
    sha256: str
    width: int
    height: int
    seconds: float


def cached_index(item: KnownFile, height: int, width: int, cache: Path) -> dict[str, Any] | None:
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


def take_file(
    item: KnownFile, height: int, width: int, cache: Path, tell: Callable[[int, float], None]
) -> dict[str, Any]:
    """Decode one file into its folder of shards; returns its index."""
    place = cache / "files" / file_key(item.sha256, height, width)
    if place.exists():
        shutil.rmtree(place)
    with (
        FolderWriter(place, frames_per_shard(height, width)) as folder,
        Decoder(item.file.path, halving_end(height, width)) as decoder,
    ):
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
        write_synced(folder.folder / "timestamps.f64", memoryview(taken.times))
        write_synced(folder.folder / "index.json", json.dumps(index).encode())
    return index


class _Taken:
    """What one file yields while it is decoded: frames to the shards, times and cuts kept for its index."""

    def __init__(self, folder: FolderWriter, height: int, width: int) -> None:
        self._folder, self._height, self._width = folder, height, width
        self._cut_finder, self._dissolves, self._still_filter = CutFinder(), DissolveFinder(), StillFilter()
        self._cuts: list[int] = []
        self._indices = array("i")
        self.times = array("d")
        self._all_times = array("d")
        self.decoded = 0

    def push(self, frame: DecodedFrame) -> None:
        """Take the next decoded frame."""
        small = glance(frame.image)
        self._cuts += self._cut_finder.push(small)
        self._dissolves.push(small)
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
        kept = np.asarray(self.times)
        usual = usual_gap(times) or 1 / (declared_fps or 25.0)
        repeated = usual_gap(kept)  # a clip of 30 frames a second in a file of 60 has 30
        if usual < repeated <= MOST_REPEATED * usual:
            usual = repeated
        shots = split_shots(np.asarray(self._indices), kept, self._cuts, self._dissolves.spans)
        return {
            "frames": len(self._indices),
            "decoded_frames": self.decoded,
            "seconds": float(times[-1]) + usual,
            "fps": 1 / usual,
            "largest_gap_seconds": largest_gap(times),
            "cuts": sorted(self._cuts),
            "dissolves": self._dissolves.spans,
            "repeats": self._still_filter.repeats,
            "stills": self._still_filter.stills,
            "shots": shots,
        }

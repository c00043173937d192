"""The store on disk: memory-mapped shards of frames, one folder a file, and how they are read and written.

A `Store` is uint8 T H W 3 frames by one running index, with true timestamps (float64 seconds within each
file), cut into shots that no window crosses. Under the cache folder:

    files/<key>/     frames-0000.u8 ...  raw frames, at most `SHARD_BYTES` each
                     timestamps.f64      seconds, one per frame
                     index.json          the file's hash and size, shots, counts, what was dropped
    stores/<name>/   index.json          which files/<key> in which order, with labels; notes; skipped files
    seen.json        size, time of change and hash of files met before

A key is the hash of a file's content, the frame size and the versions below, so a file that changed is
another key, and a file moved or renamed is the same one. Folders are written beside their place and renamed
into it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
import uuid
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from reroll.errors import FootageError
from reroll.footage.probe import Skipped

FORMAT = 1
"""Version of the layout above; a store of another version is made anew."""

RULES = 3
"""Version of what ingest does to frames and shots (`decode`, `shots`); footage is taken in anew when it
rises.
"""

SHARD_BYTES = 256 << 20
"""Largest shard."""

OPEN_SHARDS = 64
"""Shards kept mapped at a time."""

MAPPED_BYTES = 96 << 20
"""After reading so much the maps are let go, so that the process does not seem to grow with the footage."""


@dataclass(frozen=True)
class Shot:
    """Consecutive frames without a cut: global indices `start` to `stop` in the store, the file they are
    from.
    """

    file: int
    start: int
    stop: int
    label: int | None


@dataclass(frozen=True)
class StoredFile:
    """One file in the store: where it was, what it holds, and its frames' place (`start`, `stop`) in the
    store.
    """

    path: str
    sha256: str
    label: int | None
    start: int
    stop: int
    fps: float
    seconds: float
    decoded_frames: int
    key: str


class Store:
    """Frames of all footage, by one running index. Cheap to open; frames are read from disk as they are asked
    for.
    """

    def __init__(self, path: Path, index: dict[str, Any]) -> None:
        self.path = path
        self.height: int = index["height"]
        self.width: int = index["width"]
        self.fingerprint: str = index["fingerprint"]
        self.labels: list[str] = index["labels"]
        self.notes: list[str] = index["notes"]
        self.skipped = [Skipped(Path(item["path"]), item["reason"]) for item in index["skipped"]]
        self.files: list[StoredFile] = []
        self.shots: list[Shot] = []
        for number, item in enumerate(index["files"]):
            shots = item.pop("shots")
            file = StoredFile(**item)
            self.files.append(file)
            self.shots += [Shot(number, file.start + a, file.start + b, file.label) for a, b in shots]
        self.frame_count: int = self.files[-1].stop
        # Read, not mapped: Windows refuses to replace a file that is mapped.
        self.timestamps: np.ndarray = np.fromfile(path / "timestamps.f64", np.float64)
        self._starts = np.asarray([file.start for file in self.files], dtype=np.int64)
        self._maps: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()
        self._mapped_bytes = 0
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: Path | str) -> Store:
        """Reopen a store from its folder; FootageError if it is missing, damaged or of another version."""
        where = Path(path)
        try:
            index = json.loads((where / "index.json").read_text(encoding="utf-8"))
            if index.get("format") != FORMAT:
                raise FootageError(
                    f"the frame store in {where} is of another version; train again from the footage"
                )
            store = cls(where, index)
        except (OSError, ValueError) as error:
            raise FootageError(
                f"no usable frame store in {where} ({error}); train again from the footage"
            ) from None
        store.check()
        return store

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame."""
        return self.height * self.width * 3

    @property
    def shard_frames(self) -> int:
        """Frames in a full shard."""
        return frames_per_shard(self.height, self.width)

    def check(self) -> None:
        """FootageError unless every shard and every time is there, with the length the index says."""
        if len(self.timestamps) != self.frame_count:
            raise FootageError(f"times are missing from the frame store in {self.path}; train again")
        for file in self.files:
            folder = self._folder(file)
            count = file.stop - file.start
            sizes = [entry.stat().st_size for entry in sorted(folder.glob("frames-*.u8"))]
            if sum(sizes) != count * self.frame_bytes:
                raise FootageError(
                    f"frames of {file.path} are missing from the store; train again from the footage"
                )

    def frames(self, start: int, stop: int, step: int = 1) -> np.ndarray:
        """A copy of frames `start`, `start + step`, ... below `stop`, of one file or several: uint8 n H W
        3.
        """
        if not 0 <= start <= stop <= self.frame_count or step < 1:
            raise IndexError(f"frames {start}:{stop}:{step} of {self.frame_count}")
        out = np.empty((len(range(start, stop, step)), self.height, self.width, 3), np.uint8)
        done = 0
        while done < len(out):
            position = start + done * step
            file = int(np.searchsorted(self._starts, position, side="right")) - 1
            shard, offset = divmod(position - self.files[file].start, self.shard_frames)
            part = self._shard(file, shard)[offset : offset + stop - position : step]
            out[done : done + len(part)] = part
            done += len(part)
        self._let_go(out.nbytes)
        return out

    def _folder(self, file: StoredFile) -> Path:
        return self.path.parent.parent / "files" / file.key

    def _shard(self, file: int, shard: int) -> np.ndarray:
        """A memory map of one shard: uint8 n H W 3."""
        with self._lock:
            mapped = self._maps.get((file, shard))
            if mapped is not None:
                self._maps.move_to_end((file, shard))
                return mapped
        entry = self.files[file]
        count = min(self.shard_frames, entry.stop - entry.start - shard * self.shard_frames)
        shape = (count, self.height, self.width, 3)
        mapped = np.memmap(self._folder(entry) / shard_name(shard), np.uint8, "r", shape=shape)
        with self._lock:
            self._maps[file, shard] = mapped
            if len(self._maps) > OPEN_SHARDS:
                self._maps.popitem(last=False)
        return mapped

    def _let_go(self, read_bytes: int) -> None:
        with self._lock:
            self._mapped_bytes += read_bytes
            if self._mapped_bytes > MAPPED_BYTES:
                self._maps.clear()
                self._mapped_bytes = 0


def frames_per_shard(height: int, width: int) -> int:
    """How many frames fit into `SHARD_BYTES`, at least one."""
    return max(1, SHARD_BYTES // (height * width * 3))


def shard_name(number: int) -> str:
    """File name of a shard."""
    return f"frames-{number:04d}.u8"


def file_key(sha256: str, height: int, width: int) -> str:
    """Cache key of one file's frames at one size."""
    return hashlib.sha256(f"{FORMAT}.{RULES}:{sha256}:{height}x{width}".encode()).hexdigest()[:32]


def write_synced(path: Path, content: bytes | memoryview) -> None:
    """Write a file and force it to disk."""
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write JSON atomically: a temporary sibling, forced to disk, renamed."""
    temporary = path.with_name(f"{path.name}.tmp-{uuid.uuid4().hex[:8]}")
    try:
        write_synced(temporary, json.dumps(content, indent=1).encode("utf-8"))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


class FolderWriter:
    """A folder that appears whole or not at all: filled beside its place, forced to disk, renamed at the end.

    `frame` appends an image to the current shard. If the place was filled by someone else in the meantime,
    theirs stays: the name is a hash of the content.
    """

    def __init__(self, place: Path, frames_a_shard: int) -> None:
        self.place = place
        self.folder = place.with_name(f"{place.name}.tmp-{uuid.uuid4().hex[:8]}")
        self.count = 0
        self._frames_a_shard = frames_a_shard
        self._shard: BinaryIO | None = None

    def __enter__(self) -> FolderWriter:
        self.folder.mkdir(parents=True)
        return self

    def frame(self, image: np.ndarray) -> None:
        """Append one frame (uint8 H W 3)."""
        if self.count % self._frames_a_shard == 0:
            self._finish_shard()
            self._shard = open(self.folder / shard_name(self.count // self._frames_a_shard), "wb")  # noqa: SIM115
        assert self._shard is not None
        self._shard.write(np.ascontiguousarray(image).data)
        self.count += 1

    def _finish_shard(self) -> None:
        if self._shard is not None:
            self._shard.flush()
            os.fsync(self._shard.fileno())
            self._shard.close()
            self._shard = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish_shard()
                if not (self.place / "index.json").exists():
                    shutil.rmtree(self.place, ignore_errors=True)
                    os.rename(self.folder, self.place)
            elif self._shard is not None:
                self._shard.close()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

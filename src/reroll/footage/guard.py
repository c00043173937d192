"""Decoding at arm's length: files are opened by a child process, and a file that breaks a decoder breaks that one.

What the rest of reroll decodes with is here: `Decoder`, `decode`, `read_clip`, `read_picture`, `read_sound`, `probe`.
The child (`child.py`) has limits of memory and time and writes no file; one that crashes, hangs or grows is a
`FootageError` of one line, and the next file gets a new child. Of what comes through its pipe, shapes and numbers are
checked, and nothing is executed or unpickled. A child is kept for the next file, since starting one takes half a
second.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from io import BufferedReader
from pathlib import Path
from typing import Any, cast

import numpy as np

from reroll.errors import FootageError
from reroll.footage.container import MAX_PIXELS, shown
from reroll.footage.decode import MAX_ASPECT_STRETCH, Damage, DecodedFrame, resize
from reroll.footage.probe import Probe
from reroll.footage.sound import CHANNELS

MOST_SECONDS = 20.0
"""To wait for one answer: the child's own limit of CPU time comes first, unless it does not even compute."""
AHEAD = 3
"""Pieces that are asked for ahead, so that the child decodes while what it sent is used."""
KEPT = 2
"""Children that wait for the next file."""
MOST_SAMPLES = 1 << 22
LONGEST_ANSWER = 1 << 20
COMMAND = [sys.executable, "-P", "-m", "reroll.footage.child"]
Answer = tuple[dict[str, Any], np.ndarray | None]
_idle: list[Child] = []


class Child:
    """A decoding process, with one file open at a time; `Decoder` and the like borrow one."""

    def __init__(self) -> None:
        packages = os.pathsep.join(path for path in sys.path if path)
        self._process = subprocess.Popen(
            COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": packages},
        )  # fmt: skip
        self._waits_since: float | None = None
        self._late = False
        threading.Thread(target=self._watch, daemon=True).start()

    @classmethod
    def borrow(cls) -> Child:
        """One that is idle, or a new one."""
        while _idle:
            child = _idle.pop()
            if child._process.poll() is None:
                return child
        return cls()

    def give_back(self) -> None:
        """For the next file, if it has none open."""
        if len(_idle) < KEPT and self._process.poll() is None:
            _idle.append(self)
        else:
            self.end()

    def end(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                assert pipe is not None
                pipe.close()

    def ask(self, *request: object) -> None:
        """Send a request; that the child is dead is seen when its answer is read."""
        assert self._process.stdin is not None
        with suppress(OSError, ValueError):  # ValueError: it was ended, and its pipes closed
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()

    def answer(self, path: Path) -> Answer:
        """The next answer. FootageError if it is one, or if the child died of `path`."""
        self._waits_since = time.monotonic()
        try:
            header, content = self._read()
        except (EOFError, ValueError, KeyError, TypeError, OSError):
            self.end()
            raise FootageError(
                f"cannot use {shown(path)}: {self._end()}; leave it out or export it again"
            ) from None
        except BaseException:  # Ctrl-C between two halves of an answer
            self.end()
            raise
        finally:
            self._waits_since = None
        if fault := header.get("fault"):
            raise RuntimeError(f"the decoding child failed:\n{fault}")
        if error := header.get("error"):
            raise FootageError(str(error))
        return header, content

    def _read(self) -> Answer:
        pipe = cast(BufferedReader, self._process.stdout)
        line = pipe.readline(LONGEST_ANSWER)
        if not line.endswith(b"\n"):
            raise EOFError
        header = json.loads(line)
        if not isinstance(header, dict):
            raise ValueError
        if "shape" not in header:
            return header, None
        shape, dtype = tuple(header["shape"]), np.dtype(header["dtype"])
        if not _is_sensible(shape, dtype):
            raise ValueError
        content = np.empty(shape, dtype)
        view = content.data.cast("B")
        if pipe.readinto(view) != len(view):
            raise EOFError
        return header, content

    def _end(self) -> str:
        """What became of the process, in words."""
        code = self._process.returncode
        if self._late or code == -getattr(signal, "SIGXCPU", 0):
            return "decoding it takes too long for one frame"
        return (
            f"the decoder crashed on it ({signal.Signals(-code).name if code < 0 else f'exit code {code}'})"
        )

    def _watch(self) -> None:
        while self._process.poll() is None:
            since = self._waits_since
            if since is not None and time.monotonic() - since > MOST_SECONDS:
                self._late = True
                self._process.kill()
            time.sleep(0.5)


def _is_sensible(shape: tuple[Any, ...], dtype: np.dtype[Any]) -> bool:
    """Whether it is a frame `H W 3` or samples `C N`, of a size that can be."""
    if not all(isinstance(side, int) and side > 0 for side in shape):
        return False
    if dtype == np.uint8:
        return len(shape) == 3 and shape[2] == 3 and shape[0] * shape[1] <= MAX_PIXELS * MAX_ASPECT_STRETCH
    return dtype == np.float32 and len(shape) == 2 and shape[0] == CHANNELS and shape[1] <= MOST_SAMPLES


@atexit.register
def _end_idle() -> None:
    for child in _idle:
        child.end()


class _Opened:
    """A file that a child has open for a purpose; `about` is what it said of it."""

    def __init__(self, purpose: str, path: Path | str, halved_to: int | None = None) -> None:
        self.path = Path(path)
        self._asked = 0
        self._child = Child.borrow()
        self._child.ask(purpose, os.getcwd(), os.fspath(path), halved_to)
        try:
            self.about, _ = self._child.answer(self.path)
        except FootageError:
            self._child.give_back()
            raise

    def pieces(self) -> Iterator[Answer]:
        """All of them from here on; a few are asked for before they are needed."""
        self._drain()
        self._child.ask("begin")
        try:
            while True:
                while self._asked < AHEAD:
                    self._child.ask("next")
                    self._asked += 1
                self._asked -= 1
                header, content = self._child.answer(self.path)
                yield header, content
                if content is None:
                    return
        finally:
            self._drain()

    def seek(self, seconds: float) -> bool:
        """See `LocalDecoder.seek`."""
        self._drain()
        self._child.ask("seek", seconds)
        return bool(self._child.answer(self.path)[0]["sought"])

    def close(self) -> None:
        """The child is free for another file."""
        self._drain()
        self._child.ask("close")
        self._child.give_back()

    def _drain(self) -> None:
        """Read and forget what was asked for ahead."""
        while self._asked:
            self._asked -= 1
            with suppress(FootageError):
                self._child.answer(self.path)


class Decoder:
    """Iterate over a file's `DecodedFrame`s once; afterwards `damage` says what could not be read.

    `declared_seconds` and `fps` are the header's claims. With `halved_to` frames are averaged 2x2 as often as their
    short side stays that long. Close it, or use it in a `with`. FootageError is raised when the file cannot be used.
    """

    def __init__(self, path: Path | str, halved_to: int | None = None) -> None:
        self.path, self.damage = Path(path), Damage()
        self._opened = _Opened("frames", path, halved_to)
        self.fps: float | None = self._opened.about["fps"]
        self.declared_seconds: float | None = self._opened.about["declared_seconds"]

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, *exc: object) -> None:
        self._opened.close()

    def seek(self, seconds: float) -> bool:
        """Go on from a key frame at or before `seconds`; False where the file cannot be searched. Times
        begin at 0 again, at the first frame that follows.
        """
        return self._opened.seek(seconds)

    def __iter__(self) -> Iterator[DecodedFrame]:
        for header, image in self._opened.pieces():
            self.damage.packets = int(header["damaged"])
            if image is not None:
                yield DecodedFrame(image, float(header["time"]))


def decode(path: Path | str, halved_to: int | None = None) -> Iterator[DecodedFrame]:
    """Every frame of a file in order; FootageError when there is none."""
    with Decoder(path, halved_to) as decoder:
        yield from decoder


def read_clip(
    path: Path | str, height: int, width: int, max_frames: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """A whole file as frames uint8 T H W 3 and their times float64 T, at most `max_frames` from its
    beginning.
    """
    images: list[np.ndarray] = []
    times: list[float] = []
    with Decoder(path) as decoder:
        for frame in decoder:
            images.append(resize(frame.image, height, width))
            times.append(frame.timestamp)
            if max_frames is not None and len(images) >= max_frames:
                break
    return np.stack(images), np.asarray(times, dtype=np.float64)


def read_picture(path: Path | str, height: int, width: int) -> np.ndarray:
    """The first frame of a picture or a video as uint8 1 H W 3."""
    frames, _ = read_clip(path, height, width, max_frames=1)
    return frames


def read_sound(path: Path | str) -> Iterator[np.ndarray]:
    """The first sound of a file in pieces, float32 `C N`; see `sound_here`."""
    opened = _Opened("sound", path)
    try:
        for _, samples in opened.pieces():
            if samples is not None:
                yield samples
    finally:
        opened.close()


def probe(path: Path | str) -> Probe:
    """Open a file, decode one frame and describe it; FootageError with one line if that cannot be done."""
    child = Child.borrow()
    child.ask("probe", os.getcwd(), os.fspath(path), None)
    try:
        found, _ = child.answer(Path(path))
    finally:
        child.give_back()
    return Probe(**found | {"sample_aspect_ratio": Fraction(found["sample_aspect_ratio"])})

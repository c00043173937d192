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
from reroll.footage.container import MOST_PIXELS, shown
from reroll.footage.decode import MOST_STRETCHED, Damage, DecodedFrame, resize
from reroll.footage.probe import Probe
from reroll.footage.sound import CHANNELS

MOST_SECONDS = 20.0
"""To wait for one answer, not counting time in which nothing ran (a laptop that sleeps, Ctrl-Z)."""
AHEAD = 3
"""Pieces that are asked for ahead, so that the child decodes while what it sent is used."""
KEPT, KEPT_SECONDS = 2, 30.0
"""Children that wait for the next file, and how long they do."""
TICK_SECONDS = 0.5
MOST_SAMPLES = 1 << 22
LONGEST_ANSWER = 1 << 20
COMMAND = [sys.executable, "-P", "-m", "reroll.footage.child"]
QUIET = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
"""For its libraries, which would reserve memory for every core; FFmpeg has threads of its own."""
Answer = tuple[dict[str, Any], np.ndarray | None]
_idle: list[Child] = []
_pool = threading.Lock()


class Child:
    """A decoding process, with one file open at a time; `Decoder` and the like borrow one."""

    def __init__(self) -> None:
        packages = os.pathsep.join(path for path in sys.path if path)
        self._process = subprocess.Popen(
            COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env=os.environ | QUIET | {"PYTHONPATH": packages},
        )  # fmt: skip
        self._waits, self._late = False, False
        self._seconds = 0.0
        threading.Thread(target=self._watch, daemon=True).start()

    @classmethod
    def borrow(cls) -> Child:
        """One that is idle, or a new one."""
        with _pool:
            while _idle:
                child = _idle.pop()
                if child.alive:
                    return child
        return cls()

    @property
    def alive(self) -> bool:
        """Whether its process is."""
        return self._process.poll() is None

    def give_back(self) -> None:
        """For the next file; it has none open."""
        with _pool:
            self._seconds = 0.0
            if self.alive and len(_idle) < KEPT:
                _idle.append(self)
                return
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
        """The next answer. FootageError if it is one, or if the child died of `path`; after anything else that is
        raised it is of no more use and has been ended."""
        try:
            self._seconds, self._waits = 0.0, True
            header, content = self._read()
        except (EOFError, ValueError, KeyError, TypeError, RecursionError, OSError):
            cause = self._cause()
            self.end()
            raise FootageError(
                f"cannot use {shown(path)}: {cause}; leave it out or export it again"
            ) from None
        except BaseException:  # Ctrl-C between two halves of an answer
            self.end()
            raise
        finally:
            self._waits = False
        if fault := header.get("fault"):
            self.end()
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

    def _cause(self) -> str:
        """Why no answer came, in words."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)  # its pipe closes a little before it is gone
        code = self._process.returncode
        if code is None:
            return "the decoder does not answer as it should"
        if self._late or code == -getattr(signal, "SIGXCPU", 0):
            return "decoding it takes too long for one frame"
        return (
            f"the decoder crashed on it ({signal.Signals(-code).name if code < 0 else f'exit code {code}'})"
        )

    def _watch(self) -> None:
        """Kill it when an answer is late, or when it has waited long for another file."""
        while self.alive:
            time.sleep(TICK_SECONDS)
            self._seconds += TICK_SECONDS
            if self._waits and self._seconds > MOST_SECONDS:
                self._late = True
                self._process.kill()
            with _pool:
                unused = self in _idle and self._seconds > KEPT_SECONDS
                if unused:
                    _idle.remove(self)
            if unused:
                self.end()


def _is_sensible(shape: tuple[Any, ...], dtype: np.dtype[Any]) -> bool:
    """Whether it is a frame `H W 3` or samples `C N`, of a size that can be."""
    if not all(isinstance(side, int) and side > 0 for side in shape):
        return False
    if dtype == np.uint8:
        return len(shape) == 3 and shape[2] == 3 and shape[0] * shape[1] <= MOST_PIXELS * MOST_STRETCHED
    return dtype == np.float32 and len(shape) == 2 and shape[0] == CHANNELS and shape[1] <= MOST_SAMPLES


@atexit.register
def _end_idle() -> None:
    with _pool:
        children = [*_idle]
        _idle.clear()
    for child in children:
        child.end()


class _Opened:
    """A file that a child has open for a purpose; `about` is what it said of it. Close it, or use it in a `with`."""

    def __init__(self, purpose: str, path: Path | str, halved_to: int | None = None) -> None:
        self.path = Path(path)
        self._asked, self._turn, self._is_open = 0, 0, True
        self._child = Child.borrow()
        try:
            self._child.ask(purpose, _folder(), os.fspath(path), halved_to)
            self.about, _ = self._child.answer(self.path)
        except FootageError:
            self._child.give_back()
            raise
        except BaseException:
            self._child.end()
            raise

    def __enter__(self) -> _Opened:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(kind is None or issubclass(kind, FootageError | GeneratorExit))

    def pieces(self) -> Iterator[Answer]:
        """All of them from here on; a few are asked for before they are needed."""
        if not self._is_open:
            raise ValueError(f"{self.path}: closed")
        self._drain()
        self._turn += 1
        turn = self._turn
        try:
            self._child.ask("begin")
            while True:
                try:
                    while self._asked < AHEAD:
                        self._child.ask("next")
                        self._asked += 1
                    header, content = self._child.answer(self.path)
                    self._asked -= 1
                except FootageError:
                    self._asked -= 1
                    raise
                except BaseException:  # what was asked for and has come is not known any more
                    self._child.end()
                    raise
                yield header, content
                if content is None:
                    return
        finally:
            if turn == self._turn and self._is_open:
                self._drain()

    def seek(self, seconds: float) -> bool:
        """See `LocalDecoder.seek`."""
        self._drain()
        self._child.ask("seek", seconds)
        return bool(self._child.answer(self.path)[0].get("sought"))

    def close(self, in_order: bool = True) -> None:
        """The child is free for another file, once it has closed this one; it is ended if not all is in order."""
        if not self._is_open:
            return
        self._is_open = False
        try:
            if in_order and self._child.alive:
                self._drain()
                self._child.ask("close")
                self._child.answer(self.path)
                self._child.give_back()
                return
        except FootageError:  # it died of closing the file, whose frames have all come
            pass
        self._child.end()

    def _drain(self) -> None:
        """Read and forget what was asked for ahead."""
        while self._asked and self._child.alive:
            with suppress(FootageError):
                self._child.answer(self.path)
            self._asked -= 1
        self._asked = 0


def _folder() -> str:
    """The current one, from which a child sees relative paths."""
    try:
        return os.getcwd()
    except OSError:  # it is gone
        return os.sep


class Decoder:
    """Iterate over a file's `DecodedFrame`s once; afterwards `damage` says what could not be read.

    `declared_seconds` and `fps` are the header's claims. With `halved_to` frames are averaged 2x2 as often as their
    short side stays that long. Close it, or use it in a `with`. FootageError is raised when the file cannot be used.
    """

    def __init__(self, path: Path | str, halved_to: int | None = None) -> None:
        self.path, self.damage = Path(path), Damage()
        self._opened = _Opened("frames", path, halved_to)
        self.fps: float | None = self._opened.about.get("fps")
        self.declared_seconds: float | None = self._opened.about.get("declared_seconds")

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, *exc: Any) -> None:  # noqa: ANN401
        self._opened.__exit__(*exc)

    def seek(self, seconds: float) -> bool:
        """Go on from a key frame at or before `seconds`; False where the file cannot be searched. Times
        begin at 0 again, at the first frame that follows.
        """
        return self._opened.seek(seconds)

    def __iter__(self) -> Iterator[DecodedFrame]:
        for header, image in self._opened.pieces():
            self.damage.packets = int(header.get("damaged", 0))
            if image is not None:
                yield DecodedFrame(image, float(header.get("time", 0.0)))


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
    """The first sound of a file in pieces, float32 `C N`; see `local_sound`."""
    with _Opened("sound", path) as opened:
        for _, samples in opened.pieces():
            if samples is not None:
                yield samples


def read_tags(path: Path | str) -> dict[str, str]:
    """What a video says of itself, names in lower case."""
    with _Opened("tags", path) as opened:
        return {str(name).lower(): str(value) for name, value in opened.about.items()}


def probe(path: Path | str) -> Probe:
    """Open a file, decode one frame and describe it; FootageError with one line if that cannot be done."""
    with _Opened("probe", path) as opened:
        found = opened.about
    return Probe(**found | {"sample_aspect_ratio": Fraction(found["sample_aspect_ratio"])})

"""The decoding child: a process that opens files for `guard.py`, with little that it may use, and none of what is ours.

Requests come as lines of JSON on standard input, answers go as a line of JSON each to what was standard output, with
raw bytes after it where it says so. A request opens a file and says what for ("probe", "frames" or "sound"); lines
after it begin with the pieces (`["begin"]`), ask for one (`["next"]`), go elsewhere (`["seek", seconds]`) or end it
(`["close"]`).
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import av
import cv2
import numpy as np

from reroll.errors import FootageError, one_line
from reroll.footage.container import open_container, shown
from reroll.footage.decode import LocalDecoder, halve
from reroll.footage.probe import local_probe
from reroll.footage.sound import local_sound

MOST_BYTES = 4 << 30
"""Of memory it may address beyond what Python and its libraries do at the start."""
MOST_CPU_SECONDS = 20
"""Of all its threads, for one answer."""
MOST_FILES = 64

Piece = tuple[dict[str, Any], np.ndarray]


def main() -> None:
    """Serve until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    answers = os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)  # a library's printing must not be taken for an answer
    _limit()
    gc.freeze()  # what is there from the start need not be looked through after each file
    service = Service(sys.stdin.buffer, answers)
    for line in sys.stdin.buffer:
        service.serve(*json.loads(line))
        gc.collect()  # PyAV's side data and its frame, of up to 36 million pixels, hold on to each other


def _limit() -> None:
    """Memory, files and their size, where the system can; the CPU's time is limited with each answer."""
    with suppress(ImportError):  # Windows
        import resource

        limits = {resource.RLIMIT_NOFILE: MOST_FILES, resource.RLIMIT_FSIZE: 0, resource.RLIMIT_CORE: 0}
        with suppress(OSError):  # macOS has neither /proc nor a limit of memory
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            limits[resource.RLIMIT_AS] = used + MOST_BYTES
        for what, most in limits.items():
            _, hard = resource.getrlimit(what)
            most = most if hard == resource.RLIM_INFINITY else min(most, hard)
            with suppress(ValueError, OSError):
                resource.setrlimit(what, (most, most))


def _allow_cpu_time() -> None:
    """So much from now on."""
    with suppress(ImportError):
        import resource

        used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_CPU, (int(used) + 1 + MOST_CPU_SECONDS, hard))


class Service:
    """Answers requests, one file at a time."""

    def __init__(self, requests: BinaryIO, answers: BinaryIO) -> None:
        self._requests, self._answers = requests, answers

    def serve(self, purpose: str, folder: str, path: str, halved_to: int | None) -> None:
        """Open `path`, as seen from `folder`, and answer until it is closed."""
        _allow_cpu_time()

        def do() -> None:
            os.chdir(folder)
            try:
                {"probe": self._probe, "tags": self._tags, "frames": self._frames, "sound": self._sound}[
                    purpose
                ](Path(path), halved_to)
            finally:
                os.chdir(os.sep)  # no folder is kept busy
            self._answer({"closed": True})

        self._do(path, do)

    def _do(self, path: str, do: Callable[[], None]) -> None:
        """Do it, and say what went wrong."""
        try:
            do()
        except FootageError as error:
            self._answer({"error": str(error)})
        except MemoryError:
            self._answer(
                {"error": f"cannot use {shown(path)}: decoding it takes too much memory; leave it out"}
            )
        except (av.FFmpegError, cv2.error, ValueError, OverflowError, OSError) as error:
            cause = one_line(error)
            self._answer({"error": f"cannot use {shown(path)}: it cannot be decoded ({cause}); leave it out"})
        except Exception:  # a fault of ours: the parent raises it
            self._answer({"fault": traceback.format_exc()})

    def _answer(self, header: dict[str, Any], content: np.ndarray | None = None) -> None:
        if content is not None:
            header = header | {"shape": content.shape, "dtype": content.dtype.str}
        self._answers.write(json.dumps(header).encode() + b"\n")
        if content is not None:
            self._answers.write(np.ascontiguousarray(content).data.cast("B"))
        self._answers.flush()

    def _probe(self, path: Path, _: int | None) -> None:
        found = asdict(local_probe(path))
        self._answer(found | {"sample_aspect_ratio": str(found["sample_aspect_ratio"])})
        self._wait_for_close()

    def _tags(self, path: Path, _: int | None) -> None:
        with open_container(path) as container:
            tags = dict(container.metadata)
        self._answer(tags)
        self._wait_for_close()

    def _wait_for_close(self) -> None:
        next(iter(self._requests), None)

    def _frames(self, path: Path, halved_to: int | None) -> None:
        with LocalDecoder(path) as decoder:

            def pieces() -> Iterator[Piece]:
                for frame in decoder:
                    image = frame.image if halved_to is None else halve(frame.image, halved_to)
                    yield {"time": frame.timestamp, "damaged": decoder.damage.packets}, image

            self._answer({"fps": decoder.fps, "declared_seconds": decoder.declared_seconds})
            self._serve_pieces(str(path), pieces, decoder.seek, lambda: {"damaged": decoder.damage.packets})

    def _sound(self, path: Path, _: int | None) -> None:
        def pieces() -> Iterator[Piece]:
            for samples in local_sound(path):
                yield {}, samples

        self._answer({})
        self._serve_pieces(str(path), pieces, lambda _: False, dict)

    def _serve_pieces(
        self,
        path: str,
        begin: Callable[[], Iterator[Piece]],
        seek: Callable[[float], bool],
        ended: Callable[[], dict[str, Any]],
    ) -> None:
        pieces: Iterator[Piece] = iter(())

        def next_piece() -> None:
            piece = next(pieces, None)
            if piece is None:
                self._answer(ended() | {"end": True})
            else:
                self._answer(*piece)

        for line in self._requests:
            _allow_cpu_time()
            what, *more = json.loads(line)
            if what == "next":
                self._do(path, next_piece)
            elif what == "begin":
                pieces = begin()
            elif what == "seek":
                self._answer({"sought": seek(*more)})
            else:
                return


if __name__ == "__main__":
    main()

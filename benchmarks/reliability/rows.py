"""Rows: a fault each, what has to hold, and the figure that says how well it did."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from reroll.export.media import write_video

SIZE, FRAMES, FPS = 32, 60, 25
ROOT = Path(__file__).parents[2]
ROWS: dict[int, tuple[str, Row]] = {}
FAST = (1, 2, 4, 5, 6, 8, 12, 20, 26, 29)
"""What is checked with every commit, at small counts."""


@dataclass
class Bench:
    """Where a row works, how thorough it is, and what rows share."""

    folder: Path
    full: bool
    shared: Path
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)
    """Processes to be ended with the row, whatever becomes of it."""

    def end(self) -> None:
        """Kill what still runs, with all it started."""
        for process in self.running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def count(self, fast: int, full: int) -> int:
        """How often."""
        return full if self.full else fast

    @cached_property
    def footage(self) -> Path:
        """A folder with one clip of a square that swings over a soft background."""
        folder = self.shared / "footage"
        if not folder.exists():
            write_video(folder / "clip.mp4", swinging(FRAMES), FPS)
        return folder


Row = Callable[[Bench], str]


class BrokenError(Exception):
    """What a row claims does not hold."""


def row(number: int, title: str) -> Callable[[Row], Row]:
    """Make a function the row of this number: it returns its figure, or raises."""

    def register(function: Row) -> Row:
        ROWS[number] = title, function
        return function

    return register


def claim(holds: bool, words: str) -> None:
    """BrokenError with these words, unless it holds."""
    if not holds:
        raise BrokenError(words)


def swinging(frames: int) -> np.ndarray:
    """T H W 3 uint8: a square swings to and fro over a soft background."""
    across = np.linspace(60, 190, SIZE, dtype=np.float32)
    back = np.stack(
        [across[:, None] + 0 * across, across + 0 * across[:, None], 0 * across + across[::-1, None]], -1
    )
    clip = np.repeat(back.astype(np.uint8)[None], frames, 0)
    side = SIZE // 3
    for number, image in enumerate(clip):
        left = round((SIZE - side) * (0.5 + 0.45 * np.sin(number * 0.5)))
        image[side : 2 * side, left : left + side] = (230, 220, 40)
    return clip


def peak_bytes(process: int | str = "self") -> int:
    """Peak memory of a process since `forget_peak`, or its start."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) << 10


def forget_peak() -> int:
    """Let this process's peak begin anew; what it holds now."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_bytes()


def say(words: str) -> None:
    """Progress, on standard error."""
    print(words, file=sys.stderr, flush=True)


def by_tests(number: int, title: str, *selected: str) -> None:
    """A row whose checks are tests of the project."""

    @row(number, title)
    def run(bench: Bench) -> str:
        result = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *selected],
            capture_output=True, text=True, check=False, cwd=ROOT,
        )  # fmt: skip
        claim(result.returncode == 0, result.stdout[-800:])
        return f"{result.stdout.strip().splitlines()[-1].split(' in ')[0]}: {' '.join(selected)}"

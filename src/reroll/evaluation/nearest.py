"""The training footage that a window is most like: all of it is searched, as training shows it.

In: windows of uint8 RGB frames `N T H W 3`, and the footage that was trained on. Out: for each window the run of
footage nearest to it, where that was taken, and whether it lies nearer when flipped left and right. Distances are
root mean square differences in levels (0 to 255) between short runs of low-passed frames (short side 16 pixels).
Every run of the footage is compared, whatever frame it starts at; frames are read and low-passed a piece at a time,
so that the memory does not grow with the footage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Frames = NDArray[np.uint8]
Numbers = NDArray[np.int64]
Floats = NDArray[np.float32]

SHORT_SIDE = 16  # pixels after the low-pass
RUN_FRAMES = 8  # frames compared at a time
PIECE_FRAMES = 128  # frames of footage read at a time, which bounds the memory


@dataclass(frozen=True)
class Place:
    """Where footage was taken from."""

    file: str
    seconds: float


@dataclass(frozen=True, eq=False)
class TrainingFootage:
    """All the footage that was trained on.

    `passes` are frame numbers in the orders in which training shows them; `read` gives frames `T H W 3` by their
    numbers. `file` (an index of `names`) and `seconds` say for every frame number where it was taken. `mirrored`:
    half of what was trained on was flipped left and right.
    """

    passes: Sequence[Numbers]
    read: Callable[[Numbers], Frames]
    names: Sequence[str]
    file: NDArray[np.int64]
    seconds: NDArray[np.float64]
    mirrored: bool = False

    @classmethod
    def of_windows(
        cls, windows: Frames, places: Sequence[Place] | None = None, *, mirrored: bool = False
    ) -> TrainingFootage:
        """Windows `M T H W 3` in memory, each one pass; `places` are where they begin, one each."""
        count, length = windows.shape[:2]
        places = places or [Place(f"training window {number + 1}", 0.0) for number in range(count)]
        frames = windows.reshape(-1, *windows.shape[2:])
        return cls(
            passes=list(np.arange(count * length).reshape(count, length)),
            read=lambda numbers: frames[numbers],
            names=[place.file for place in places],
            file=np.repeat(np.arange(count), length),
            seconds=np.repeat([place.seconds for place in places], length),
            mirrored=mirrored,
        )

    def place(self, number: int) -> Place:
        """Where a frame was taken."""
        return Place(self.names[self.file[number]], float(self.seconds[number]))


@dataclass(frozen=True, eq=False)
class Nearest:
    """For each of N windows: its distance to the nearest run of footage, and which two runs these are.

    `start` is where the window's own run begins (frames); `frames` `N L` are the frame numbers of the footage's (-1:
    there is none, the distance is infinite), `places` where that was taken, `mirrored` whether it was flipped.
    """

    distance: NDArray[np.float64]
    start: NDArray[np.int64]
    frames: Numbers
    places: list[Place | None]
    mirrored: NDArray[np.bool_]


def low_passed(window: Frames) -> Floats:
    """`T H W 3` uint8 to `T h w 3` float32 levels with min(h, w) = SHORT_SIDE."""
    height, width = window.shape[1:3]
    scale = SHORT_SIDE / min(height, width)
    size = (max(SHORT_SIDE, round(width * scale)), max(SHORT_SIDE, round(height * scale)))
    return np.stack([cv2.resize(f, size, interpolation=cv2.INTER_AREA) for f in window]).astype(np.float32)


def nearest_footage(
    windows: Frames,
    footage: TrainingFootage,
    places: Sequence[Place] | None = None,
    apart_seconds: float = 0.0,
) -> Nearest:
    """The run of footage nearest to each of `N T H W 3`, by brute force.

    Windows that are footage themselves have `places`, one each: what lies less than `apart_seconds` from there in the
    same file is not compared.
    """
    length = min(RUN_FRAMES, windows.shape[1], min(map(len, footage.passes)))
    starts = np.arange(0, windows.shape[1] - length + 1, max(1, length // 2))
    mine = _runs(windows, starts, length, mirrored=footage.mirrored)
    each = len(mine) // len(windows)
    best = np.full(len(mine), np.inf)
    match = np.full((len(mine), length), -1, np.int64)
    mine_squared = np.square(mine).sum(1)[:, None]
    for numbers, theirs in _pieces(footage, length):
        squared = mine_squared + np.square(theirs).sum(1) - 2 * mine @ theirs.T
        if places is not None:
            near = ~_apart(places, footage, numbers[:, 0], apart_seconds)
            squared[np.repeat(near, each, axis=0)] = np.inf
        index = squared.argmin(1)
        value = np.sqrt(np.maximum(squared[np.arange(len(mine)), index], 0) / mine.shape[1])
        closer = value < best
        best[closer], match[closer] = value[closer], numbers[index[closer]]
    pick = best.reshape(len(windows), each).argmin(1)
    row = pick + np.arange(len(windows)) * each
    found = [footage.place(first) if first >= 0 else None for first in match[row, 0]]
    return Nearest(best[row], starts[pick % len(starts)], match[row], found, pick >= len(starts))


def _runs(windows: Frames, starts: Numbers, length: int, *, mirrored: bool) -> Floats:
    """Low-passed runs of `length` frames, `R D`: window by window, as they are and then (if asked) flipped."""
    runs = []
    for window in windows:
        small = low_passed(window)
        for version in (small, small[:, :, ::-1]) if mirrored else (small,):
            runs += [version[start : start + length].ravel() for start in starts]
    return np.stack(runs)


def _apart(
    places: Sequence[Place], footage: TrainingFootage, numbers: Numbers, seconds: float
) -> NDArray[np.bool_]:
    """Which of the frames `numbers` are of another file than each place, or so many seconds away: `N R`."""
    names = np.array([footage.names[file] for file in footage.file[numbers]])
    other_file = np.array([place.file for place in places])[:, None] != names
    gap = np.abs(np.array([place.seconds for place in places])[:, None] - footage.seconds[numbers])
    return other_file | (gap >= seconds)


def _pieces(footage: TrainingFootage, length: int) -> Iterator[tuple[Numbers, Floats]]:
    """All runs of the footage, a piece at a time: frame numbers `R L`, and the low-passed runs `R D`."""
    for packed in _packed(footage.passes, length):
        numbers = np.concatenate([sliding_window_view(part, length) for part in packed])
        frames, rows = np.unique(numbers, return_inverse=True)
        small = low_passed(footage.read(frames)).reshape(len(frames), -1)
        yield numbers, small[rows.reshape(numbers.shape)].reshape(len(numbers), -1)


def _packed(passes: Sequence[Numbers], length: int) -> Iterator[list[Numbers]]:
    """Passes cut and put together to PIECE_FRAMES frames at most; the parts overlap, so that no run is lost."""
    packed: list[Numbers] = []
    room = PIECE_FRAMES
    for numbers in passes:
        for first in range(0, len(numbers) - length + 1, PIECE_FRAMES - length + 1):
            part = numbers[first : first + PIECE_FRAMES]
            if len(part) > room:
                yield packed
                packed, room = [], PIECE_FRAMES
            packed.append(part)
            room -= len(part)
    if packed:
        yield packed

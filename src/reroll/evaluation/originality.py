"""Is a sample new, or a copy of the footage it was trained on?

In: windows of uint8 RGB frames `N T H W 3`. Out: for each window of a sample the nearest stretch of training
footage, and, where it can be known, the share of windows that are copies. Distances are root mean square
differences in levels (0 to 255) between short runs of low-passed frames (short side 16 pixels), searched at
every starting frame, so that a copy that starts elsewhere is found too.

A window is called a copy when it is nearer to the training footage than 95 in 100 windows of footage the
model never saw. Stills and mush are far from everything without being original, so the verdict is withheld
unless the samples move about as much as the footage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from reroll.evaluation.motion import MOTION_RANGE, moves_alike

Frames = NDArray[np.uint8]

SHORT_SIDE = 16  # pixels after the low-pass
RUN_FRAMES = 8  # frames compared at a time
CHUNK = 64  # footage windows searched at a time, which bounds the memory
COPY_PERCENTILE = 5
FEWEST_WINDOWS = 8  # unseen windows needed to know how near unseen footage comes


@dataclass(frozen=True)
class Place:
    """Where a window of footage was taken from."""

    file: str
    seconds: float


@dataclass(frozen=True, eq=False)
class Nearest:
    """For each of N windows: distance to the nearest run of footage, and where both runs start (frames)."""

    distance: NDArray[np.float64]
    start: NDArray[np.int64]
    footage_window: NDArray[np.int64]
    footage_start: NDArray[np.int64]


def low_passed(window: Frames) -> NDArray[np.float32]:
    """`T H W 3` uint8 to `T h w 3` float32 levels with min(h, w) = SHORT_SIDE."""
    height, width = window.shape[1:3]
    scale = SHORT_SIDE / min(height, width)
    size = (max(SHORT_SIDE, round(width * scale)), max(SHORT_SIDE, round(height * scale)))
    return np.stack([cv2.resize(f, size, interpolation=cv2.INTER_AREA) for f in window]).astype(np.float32)


def _runs(windows: Frames, length: int, stride: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Low-passed runs of `length` frames: `R D`, and for each its window and start frame `R 2`."""
    starts = range(0, windows.shape[1] - length + 1, stride)
    runs, where = [], []
    for index, window in enumerate(windows):
        small = low_passed(window)
        for start in starts:
            runs.append(small[start : start + length].ravel())
            where.append((index, start))
    return np.stack(runs), np.array(where, np.int64)


def nearest_footage(windows: Frames, footage: Frames, allowed: NDArray[np.bool_] | None = None) -> Nearest:
    """The nearest run of footage `M T' H W 3` to each of `N T H W 3`; brute force, in chunks of footage.

    `allowed` `N M` forbids pairs, such as a window and its own neighbours. A window that may be compared with
    nothing has distance infinity and footage window -1.
    """
    length = min(RUN_FRAMES, windows.shape[1], footage.shape[1])
    mine, places = _runs(windows, length, max(1, length // 2))
    best = np.full(len(mine), np.inf)
    match = np.full((len(mine), 2), -1, np.int64)
    mine_squared = np.square(mine).sum(1)[:, None]
    for first in range(0, len(footage), CHUNK):
        theirs, where = _runs(footage[first : first + CHUNK], length, 1)
        where[:, 0] += first
        squared = mine_squared + np.square(theirs).sum(1) - 2 * mine @ theirs.T
        if allowed is not None:
            squared[~allowed[places[:, 0]][:, where[:, 0]]] = np.inf
        index = squared.argmin(1)
        value = np.sqrt(np.maximum(squared[np.arange(len(mine)), index], 0) / mine.shape[1])
        closer = value < best
        best[closer], match[closer] = value[closer], where[index[closer]]
    per_window = best.reshape(len(windows), -1)
    pick = per_window.argmin(1) + np.arange(len(windows)) * per_window.shape[1]
    return Nearest(best[pick], places[pick, 1], match[pick, 0], match[pick, 1])


@dataclass(frozen=True, eq=False)
class Originality:
    """Nearest footage of each sample window, and the copy rate, or why there is none.

    `threshold` is in levels; `basis` says in words what it was taken from. `footage_step` is how far one
    frame of footage is from the next by the same measure, for scale where there is no threshold.
    """

    nearest: Nearest
    footage_step: float
    threshold: float | None
    basis: str
    copy_rate: float | None
    reason: str


def check_originality(
    samples: Frames,
    train: Frames,
    heldout: Frames,
    *,
    motion_ratio: float,
    places: Sequence[Place] | None = None,
    window_seconds: float = 0.0,
) -> Originality:
    """Copy check of sample windows `N T H W 3` against training windows `M T H W 3`.

    The threshold comes from held-out windows when there are at least eight, else from training windows
    against others of another file or at least a window's length away in time (`places`, one a training
    window).
    """
    nearest, step = nearest_footage(samples, train), _step(train)
    distances, basis = _unseen_distances(train, heldout, places, window_seconds)
    if distances is None:
        return Originality(nearest, step, None, basis, None, basis)
    threshold = float(np.percentile(distances, COPY_PERCENTILE))
    if not moves_alike(motion_ratio):
        low, high = MOTION_RANGE
        reason = (
            f"The samples' motion is {motion_ratio:.2f} times the footage's. Outside {low} to {high} "
            "being far from the footage does not mean being original, so no copy rate is given."
        )
        return Originality(nearest, step, threshold, basis, None, reason)
    copies = float((nearest.distance < threshold).mean())
    return Originality(nearest, step, threshold, basis, copies, "")


def _step(windows: Frames) -> float:
    """Mean distance from one low-passed frame of `M T H W 3` to the next, in levels."""
    steps = [np.sqrt(np.square(np.diff(low_passed(w), axis=0)).mean((1, 2, 3))).mean() for w in windows]
    return float(np.mean(steps))


def _unseen_distances(
    train: Frames, heldout: Frames, places: Sequence[Place] | None, window_seconds: float
) -> tuple[NDArray[np.float64] | None, str]:
    """How near footage comes that is not a copy, and in words where that was measured."""
    if len(heldout) >= FEWEST_WINDOWS:
        basis = f"{len(heldout)} held-out windows against the training footage"
        return nearest_footage(heldout, train).distance, basis
    if places is not None and len(train) >= FEWEST_WINDOWS:
        apart = np.array(
            [
                [a.file != b.file or abs(a.seconds - b.seconds) >= 2 * window_seconds for b in places]
                for a in places
            ]
        )
        distances = nearest_footage(train, train, apart).distance
        if np.isfinite(distances).sum() >= FEWEST_WINDOWS:
            basis = f"{len(train)} training windows against others at least a window's length away"
            return distances[np.isfinite(distances)], basis
    few = f"fewer than {FEWEST_WINDOWS} separate windows of footage"
    return (
        None,
        f"There are {few}, so how near unseen footage comes, and thus a copy rate, cannot be measured.",
    )


def diversity(samples: Frames, footage: Frames) -> float | None:
    """Mean distance between samples `N T H W 3` over that between footage windows `M T H W 3`; None for one.

    Near 0 all samples are the same clip; 1 is as varied as the footage.
    """
    spreads = []
    for windows in (samples, footage):
        if len(windows) < 2:
            return None
        flat = np.stack([low_passed(w).ravel() for w in windows])
        squared = np.square(flat).sum(1)
        gaps = squared[:, None] + squared[None] - 2 * flat @ flat.T
        upper = np.triu_indices(len(flat), 1)
        spreads.append(float(np.sqrt(np.maximum(gaps[upper], 0) / flat.shape[1]).mean()))
    return (spreads[0] + 1e-3) / (spreads[1] + 1e-3)

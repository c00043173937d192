"""Cuts, stills and repeats, found frame by frame while a file is decoded once.

In: small RGB glances of consecutive frames (uint8 h w 3, see `glance`). Out: from `CutFinder` the indices at
which a new shot begins, from `StillFilter` which frames to keep, from `split_shots` the shots of the kept
frames.

PySceneDetect (Castellano) proposes cuts: its adaptive detector, which compares a frame's change with that of
its neighbours, and its content detector for cuts that follow each other closely. A proposal stands only if
the picture really is another one: flicker, exposure and fast motion change much but leave the structure
correlated.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from scenedetect.common import FrameTimecode  # type: ignore[import-untyped]
from scenedetect.detectors import AdaptiveDetector, ContentDetector  # type: ignore[import-untyped]

GLANCE_PIXELS = 72
"""Short side of a glance."""

SAME_PICTURE_CORRELATION = 0.75
"""Two frames whose brightness patterns correlate more than this show the same shot."""

FLASH_FRAMES = 2
"""A picture that comes back within so many frames was interrupted by a flash, not by a cut."""

STANDING_OUT = 2.0
"""A cut changes the picture so many times as much as the median change around it; fast motion goes on, a
cut does not.
"""

DISSOLVE_REACHES = (6, 12, 24)
"""Frames on either side of a dissolve's middle that are compared with it."""

DISSOLVE_CORRELATION, DISSOLVE_LEVELS, DISSOLVE_RESIDUAL = 0.6, 8.0, 0.25
"""A dissolve leads to another picture (correlation below), visibly (grey levels above), through the mean
of both (what is left unexplained, as a share of the change, below).
"""

REPEAT_MEAN, REPEAT_MAX = 0.05, 0.75
"""A frame that differs from the last kept one by less (grey levels: mean, and largest local) is a repeat."""

STILL_MEAN, STILL_MAX = 0.6, 3.0
"""A frame that differs from the first of a stretch by less belongs to a still stretch, if that lasts ..."""

STILL_SECONDS, STILL_FRAMES = 0.5, 4
"""... longer than this, in time and in frames."""


MOST_GAPS = 65_536
"""Between frames that are looked at together."""


def halving_end(height: int, width: int) -> int:
    """The short side down to which frames may be halved before they are looked at and brought to this size."""
    return 2 * max(GLANCE_PIXELS, height, width)


def glance(image: np.ndarray) -> np.ndarray:
    """A frame's small version, short side `GLANCE_PIXELS`, on which cuts and stills are judged."""
    height, width = image.shape[:2]
    scale = GLANCE_PIXELS / min(height, width)
    if scale >= 1:
        return image
    size = (min(4 * GLANCE_PIXELS, round(width * scale)), min(4 * GLANCE_PIXELS, round(height * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _pattern(small: np.ndarray) -> np.ndarray:
    """Zero-mean, unit-norm colour pattern of a glance, 32x32 whatever its size; zeros where flat."""
    shrunk = cv2.resize(small, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    centred = shrunk - shrunk.mean((0, 1))
    norm = float(np.linalg.norm(centred))
    return centred / norm if norm > 48.0 else np.zeros_like(centred)


class CutFinder:
    """Feed glances in order with `push`; each call, and `finish` at the end, returns cuts that became
    certain.
    """

    def __init__(self) -> None:
        self._adaptive = AdaptiveDetector(min_scene_len=1)
        self._content = ContentDetector(min_scene_len=0)
        self._patterns: list[np.ndarray] = []
        self._first = 0
        self._count = 0
        self._shape: tuple[int, ...] = ()
        self._proposed: set[int] = set()

    def push(self, small: np.ndarray) -> list[int]:
        """Take the next frame's glance; returns indices of frames that begin a new shot."""
        timecode = FrameTimecode(self._count, 25.0)
        if self._count and small.shape != self._shape:
            small = cv2.resize(small, (self._shape[1], self._shape[0]), interpolation=cv2.INTER_AREA)
        self._shape = small.shape
        bgr = cv2.cvtColor(small, cv2.COLOR_RGB2BGR)
        found = self._adaptive.process_frame(timecode, bgr) + self._content.process_frame(timecode, bgr)
        self._proposed.update(int(cut.frame_num) for cut in found)
        self._patterns.append(_pattern(small))
        self._count += 1
        due = [cut for cut in self._proposed if cut + FLASH_FRAMES + 2 <= self._count]
        confirmed = self._judge(due)
        surplus = len(self._patterns) - 16
        if surplus > 0:
            del self._patterns[:surplus]
            self._first += surplus
        return confirmed

    def finish(self) -> list[int]:
        """Cuts among the last frames."""
        return self._judge(list(self._proposed))

    def _judge(self, cuts: list[int]) -> list[int]:
        self._proposed.difference_update(cuts)
        return sorted(cut for cut in cuts if self._is_cut(cut))

    def _is_cut(self, cut: int) -> bool:
        """Nothing shown just before `cut` is shown again just after, and the change stands out from those
        around.
        """
        if cut <= self._first:
            return False
        at = cut - self._first
        before = self._patterns[max(0, at - 1 - FLASH_FRAMES) : at]
        after = self._patterns[at : at + FLASH_FRAMES + 1]
        if not any(pattern.any() for pattern in (before[-1], *after)):
            return False
        returns = any(_likeness(one, other) > SAME_PICTURE_CORRELATION for one in before for other in after)
        changes = [1 - _likeness(*pair) for pair in itertools.pairwise(self._patterns)]
        return not returns and changes[at - 1] > STANDING_OUT * float(np.median(changes))


def _likeness(one: np.ndarray, other: np.ndarray) -> float:
    """Correlation of two patterns."""
    return float(np.vdot(one, other))


def _level(small: np.ndarray) -> np.ndarray:
    """Grey levels of a glance at half its size: fine enough for a moving hand, coarse enough to average
    noise.
    """
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
    height, width = grey.shape
    return cv2.resize(grey, (max(1, width // 2), max(1, height // 2)), interpolation=cv2.INTER_AREA)


def _close(level: np.ndarray, other: np.ndarray, mean: float, largest: float) -> bool:
    if level.shape != other.shape:
        return False
    difference = cv2.absdiff(level, other)
    return float(difference.max()) < largest and float(difference.mean()) < mean


class DissolveFinder:
    """Feed glances in order; afterwards `spans` are the frames (first, one past last) of dissolves and fades.

    In a dissolve the frame in the middle is the mean of the frames on both sides, although those show
    different pictures; nothing that moves looks like that.
    """

    def __init__(self) -> None:
        self.spans: list[tuple[int, int]] = []
        self._small: deque[np.ndarray] = deque(maxlen=2 * max(DISSOLVE_REACHES) + 1)
        self._patterns: deque[np.ndarray] = deque(maxlen=2 * max(DISSOLVE_REACHES) + 1)
        self._count = 0

    def push(self, small: np.ndarray) -> None:
        """Take the next frame's glance."""
        shrunk = cv2.resize(small, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
        self._small.append(shrunk)
        self._patterns.append(_pattern(small))
        self._count += 1
        for reach in DISSOLVE_REACHES:
            if len(self._small) > 2 * reach and self._is_dissolve(reach):
                self._add(self._count - 1 - 2 * reach, self._count)

    def _is_dissolve(self, reach: int) -> bool:
        """Whether the last 2 `reach` + 1 frames lead from one picture to another through their mean."""
        if _likeness(self._patterns[-1], self._patterns[-1 - 2 * reach]) > DISSOLVE_CORRELATION:
            return False
        before, middle, after = self._small[-1 - 2 * reach], self._small[-1 - reach], self._small[-1]
        change = float(np.linalg.norm(after - before))
        if change < DISSOLVE_LEVELS * np.sqrt(before.size):
            return False
        return float(np.linalg.norm(middle - (before + after) / 2)) < DISSOLVE_RESIDUAL * change

    def _add(self, start: int, stop: int) -> None:
        while self.spans and start <= self.spans[-1][1]:
            earlier = self.spans.pop()
            start, stop = min(start, earlier[0]), max(stop, earlier[1])
        self.spans.append((start, stop))


@dataclass
class Pending:
    """A frame whose fate depends on what follows: its index and time in the file, and its stored image."""

    index: int
    timestamp: float
    image: np.ndarray


class StillFilter:
    """Passes frames on, without repeats and without still stretches of which only the first frame stays.

    A repeat is a frame all but identical to the last one kept, so slow motion is thinned at most, never lost.
    A stretch in which nothing leaves the level of its first frame is held back until it is clear whether it
    lasts; what is held is bounded by `STILL_SECONDS`. `repeats` and `stills` count the frames dropped.
    """

    def __init__(self) -> None:
        self.repeats = 0
        self.stills = 0
        self._last: np.ndarray | None = None
        self._anchor: np.ndarray | None = None
        self._anchor_time = 0.0
        self._stretch = 0
        self._held: list[Pending] = []
        self._still = False

    def push(self, frame: Pending, small: np.ndarray) -> list[Pending]:
        """Take the next frame and its glance; returns the frames that are now known to stay."""
        level = _level(small)
        if self._anchor is None or not _close(level, self._anchor, STILL_MEAN, STILL_MAX):
            kept = [*self.finish(), frame]
            self._anchor, self._anchor_time = level, frame.timestamp
            self._last = level
            return kept
        self._stretch += 1
        if self._still:
            self.stills += 1
            return []
        assert self._last is not None
        if not _close(level, self._last, REPEAT_MEAN, REPEAT_MAX):
            self._held.append(frame)
            self._last = level
        if frame.timestamp - self._anchor_time > STILL_SECONDS and self._stretch >= STILL_FRAMES:
            self._still = True
            self.stills += self._stretch
            self._held = []
        return []

    def finish(self) -> list[Pending]:
        """End the current stretch; returns the frames of it that stay."""
        kept = self._held
        if not self._still:
            self.repeats += self._stretch - len(kept)
        self._held, self._still, self._stretch = [], False, 0
        return kept


def usual_gap(times: np.ndarray) -> float:
    """The usual time between frames, in seconds; 0 for fewer than two. Bursts (three short gaps and a long
    one, as some cameras write) count as their mean, a few large gaps do not count. Of a long file a sample is
    looked at, evenly spaced.
    """
    if len(times) < 17:
        return float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    starts = np.arange(0, len(times) - 8, 1 + len(times) // MOST_GAPS)
    return float(np.median((times[starts + 8] - times[starts]) / 8))


def largest_gap(times: np.ndarray) -> float:
    """The longest time between frames, in seconds."""
    return max((float(np.diff(piece).max(initial=0.0)) for _, piece in _pieces(times)), default=0.0)


def _pieces(values: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Where pieces of a long array begin, and they, each with the first value of the next: what is made of one is
    small."""
    for start in range(0, len(values), MOST_GAPS):
        yield start, values[start : start + MOST_GAPS + 1]


def split_shots(
    indices: np.ndarray,
    times: np.ndarray,
    cuts: Sequence[int],
    dissolves: Sequence[tuple[int, int]] = (),
) -> list[tuple[int, int]]:
    """Shots of the kept frames as (start, stop) positions, split at cuts and where time is missing.

    `indices` are the kept frames' numbers in the file, `times` their seconds, `cuts` numbers of frames that
    begin a shot, `dissolves` spans of numbers that belong to no shot. A gap splits when it exceeds four and a
    half usual ones; where frames were dropped, 0.25 s is enough.
    """
    count = len(indices)
    if not count:
        return []
    usual = usual_gap(times)
    bounds = np.asarray([*cuts, *itertools.chain(*dissolves)], dtype=indices.dtype)
    edges = {0, count, *np.searchsorted(indices, bounds).tolist()}
    for (start, piece), (_, numbers) in zip(_pieces(times), _pieces(indices), strict=True):
        gaps, dropped = np.diff(piece), np.diff(numbers) > 1
        missing = (gaps > 4.5 * usual) | (dropped & (gaps > 0.25) & (gaps > 1.5 * usual))
        edges.update((start + 1 + np.flatnonzero(missing)).tolist())
    shots = list(itertools.pairwise(sorted(edges)))
    outside = [
        (start, stop)
        for start, stop in shots
        if not any(first <= indices[start] < last for first, last in dissolves)
    ]
    return outside or shots

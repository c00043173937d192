"""What in a picture should not be learnt: black bars and static overlays (logos, clocks, subtitles that
stay).

In: frames of one file spread over it, uint8 H W 3 of one size. Out: the width of each bar and boxes of
overlays, in pixels of those frames. An overlay shows only where the rest moves: over a fixed scene nothing
tells it apart.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

BLACK = 24
"""Grey level up to which a line counts as black, when it stays so in every frame."""

STILL_LEVELS, MOVING_LEVELS = 4.0, 9.0
"""Standard deviation over time of an overlay's pixels (below) and of the frame's (median above)."""

EDGE_LEVELS = 24.0
"""Gradient of the mean frame at an overlay's edges, in grey levels a pixel."""

FIXED_SCENE = 0.5
"""Share of the frames' variance in space that their mean explains, above which the scene counts as fixed."""

FEWEST_FRAMES = 8
"""Frames needed to judge overlays."""


class Bars(NamedTuple):
    """Black lines at each side."""

    top: int
    bottom: int
    left: int
    right: int


class Box(NamedTuple):
    """A rectangle in pixels."""

    left: int
    top: int
    width: int
    height: int


def _grey(frames: np.ndarray) -> list[np.ndarray]:
    return [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]


def _over_time(grey: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of every pixel over the frames."""
    total, squares = np.zeros(grey[0].shape, np.float32), np.zeros(grey[0].shape, np.float32)
    for frame in grey:
        cv2.accumulate(frame, total)
        cv2.accumulateSquare(frame, squares)
    mean = total / len(grey)
    return mean, np.sqrt(np.maximum(squares / len(grey) - mean**2, 0))


def _run(dark: np.ndarray) -> int:
    """How many entries from the beginning are True."""
    return int(np.argmin(dark)) if not dark.all() else len(dark)


def black_bars(frames: np.ndarray) -> Bars:
    """Bars that are black in all of T H W 3 frames and end in a straight edge; from 1.5 to 45 % of the
    side, else 0.
    """
    grey = np.maximum.reduce(_grey(frames))
    if float(grey.max()) <= BLACK:
        return Bars(0, 0, 0, 0)
    sides = []
    for lines in (grey, grey[::-1], grey.T, grey.T[::-1]):
        lit = (lines > BLACK).mean(axis=1)
        width = _run(lit <= 0.02)
        edge = lit[width : width + 4].max(initial=0.0)
        sides.append(width if 0.015 * len(lines) <= width <= 0.45 * len(lines) and edge > 0.5 else 0)
    return Bars(*sides)


def static_overlays(frames: np.ndarray, bars: Bars = Bars(0, 0, 0, 0)) -> list[Box]:  # noqa: B008
    """Boxes of what stays fixed, with edges, while most of T H W 3 frames moves; at most four, largest
    first.
    """
    if len(frames) < FEWEST_FRAMES:
        return []
    height, width = frames.shape[1:3]
    grey = _grey(frames)
    mean, spread = _over_time(grey)
    inside = np.zeros((height, width), bool)
    margin = 2
    rows = slice(bars.top + margin * (bars.top > 0), height - bars.bottom - margin * (bars.bottom > 0))
    columns = slice(bars.left + margin * (bars.left > 0), width - bars.right - margin * (bars.right > 0))
    inside[rows, columns] = True
    still = (spread < STILL_LEVELS) & inside
    scene = float(mean[inside].var())
    scene /= max(1e-6, scene + float((spread[inside] ** 2).mean()))
    restless = float(np.median(spread[inside])) > MOVING_LEVELS and still.sum() < 0.25 * inside.sum()
    if scene > FIXED_SCENE or not restless:
        return []
    gradient = np.hypot(cv2.Sobel(mean, cv2.CV_32F, 1, 0) / 8, cv2.Sobel(mean, cv2.CV_32F, 0, 1) / 8)
    edges = (still & (gradient > EDGE_LEVELS / 2)).astype(np.uint8)
    reach = max(3, min(height, width) // 24) | 1
    joined = cv2.morphologyEx(edges, cv2.MORPH_CLOSE, np.ones((reach, reach), np.uint8))
    _, _, found, _ = cv2.connectedComponentsWithStats(joined)
    boxes = []
    for left, top, box_width, box_height, area in found[1:].tolist():
        share = box_width * box_height / (height * width)
        if area >= 12 and 0.0008 <= share <= 0.15 and min(box_width, box_height) >= 3:
            boxes.append(Box(left, top, box_width, box_height))
    return sorted(boxes, key=lambda box: -box.width * box.height)[:4]

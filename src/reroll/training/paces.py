"""The paces of the noise that `gan` makes video from: how slow and how fast it has to turn for this footage.

Of all that changes within four frames, in squares, a sixteenth has changed within one where things move evenly, a
quarter where they go any way, all of it where each frame is new. Running water and leaves in wind have 0.35, people,
objects, streets and animation 0.07 to 0.22 (docs/log.md). What flickers needs waves of a few frames; by the same waves
people are shaken.

It is measured in pixels and in the means of squares of them, and the smaller counts: a camera's noise is in the first
only, and what a codec does to nearly still footage in the second.
"""

import cv2
import numpy as np

from reroll.footage import Store

STEADY, FLICKERING = 0.22, 0.35
"""Shares up to which the slow frames are used, and from which the fast ones; by degrees in between."""
SLOW_FRAMES, FAST_FRAMES = 10.5, 3.6
"""Frames of the fastest wave."""
SLOWEST_SECONDS = 12.0
GAP = 4
CELL = 8
SHOTS, FRAMES, PIXELS = 16, 24, 256
"""How much of the footage is looked at: of each shot its first frames, of large ones every so manieth pixel."""


def noise_paces(store: Store) -> tuple[float, float]:
    """Seconds of the slowest and of the fastest wave (`parts/noise.py`)."""
    share = float(np.clip((flicker(store) - STEADY) / (FLICKERING - STEADY), 0, 1))
    frames = SLOW_FRAMES * (FAST_FRAMES / SLOW_FRAMES) ** share
    fastest = frames / float(np.median([file.fps for file in store.files]))
    return max(SLOWEST_SECONDS, 2 * fastest), fastest


def flicker(store: Store) -> float:
    """The share of the change within four frames that comes within one; 0 where nothing changes or shots are too
    short to tell."""
    shots = [shot for shot in store.shots if shot.stop - shot.start > GAP]
    looked_at = sorted({round(at) for at in np.linspace(0, len(shots) - 1, SHOTS)}) if shots else []
    changes = np.zeros((2, 2))  # in pixels, in cells; within one frame, within four
    for number in looked_at:
        start = shots[number].start
        frames = store.frames(start, min(shots[number].stop, start + FRAMES))
        size = (max(1, store.width // CELL), max(1, store.height // CELL))
        cells = np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames])
        every = max(1, min(store.height, store.width) // PIXELS)
        for row, seen in zip(changes, (frames[:, ::every, ::every], cells), strict=True):
            seen = seen.astype(np.float32)
            row += [float(np.square(seen[gap:] - seen[:-gap]).mean()) for gap in (1, GAP)]
    return float((changes[:, 0] / np.maximum(changes[:, 1], 1e-9)).min())

"""Retiming: a take at another frame rate, or slower, at its own size.

In: a take. Out: uint8 frames `H W 3`. Frames of the take that fall on a frame of the output are kept as they are; those
between are morphed from the two beside them (`morph.py`). The motion prior makes worse ones at these distances
(docs/log.md): it draws anew what two frames that are hardly apart already show.
"""

from collections.abc import Iterator

import numpy as np

from reroll.sampling.morph import morph_at
from reroll.sampling.takes import Take

NEARLY = 1e-3
"""Of the way from one frame to the next: nearer than that a frame is shown as it is."""


def retimed(take: Take, fps: float, slow: float) -> Iterator[np.ndarray]:
    """The take at `fps`, taking `slow` times as long; in pieces `T H W 3`, height and width even."""
    height, width = take.about.height, take.about.width
    step = take.fps / (fps * slow)  # frames of the take from one frame of the output to the next
    before: np.ndarray | None = None
    at, made = 0, 0
    for frame in take.frames(take.fps, height, width):
        if before is None:
            before = frame
            continue
        shares = []
        while (place := made * step) < at + 1 - NEARLY:
            shares.append(place - at)
            made += 1
        if shares:
            yield _between(before, frame, shares)[:, : height // 2 * 2, : width // 2 * 2]
        before, at = frame, at + 1
    if before is not None and abs(made * step - at) <= NEARLY:
        yield before[None, : height // 2 * 2, : width // 2 * 2]


def _between(one: np.ndarray, other: np.ndarray, shares: list[float]) -> np.ndarray:
    """What lies at shares of the way from one frame to another, `T H W 3`: the first is one of the frames itself where
    it is as good as there."""
    moved = [share for share in shares if share > NEARLY]
    frames = list(morph_at(one, other, moved)) if moved else []
    return np.stack([one, *frames] if len(moved) < len(shares) else frames)

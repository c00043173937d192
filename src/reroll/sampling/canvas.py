"""Canvas: frames of another shape than trained, and frames whose edges meet, of a sample's own frames.

In: chunks of uint8 frames `T H W 3` of the trained size. Out: the same of the canvas. A smaller side is the middle of
the frame, a larger one goes on mirrored at the frame's edges, so that nothing is stretched and nothing is there twice
but what lies at an edge. A closed side loses a band, in which its two ends are laid over each other and cut where they
differ least, once for the whole clip (graph cuts, Kwatra et al. 2003); coarse shades fade over the band (two-band
blending, Brown and Lowe 2003).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import cv2
import numpy as np

from reroll.config import ModelConfig
from reroll.errors import UsageError

LEAST = 16
"""The least side, in pixels."""
BAND, LEAST_BAND = 0.25, 0.125
"""Of a closed side: the share of the trained one in which its ends are laid over each other, and the least."""
LOOKED_AT = 64
"""Frames from which the cut is found."""
COARSE, FEATHER = 0.05, 0.9
"""Standard deviations of two blurs: the one that leaves the coarse shades, in heights of the frame, and that of the
cut's rim, in pixels."""


@dataclass(frozen=True)
class Canvas:
    """A size in pixels, and whether its left edge meets its right one and its top its bottom."""

    height: int
    width: int
    closed_y: bool = False
    closed_x: bool = False

    @classmethod
    def of(cls, config: ModelConfig, size: str | None, tile: str | None) -> "Canvas | None":
        """`size` is `WIDTHxHEIGHT` in pixels, `tile` x, y or xy; None where both are. UsageError if they make no
        sense."""
        if size is None and tile is None:
            return None
        if tile not in (None, "x", "y", "xy"):
            raise UsageError(f"--tile {tile}: give x (left and right edge meet), y (top and bottom) or xy.")
        closed = {"height": "y" in (tile or ""), "width": "x" in (tile or "")}
        sides = {
            name: _even(getattr(config, name) * (1 - BAND)) if closed[name] else getattr(config, name)
            for name in closed
        }
        if size is not None:
            words = size.lower().split("x")
            if len(words) != 2 or not all(word.isdecimal() and len(word) < 6 for word in words):
                raise UsageError(f"--size {size}: give width and height in pixels, such as 128x72.")
            sides = {"width": int(words[0]), "height": int(words[1])}
        for name, side in sides.items():
            trained = getattr(config, name)
            most = _even(trained * (1 - LEAST_BAND)) if closed[name] else 2 * trained
            if (closed[name] and side < LEAST and size is None) or most < LEAST:
                raise UsageError(
                    f"--tile {tile}: a run of {config.width}x{config.height} is too small for edges that meet."
                )
            if not LEAST <= side <= most or side % 2:
                why = "where edges meet, of" if closed[name] else "of"
                raise UsageError(
                    f"--size {size}: {name} has to be even, from {LEAST} to {most} ({why} a run of {config.width}x"
                    f"{config.height})."
                )
        return cls(sides["height"], sides["width"], closed["height"], closed["width"])

    def fitted(self, chunks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """Frames of the trained size → frames of the canvas."""
        chunks = (self._framed(chunk) for chunk in chunks)
        if not (self.closed_x or self.closed_y):
            yield from chunks
            return
        first: list[np.ndarray] = []
        for chunk in chunks:
            first.append(chunk)
            if sum(map(len, first)) >= LOOKED_AT:
                break
        seen = np.concatenate(first)
        # x is closed first; its cut need not be a ring: top and bottom are laid over each other after it.
        across = _cut(seen, self.width) if self.closed_x else None
        if across is not None:
            seen = np.stack([_closed(frame, across) for frame in seen])
        down = _cut(_turned(seen), self.height, ring=self.closed_x) if self.closed_y else None
        for chunk in chain([seen], chunks):
            made = []
            for frame in chunk:
                if across is not None and chunk is not seen:
                    frame = _closed(frame, across)
                made.append(frame if down is None else _turned(_closed(_turned(frame), down, self.closed_x)))
            yield np.stack(made)

    def _framed(self, frames: np.ndarray) -> np.ndarray:
        """Cropped or mirrored; a side that is to close to no more than it can be laid over itself."""
        for axis, side, closed in ((1, self.height, self.closed_y), (2, self.width, self.closed_x)):
            have = frames.shape[axis]
            side = min(have, _even(side / (1 - BAND))) if closed else side
            if side == have:
                continue
            at = (np.arange(side) + (have - side) // 2) % (2 * have)
            frames = frames.take(np.minimum(at, 2 * have - 1 - at), axis)
        return frames


def _even(side: float) -> int:
    return int(side) // 2 * 2


def _turned(frames: np.ndarray) -> np.ndarray:
    """Rows for columns, of a frame or of frames."""
    return frames.swapaxes(-3, -2)


def _cut(frames: np.ndarray, width: int, *, ring: bool = False) -> np.ndarray:
    """Where frames `T H W 3` that are to close at `width` show their left end and where their right: shares `H band` of
    the left. With `ring` the cut's own ends meet."""
    band = frames.shape[2] - width
    looked_at = frames[:LOOKED_AT].astype(np.float32)
    left, right = looked_at[:, :, :band], looked_at[:, :, width:]
    cost = ((left - right) ** 2).sum(-1).mean(0)
    path = _cheapest(cost, ring)
    shown = (np.arange(band) >= path[:, None]).astype(np.float32)
    return _blurred(shown, FEATHER, ring)


def _cheapest(cost: np.ndarray, ring: bool) -> np.ndarray:
    """The column of each row of the cheapest path from top to bottom, whose steps are at most one column wide.
    Of a ring the same is gone three times, and the middle one taken: where it begins it also ends, nearly always."""
    rows = len(cost)
    cost = np.tile(cost, (3, 1)) if ring else cost
    total, came = cost.copy(), np.zeros(cost.shape, int)
    for row in range(1, len(cost)):
        before = np.pad(total[row - 1], 1, constant_values=np.inf)
        choices = np.stack([before[:-2], before[1:-1], before[2:]])
        came[row] = choices.argmin(0) - 1
        total[row] += choices.min(0)
    path = [int(total[-1].argmin())]
    for row in range(len(cost) - 1, 0, -1):
        path.append(path[-1] + came[row, path[-1]])
    found = np.array(path[::-1])
    return found[rows : 2 * rows] if ring else found


def _closed(frame: np.ndarray, left_shown: np.ndarray, ring: bool = False) -> np.ndarray:
    """A frame `H W 3` without its last columns, laid over its first: its right edge meets its left."""
    band, height = left_shown.shape[1], frame.shape[0]
    whole = frame.astype(np.float32)
    coarse = _blurred(whole, COARSE * height, ring)
    fine = whole - coarse
    fading = np.linspace(0, 1, band + 2, dtype=np.float32)[1:-1][:, None]
    share = left_shown[..., None]
    laid = fading * coarse[:, :band] + (1 - fading) * coarse[:, -band:]
    laid += share * fine[:, :band] + (1 - share) * fine[:, -band:]
    closed = whole[:, : frame.shape[1] - band].copy()
    closed[:, :band] = laid
    return closed.clip(0, 255).round().astype(np.uint8)


def _blurred(picture: np.ndarray, sigma: float, ring: bool) -> np.ndarray:
    """A picture blurred; of a `ring` its top lies below its bottom."""
    rim = int(4 * sigma) + 1
    edges = [(rim, rim), *[(0, 0)] * (picture.ndim - 1)]
    framed = np.pad(picture, edges, mode="wrap" if ring else "symmetric")
    return cv2.GaussianBlur(framed, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)[rim:-rim]

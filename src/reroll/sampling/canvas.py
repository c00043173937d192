"""Canvas: frames of another size or shape than those trained on, and frames whose edges meet.

In: latents of any grid. Out: their velocity, put together from windows of the grid that was trained on, which cover the
canvas, lie elsewhere at each step, and are averaged where they overlap (MultiDiffusion, Bar-Tal et al. 2023). Where the
canvas is closed they reach over its edge. So a wider frame shows more of the scene and no stretched one, and there is
no seam: right for what fills a picture (water, leaves, clouds); of a scene that has one middle, more is made up.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor

from reroll.config import ModelConfig
from reroll.errors import UsageError
from reroll.parts.encoder import STRIDE
from reroll.parts.model import GRID
from reroll.parts.motion_prior import PATCH, MotionPrior

LEAST, MOST = 16, 2048  # pixels
HALO = 4
"""Latents from over the edge that a closed canvas is decoded with: what the Decoder sees of them."""


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
        closed_y, closed_x = "y" in (tile or ""), "x" in (tile or "")
        if size is None:
            height = math.ceil(config.height / GRID) * GRID if closed_y else config.height
            width = math.ceil(config.width / GRID) * GRID if closed_x else config.width
            return cls(height, width, closed_y, closed_x)
        sides = size.lower().split("x")
        if len(sides) != 2 or not all(side.isdecimal() for side in sides):
            raise UsageError(f"--size {size}: give width and height in pixels, such as 128x72.")
        width, height = map(int, sides)
        for side, closed in ((width, closed_x), (height, closed_y)):
            multiple = GRID if closed else 2
            if not LEAST <= side <= MOST or side % multiple:
                why = f"a multiple of {multiple}" + (" where edges meet" if closed else "")
                raise UsageError(f"--size {size}: each side has to be {why}, from {LEAST} to {MOST}.")
        return cls(height, width, closed_y, closed_x)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of latents."""
        return math.ceil(self.height / GRID) * PATCH, math.ceil(self.width / GRID) * PATCH

    def extended(self, content: Tensor) -> Tensor:
        """A picture `B Z h w` of the trained grid over the whole canvas, mirrored where that is larger."""
        for axis, length in ((2, self.grid[0]), (3, self.grid[1])):
            have = content.shape[axis]
            at = torch.arange(length) - (length - have) // 2
            at = at % (2 * have)
            content = content.index_select(axis, torch.minimum(at, 2 * have - 1 - at).to(content.device))
        return content

    def middle(self, latents: Tensor, grid: tuple[int, int]) -> Tensor:
        """The part of `B T Z rows columns` that is of the trained grid, around the middle; mirrored where it is
        smaller."""
        for axis, length in ((3, grid[0]), (4, grid[1])):
            have = latents.shape[axis]
            at = (torch.arange(length) - (length - have) // 2) % (2 * have)
            latents = latents.index_select(axis, torch.minimum(at, 2 * have - 1 - at).to(latents.device))
        return latents

    def over_edge(self, latents: Tensor) -> Tensor:
        """Latents `B T Z h w` with `HALO` more at closed edges, from the other side."""
        for axis, closed in ((3, self.closed_y), (4, self.closed_x)):
            if closed:
                length = latents.shape[axis]
                at = torch.arange(-HALO, length + HALO) % length
                latents = latents.index_select(axis, at.to(latents.device))
        return latents

    def cropped(self, frames: Tensor) -> Tensor:
        """Frames `B T 3 H W` decoded of such latents, to the canvas."""
        top, left = (HALO * STRIDE * closed for closed in (self.closed_y, self.closed_x))
        return frames[..., top : top + self.height, left : left + self.width]

    def framed(self, frames: np.ndarray) -> np.ndarray:
        """uint8 `T H W 3` with as much more at closed edges."""
        by = [
            (HALO * STRIDE, HALO * STRIDE) if closed else (0, 0) for closed in (self.closed_y, self.closed_x)
        ]
        return np.pad(frames, [(0, 0), *by, (0, 0)], mode="wrap")

    def without_edge(self, latents: Tensor) -> Tensor:
        """Latents `B T Z h w` that were encoded of such frames, to the canvas."""
        top, left = (HALO * closed for closed in (self.closed_y, self.closed_x))
        rows, columns = self.grid
        return latents[..., top : top + rows, left : left + columns]


class Mosaic:
    """A MotionPrior on a canvas: to be called as it is."""

    def __init__(self, prior: MotionPrior, canvas: Canvas, grid: tuple[int, int]) -> None:
        """`grid` are rows and columns of latents that the prior was trained on."""
        self.prior, self.canvas, self.grid = prior, canvas, grid

    def __call__(
        self, latents: Tensor, levels: Tensor, times: Tensor, labels: Tensor, content: Tensor | None = None
    ) -> Tensor:
        """As `MotionPrior.forward`."""
        # The step's own places: the same for all priors that are asked in it.
        generator = torch.Generator("cpu").manual_seed(round(float(levels.max()) * 1e6))
        rows, columns = (
            places(length, trained, closed, generator)
            for length, trained, closed in zip(
                self.canvas.grid, self.grid, (self.canvas.closed_y, self.canvas.closed_x), strict=True
            )
        )
        total = torch.zeros_like(latents, dtype=torch.float32)
        weight = torch.zeros(latents.shape[-2:], device=latents.device)
        for row in rows:
            for column in columns:
                y, x = row.to(latents.device), column.to(latents.device)
                tokens = y[::PATCH] // PATCH, x[::PATCH] // PATCH
                shown = None if content is None else content[:, :, y[:, None], x]
                velocity = self.prior(
                    latents[:, :, :, y[:, None], x],
                    levels[:, :, tokens[0][:, None], tokens[1]],
                    times,
                    labels,
                    shown,
                )
                share = hat(len(y), len(rows))[:, None] * hat(len(x), len(columns))
                total[:, :, :, y[:, None], x] += share.to(total.device) * velocity
                weight[y[:, None], x] += share.to(total.device)
        return total / weight


def places(length: int, trained: int, closed: bool, generator: Generator) -> list[Tensor]:
    """Where windows of a trained side lie along a side of the canvas: which latents each covers, whole tokens."""
    side = min(length, trained)
    if closed:
        count = 1 if length <= trained else math.ceil(length / (0.6 * trained))
        shift = int(torch.randint(length // PATCH, (), generator=generator))
        starts = [shift + round(i * length / PATCH / count) for i in range(count)]
    elif length <= trained:
        starts = [0]
    else:
        room = (length - side) // PATCH
        count = math.ceil(room * PATCH / (0.5 * side)) + 1
        jitter = torch.rand(count, generator=generator).tolist()
        step = room / (count - 1)
        starts = [round(min(room, max(0.0, i * step + (jitter[i] - 0.5) * step))) for i in range(count)]
        starts[0], starts[-1] = 0, room
    return [(PATCH * start + torch.arange(side)) % length for start in starts]


def hat(length: int, windows: int) -> Tensor:
    """How much each latent of a window counts: most in its middle, where there are several."""
    at = torch.arange(length) + 0.5
    return torch.minimum(at, length - at) if windows > 1 else torch.ones(length)

"""The training footage's latents, for stages whose Encoder stays as it is: encoded once and kept, if they are not
too many.

In: windows over the spans that are trained on; held-out frames are neither encoded nor measured. Out: posterior
means `N Z h w`, their statistics, and a cache of them whitened, which a drawn window is looked up in.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from reroll.footage import Windows
from reroll.footage.dataset import Draw
from reroll.parts.model import CONTENT_NOISE, CONTENT_WINDOWS, VideoModel
from reroll.parts.motion_prior import to_tokens
from reroll.training.engine import Engine

CACHE_BYTES = 512 << 20
"""Latents of more are not kept: every window is then encoded when it is drawn."""
CACHE_FRAMES = 40_000
"""Nor those of so many frames, mirrored ones counted too: encoding them all takes minutes that the prior needs."""
MEASURED_FRAMES = 2048
"""Frames, evenly spread, whose latents give the statistics where not all are encoded."""
ENCODE_FRAMES = 16
CONTENT_CANDIDATES = 4096
SPREAD_WINDOWS = 64
LEAST_SPREAD = 0.05
KEYFRAME_WINDOWS = 3
"""Of the prior's windows of keyframes beyond one for each stride: what is between is learnt in far fewer steps
(docs/log.md)."""


class StoppedError(Exception):
    """The user does not want to wait until all is encoded."""


def never() -> bool:
    """Nobody asks to stop."""
    return False


def prior_strides(strides: Sequence[int]) -> list[int]:
    """A plan's strides as often as the prior's windows are drawn at them."""
    return [*strides, min(strides), *[max(strides)] * KEYFRAME_WINDOWS]


def training_frames(windows: Windows) -> np.ndarray:
    """Indices in the store of all frames that windows are drawn from, ascending."""
    return np.unique(np.concatenate([np.arange(span.start, span.stop) for span in windows.spans]))


def latent_bytes(model: VideoModel) -> int:
    """Bytes of one frame's latents."""
    return int(np.prod(model.latent_shape)) * 4


def fits(windows: Windows, model: VideoModel) -> bool:
    """Whether the latents are few enough to be kept."""
    count = len(training_frames(windows)) * (1 + windows.mirror)
    return count <= CACHE_FRAMES and count * latent_bytes(model) <= CACHE_BYTES


def encode(
    engine: Engine, model: VideoModel, windows: Windows, frames: np.ndarray, mirrored: bool,
    stopped: Callable[[], bool],
) -> Tensor:  # fmt: skip
    """Raw posterior means of stored frames, `N Z h w` on the CPU. StoppedError as soon as `stopped` is true."""
    found = torch.empty(len(frames), *model.latent_shape)
    for at in range(0, len(frames), ENCODE_FRAMES):
        if stopped():
            raise StoppedError
        images = np.concatenate([windows.store.frames(i, i + 1) for i in frames[at : at + ENCODE_FRAMES]])
        if mirrored:
            images = np.ascontiguousarray(images[:, :, ::-1])
        with engine.autocast():
            found[at : at + ENCODE_FRAMES] = model.posterior(engine.frames(images)[None])[0][0]
    return found


@dataclass(frozen=True)
class LatentCache:
    """Whitened latents of `frames` (indices in the store, ascending), `N Z h w` on the CPU: as they are, mirrored."""

    frames: np.ndarray
    latents: tuple[Tensor, ...]

    @classmethod
    def blank(cls, model: VideoModel, windows: Windows) -> "LatentCache":
        """For timings: one latent, the same for all frames, which takes no memory."""
        frames = training_frames(windows)
        return cls(frames, (torch.randn(1, *model.latent_shape).expand(len(frames), -1, -1, -1),) * 2)

    def windows(self, drawn: Draw) -> Tensor:
        """The latents `B T Z h w` of drawn windows."""
        rows = torch.from_numpy(np.searchsorted(self.frames, drawn.indices))
        pairs = zip(rows, drawn.mirrored, strict=True)
        return torch.stack([self.latents[int(mirrored)][row] for row, mirrored in pairs])


@torch.no_grad()
def take_in(
    engine: Engine, model: VideoModel, windows: Windows, *, measured: bool = False,
    stopped: Callable[[], bool] = never,
) -> LatentCache | None:  # fmt: skip
    """Set `model`'s statistics of the latents, unless they were `measured` before, and return the cache if one fits."""
    frames, keep = training_frames(windows), fits(windows, model)
    if not keep:
        if measured:
            return None
        count = min(len(frames), MEASURED_FRAMES, max(1, CACHE_BYTES // latent_bytes(model)))
        frames = frames[np.linspace(0, len(frames) - 1, count).astype(np.int64)]
    raw = encode(engine, model, windows, frames, False, stopped)
    if not measured:
        model.latent_mean.copy_(raw.mean((0, 2, 3)))
        model.latent_scale.copy_(raw.std((0, 2, 3)).clamp(min=1e-3))
    if not keep:
        return None
    kept = [raw]
    if windows.mirror:
        kept.append(encode(engine, model, windows, frames, True, stopped))
    for latents in kept:
        for part in latents.split(ENCODE_FRAMES):  # in place: there may be hundreds of megabytes
            part.copy_(model.whiten(part.to(engine.device)))
    return LatentCache(frames, tuple(kept))


@torch.no_grad()
def measure_content(
    engine: Engine, model: VideoModel, windows: Windows, cache: LatentCache | None, frames: int,
    strides: tuple[int, ...], stopped: Callable[[], bool] = never,
) -> None:  # fmt: skip
    """Set what `model` knows of the footage's content from random training windows, a few frames of each."""
    assert model.content is not None
    drawn = windows.draw(0, batch=CONTENT_CANDIDATES, frames=frames, strides=strides)
    rows = _of_every_label(drawn.labels, CONTENT_WINDOWS)
    rows = rows[np.argsort(drawn.indices[rows, 0], kind="stable")]
    indices, mirrored = drawn.indices[rows, frames // 8 :: max(1, frames // 4)], drawn.mirrored[rows]
    of = replace(drawn, indices=indices, mirrored=mirrored)
    found = _whitened(engine, model, windows, cache, of, stopped).mean(1)
    starts = np.asarray([span.start for span in windows.spans])
    shots = np.searchsorted(np.sort(starts), indices.min(1), side="right")
    model.content.measure(found, torch.from_numpy(drawn.labels[rows]), torch.from_numpy(shots))


@torch.no_grad()
def measure_spread(
    engine: Engine, model: VideoModel, windows: Windows, cache: LatentCache | None, frames: int,
    strides: tuple[int, ...], stopped: Callable[[], bool] = never,
) -> None:  # fmt: skip
    """Set how far the footage's latents are from what the flow begins around (`source_of`), `measure_content` being
    done: between keyframes from the line, for what changes from one to the other, and in windows of keyframes from
    their content."""
    assert model.content is not None
    gap = max(2, round(max(strides) / min(strides)))
    drawn = windows.draw(1, batch=SPREAD_WINDOWS, frames=gap + 1, strides=[min(strides)])
    fine = _whitened(engine, model, windows, cache, drawn, stopped)
    shares = torch.linspace(0, 1, gap + 1)[1:-1, None, None, None]
    apart = to_tokens(fine[:, :1].lerp(fine[:, -1:], shares) - fine[:, 1:-1]).square().mean(-1)
    change = to_tokens(fine[:, -1:] - fine[:, :1]).square().mean(-1).expand_as(apart)
    drawn = windows.draw(2, batch=SPREAD_WINDOWS, frames=frames, strides=[max(strides)])
    keys = _whitened(engine, model, windows, cache, drawn, stopped).to(engine.device)
    codes = model.content.encode(keys)
    noise = torch.randn(codes.shape, generator=torch.Generator().manual_seed(0)).to(codes.device)
    around = (keys - model.content(codes + CONTENT_NOISE * noise)[:, None]).square().mean().sqrt()
    spread = [*likeliest_spread(apart, change), float(around.clamp(LEAST_SPREAD, 1.0))]
    model.source_spread.copy_(torch.tensor(spread))


def likeliest_spread(apart: Tensor, change: Tensor) -> tuple[float, float]:
    """s and m for which `apart`, squared distances of any shape, are likeliest drawn with variances s² + m²·`change`:
    s is from `LEAST_SPREAD` to 1, m from 0 to 1."""

    def unlikeliness(pair: tuple[float, float]) -> float:
        variance = pair[0] ** 2 + pair[1] ** 2 * change
        return float((variance.log() + apart / variance).mean())

    still, moving = torch.logspace(math.log10(LEAST_SPREAD), 0, 25), torch.linspace(0, 1, 26)
    return min(itertools.product(still.tolist(), moving.tolist()), key=unlikeliness)


def _whitened(
    engine: Engine, model: VideoModel, windows: Windows, cache: LatentCache | None, drawn: Draw,
    stopped: Callable[[], bool],
) -> Tensor:  # fmt: skip
    """Latents of drawn windows, `B T Z h w` on the CPU."""
    if cache is not None:
        return cache.windows(drawn)
    return torch.stack(
        [
            model.whiten(encode(engine, model, windows, seen, bool(flipped), stopped).to(engine.device)).cpu()
            for seen, flipped in zip(drawn.indices, drawn.mirrored, strict=True)
        ]
    )


def _of_every_label(labels: np.ndarray, count: int) -> np.ndarray:
    """Rows of `count` of the labels: in the order they were drawn, but some of each, however rare it is."""
    kinds = np.unique(labels)
    least = max(1, count // (4 * len(kinds)))
    first = np.concatenate([np.flatnonzero(labels == kind)[:least] for kind in kinds])[:count]
    rest = np.setdiff1d(np.arange(len(labels)), first)[: count - len(first)]
    return np.sort(np.concatenate([first, rest]))

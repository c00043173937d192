"""Editing: a take's own latents, noised to a level and denoised again (SDEdit, Meng et al. 2022): its variations, and
regions that are painted anew.

In: a take, and for each of its tokens the level from which it is made again: 0 stays as it is, 1 is new. Out: chunks of
uint8 frames `T H W 3`. Keyframes come first, window by window, each given the end of the one before; then what lies
between them.
"""

from collections.abc import Iterator

import cv2
import numpy as np
import torch
from torch import Generator, Tensor

from reroll.errors import UsageError
from reroll.footage import resize
from reroll.footage.decode import crop_to_aspect
from reroll.parts.model import GRID
from reroll.parts.motion_prior import PATCH
from reroll.sampling.morph import carried
from reroll.sampling.sampler import GIVEN_FINE, Sampler
from reroll.sampling.settings import SampleSettings, generator_of
from reroll.sampling.takes import Take

FEATHER = 0.02
"""Width of the rim in which what is painted fades in, inside the mask, in heights of the picture."""


def varied(sampler: Sampler, take: Take, settings: SampleSettings, strength: float) -> Iterator[np.ndarray]:
    """The take as it might have been: its frames at the model's size, farther from it the higher `strength` is (0 to
    1: the take itself, a new clip of what is in it).

    What the Decoder misses of the take is added as far as the take is kept.
    """
    frames = _whole(sampler, take, settings)
    latents = sampler.encode(frames)
    made = edited(sampler, settings, latents, _everywhere(latents, strength))
    kept, at = (1 - strength) ** 2, 0
    for old, new in zip(sampler.decode(latents), sampler.decode(made), strict=True):
        missed = frames[at : at + len(old)].astype(np.float32) - old
        yield (new + kept * missed).clip(0, 255).round().astype(np.uint8)
        at += len(old)


def swapped(
    sampler: Sampler, look: Take, motion: Take, settings: SampleSettings, strength: float
) -> Iterator[np.ndarray]:
    """What one take shows, moving as another does: its frame that is most like the other's first, of that half of its
    frames that have most to show, carried along the other's optical flow, made again from `strength` (0 to 1)."""
    content = sampler.model.content
    assert content is not None
    looks, moving = (_whole(sampler, take, settings) for take in (look, motion))
    shown, first = sampler.encode(looks), sampler.encode(moving[:1])
    detail = np.asarray([np.abs(cv2.Laplacian(frame, cv2.CV_16S)).mean() for frame in looks])
    distances = (shown - first).square().mean((0, 2, 3, 4)).cpu().numpy()
    nearest = int(np.where(detail >= np.median(detail), distances, np.inf).argmin())
    moved = sampler.encode(carried(looks[nearest], moving))
    levels = _everywhere(moved, strength)
    yield from sampler.decode(edited(sampler, settings, moved, levels, content(content.encode(shown))))


def repainted(sampler: Sampler, take: Take, mask: Take, settings: SampleSettings) -> Iterator[np.ndarray]:
    """The take at its own size, painted anew where the mask is white (a picture, or a video of which the last frame
    stays). UsageError if nothing is masked that the model sees."""
    size = sampler.model.config
    frames = _whole(sampler, take, settings)
    masks = _masks(mask, take, settings.fps, len(frames))
    tokens = [_tokens(each, size.height, size.width) for each in masks]
    free = torch.stack([tokens[min(at, len(tokens) - 1)] for at in range(len(frames))]).float()
    if not bool(free.any()):
        raise UsageError(f"{mask.path}: nothing is white in it of what the run sees of {take.path}.")
    latents = sampler.encode(frames)
    made = edited(sampler, settings, latents, free)
    originals = take.frames(settings.fps, take.about.height, take.about.width)
    at = 0
    for chunk in sampler.decode(made):
        painted = []
        for new in chunk:
            share = masks[min(at, len(masks) - 1)]
            painted.append(_composite(next(originals), new, share))
            at += 1
        height, width = even(take)
        yield np.stack(painted)[:, :height, :width]


def _whole(sampler: Sampler, take: Take, settings: SampleSettings) -> np.ndarray:
    """All frames of a take at the model's size: `T H W 3`."""
    size = sampler.model.config
    return np.stack(list(take.frames(settings.fps, size.height, size.width)))


def _everywhere(latents: Tensor, strength: float) -> Tensor:
    """The same level for each token of latents `1 T Z h w`: `T h/2 w/2`."""
    rows, columns = (side // PATCH for side in latents.shape[-2:])
    return torch.full((latents.shape[1], rows, columns), strength)


def even(take: Take) -> tuple[int, int]:
    """A take's own height and width, without the last row and column if they are odd: a video has none."""
    return take.about.height // 2 * 2, take.about.width // 2 * 2


def _masks(mask: Take, take: Take, fps: float, count: int) -> list[np.ndarray]:
    """Shares `H W` of what is painted, from 0 to 1, at a take's own size: one, or one for each frame."""
    shares, size = [], (take.about.height, take.about.width)
    for frame in mask.frames(fps, *size):
        inside = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) > 127).astype(np.uint8)
        distance = cv2.distanceTransform(np.pad(inside, 1, mode="edge"), cv2.DIST_L2, 3)[1:-1, 1:-1]
        rim = max(1.0, FEATHER * size[0])
        shares.append((distance / rim).clip(0, 1).astype(np.float32))
        if len(shares) == count:
            break
    return shares


def _tokens(share: np.ndarray, height: int, width: int) -> Tensor:
    """Which tokens of a frame `height width` a mask touches: `h/2 w/2` bool."""
    seen = resize((np.repeat(share[..., None], 3, 2) > 0).astype(np.uint8) * 255, height, width)[..., 0] > 0
    rows, columns = -(-height // GRID), -(-width // GRID)
    whole = np.zeros((rows * GRID, columns * GRID), bool)
    whole[:height, :width] = seen
    return torch.from_numpy(whole.reshape(rows, GRID, columns, GRID).any((1, 3)))


def _composite(original: np.ndarray, new: np.ndarray, share: np.ndarray) -> np.ndarray:
    """A frame at its own size with a share of another at the model's, which shows its middle."""
    height, width = original.shape[:2]
    middle = crop_to_aspect(original, *new.shape[:2])
    inner_height, inner_width = middle.shape[:2]
    top, left = (height - inner_height) // 2, (width - inner_width) // 2
    grown = cv2.resize(new, (inner_width, inner_height), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    part = share[top : top + inner_height, left : left + inner_width, None]
    painted = original.copy()
    kept = original[top : top + inner_height, left : left + inner_width]
    painted[top : top + inner_height, left : left + inner_width] = (
        (part * grown + (1 - part) * kept).clip(0, 255).round()
    )
    return painted


def edited(
    sampler: Sampler, settings: SampleSettings, latents: Tensor, levels: Tensor, shown: Tensor | None = None
) -> Tensor:
    """Latents of a whole take `1 T Z h w`, made again from `levels` (`T h/2 w/2`), at `settings.fps`. They are to show
    `shown` (`1 Z h w`), by default what they show."""
    generator, count = generator_of(settings.seed), latents.shape[1]
    spacing = min(sampler.spacing(settings.fps), sampler.window_frames - 1 - GIVEN_FINE)
    places = sorted({*range(0, count, spacing), count - 1})
    made = latents.clone()
    made[:, places] = _keyframes(
        sampler, settings, generator, latents[:, places], levels[places], spacing, shown
    )
    at = 0
    while at < len(places) - 1:
        first, stop = places[at], at + 1
        while stop < len(places) - 1 and places[stop + 1] - first + GIVEN_FINE < sampler.window_frames:
            stop += 1
        begin, end = max(0, first - GIVEN_FINE), places[stop] + 1
        free = levels[begin:end].clone()
        free[: first - begin] = 0.0
        free[[place - begin for place in places[at : stop + 1]]] = 0.0
        if bool((free > 0).any()):
            times = torch.arange(end - begin) / settings.fps
            made[:, begin:end] = sampler.fill(
                made[:, begin:end], free, times, settings, generator, settings.between_steps
            )
        at = stop
    return made


def _keyframes(
    sampler: Sampler,
    settings: SampleSettings,
    generator: Generator,
    keys: Tensor,
    levels: Tensor,
    spacing: int,
    shown: Tensor | None,
) -> Tensor:
    """Keyframes `1 K Z h w` made again from their `levels` (`K h/2 w/2`)."""
    content = sampler.model.content
    assert content is not None
    made, count, whole = keys.clone(), keys.shape[1], sampler.window_frames
    at = 0
    while at < count:
        begin = max(0, min(at - whole // 4, count - whole))
        stop = min(count, begin + whole)
        free = levels[begin:stop].clone()
        free[: at - begin] = 0.0
        if bool((free > 0).any()):
            alike = bool((free == free.max()).all())  # content is told as in training: where nothing is given
            own = content(content.encode(keys[:, begin:stop])) if shown is None else shown
            told = own if alike else None
            times = torch.arange(stop - begin) * (spacing / settings.fps)
            made[:, begin:stop] = sampler.fill(
                made[:, begin:stop], free, times, settings, generator, settings.denoise_steps, told
            )
        at = stop
    return made

"""Timeline: given frames and free ones, where the free come before the given or lie between them.

In: whitened latents `1 T Z h w` of real frames, at the rate asked for. Out: chunks of uint8 frames `T H W 3`. What
comes after given frames is `Sampler.frames`.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, pairwise

import numpy as np
import torch
from torch import Generator, Tensor

from reroll.parts.decoder import HALO
from reroll.sampling.bridging import MOST_BRIDGING, Keyframe, join, keyframes
from reroll.sampling.sampler import GIVEN_FINE, Sampler
from reroll.sampling.settings import SampleSettings, generator_of

LEAST_CHANGE = 1e-6


def frames_before(sampler: Sampler, settings: SampleSettings, given: Tensor) -> Iterator[np.ndarray]:
    """`settings.frames` frames that lead to `given`, which are not returned."""
    thin = sampler.thinning(settings.fps)
    if thin > 1:  # the given frame is the last of the dense ones
        dense = replace(settings, frames=settings.frames * thin, fps=settings.fps * thin)
        made = _exactly(dense.frames, frames_before(sampler, dense, given[:, :1]))
        yield from _thinned(made, 0, thin)
        return
    spacing, generator = sampler.spacing(settings.fps), generator_of(settings.seed)
    count = math.ceil(settings.frames / spacing)
    times = torch.arange(sampler.window_frames) * (spacing / settings.fps)
    keys = leading(sampler, count, times, settings, generator, given[:, ::spacing])
    keys.append(Keyframe(given[:, :1], bridging=False, real=True))
    latents = _fine(sampler, keys, [i * spacing for i in range(count + 1)], settings, generator, given[:, 1:])
    surplus = count * spacing - settings.frames
    decoded = sampler.decode_pieces(chain(latents, [given[:, :HALO]]), None)
    yield from _exactly(settings.frames, _without_first(surplus, decoded))


def frames_between(
    sampler: Sampler, settings: SampleSettings, before: Tensor, after: Tensor
) -> Iterator[np.ndarray]:
    """`settings.frames` frames between the last of `before` and the first of `after`; neither is returned."""
    thin = sampler.thinning(settings.fps)
    if thin > 1:
        dense = replace(settings, frames=(settings.frames + 1) * thin - 1, fps=settings.fps * thin)
        made = _exactly(dense.frames, frames_between(sampler, dense, before[:, -1:], after[:, :1]))
        yield from _thinned(made, thin - 1, thin)
        return
    generator, whole = generator_of(settings.seed), settings.frames + 1
    spacing = sampler.spacing(settings.fps)
    count = max(1, round(whole / spacing))
    places = [round(i * whole / count) for i in range(count + 1)]
    times = torch.arange(sampler.window_frames) * (whole / settings.fps / count)
    first, last = (Keyframe(each, bridging=False, real=True) for each in (before[:, -1:], after[:, :1]))
    keys = [
        first,
        *_keys_between(sampler, count - 1, times, settings, generator, before, after, spacing),
        last,
    ]
    latents = _fine(sampler, keys, places, settings, generator, after[:, 1:], before)
    next(latents)  # the given one
    decoded = sampler.decode_pieces(chain(latents, [after[:, :HALO]]), before)
    yield from _exactly(settings.frames, decoded)


def _keys_between(
    sampler: Sampler, count: int, times: Tensor, settings: SampleSettings, generator: Generator,
    before: Tensor, after: Tensor, spacing: int,
) -> list[Keyframe]:  # fmt: skip
    """`count` keyframes between given frames: in one window with some of both where they are few; else some that go on
    from those before and some that lead to those after, with a bridge where these are most alike."""
    quarter, half = sampler.window_frames // 4, sampler.window_frames // 2
    start = before[:, (before.shape[1] - 1) % spacing :: spacing][:, -half:]
    end = after[:, ::spacing][:, :half]
    if not count:
        return []
    if count <= half:
        start, end = start[:, -quarter:], end[:, :quarter]
        free = torch.zeros(1, count, *start.shape[2:], device=start.device)
        known = torch.cat([start, free, end], 1)
        highest = torch.zeros(known.shape[1])
        highest[start.shape[1] : start.shape[1] + count] = 1.0
        window = sampler.fill(
            known, highest, times[: len(highest)], settings, generator, settings.denoise_steps
        )
        return list(keyframes(window[:, start.shape[1] : start.shape[1] + count]))
    onwards = sampler.joined(times, settings, generator, start)
    left = [next(onwards) for _ in range(count)]
    right = leading(sampler, half, times, settings, generator, end)
    return _spliced(sampler, left, right, count)


def _spliced(sampler: Sampler, left: list[Keyframe], right: list[Keyframe], count: int) -> list[Keyframe]:
    """The first of some keyframes, a bridge, and the last of others, `count` in all: where what is bridged is least."""
    one, other = (torch.cat([key.latents for key in keys], 1)[0].flatten(1) for keys in (left, right))
    apart = torch.cdist(one, other)
    pace = torch.cat([one.diff(dim=0), other.diff(dim=0)]).norm(dim=1).median().clamp(min=LEAST_CHANGE)
    ways = []
    for enter in range(len(right)):
        for between in range(1, MOST_BRIDGING + 1):
            leave = count - (len(right) - enter) - between - 1
            if 0 <= leave < len(left):
                steps = float(apart[leave, enter] / pace)
                ways.append((max(1.0, steps / (between + 1)) + between / count, leave, between, enter))
    _, leave, between, enter = min(ways)
    bridge = sampler.bridge(left[leave].latents, right[enter].latents, between)
    return [*left[: leave + 1], *bridge, *right[enter:]]


def leading(
    sampler: Sampler, count: int, times: Tensor, settings: SampleSettings, generator: Generator, known: Tensor
) -> list[Keyframe]:
    """`count` keyframes that lead to `known` ones: a window that ends with these, and before it windows of like
    content, each left near its end for where the next one, near its beginning, is most like it: as `Sampler.joined`,
    backwards."""
    content = sampler.model.content
    assert content is not None
    half, first = sampler.window_frames // 2, sampler.window_frames // 4
    window = _ending(sampler, known[:, :half], times, settings, generator)
    made = list(keyframes(window[:, : sampler.window_frames - min(half, known.shape[1])]))
    code = content.encode(window)
    while len(made) < count:
        found, best = None, None
        for one in sampler.windows_near(code, times, settings, generator):
            way = join(one, window, 0, half, first)
            if way is not None and (best is None or way.between < best.between):
                found, best = one, way
        if found is None or best is None:
            window = _ending(sampler, window[:, :half], times, settings, generator)
            made = [*keyframes(window[:, : sampler.window_frames - half]), *made]
            continue
        bridge = sampler.bridge(found[None, best.leave, None], window[:, best.enter, None], best.between)
        made = [*keyframes(found[None, : best.leave + 1]), *bridge, *made[best.enter :]]
        window = found[None]
    return made[-count:]


def _ending(
    sampler: Sampler, known: Tensor, times: Tensor, settings: SampleSettings, generator: Generator
) -> Tensor:
    """A window of keyframes whose last are `known`."""
    free = sampler.window_frames - known.shape[1]
    padded = torch.cat([torch.zeros(1, free, *known.shape[2:], device=known.device), known], 1)
    highest = (torch.arange(sampler.window_frames) < free).float()
    return sampler.fill(padded, highest, times, settings, generator, settings.denoise_steps)


def _fine(
    sampler: Sampler, keys: list[Keyframe], places: list[int], settings: SampleSettings, generator: Generator,
    after: Tensor, before: Tensor | None = None,
) -> Iterator[Tensor]:  # fmt: skip
    """The latents of all frames from the first keyframe up to the one before the last, in pieces; keyframes lie at
    `places`, `after` follows the last of them, `before` ends with the first."""
    past = sampler.no_frames() if before is None else before[:, :-1][:, -GIVEN_FINE:]
    yield keys[0].latents
    gaps = [there - here for here, there in pairwise(places)]
    at = 0
    while at < len(gaps):
        gap, count = gaps[at], 1
        room = sampler.gaps_at_once(gap)
        while at + count < len(gaps) and gaps[at + count] == gap and count < room:
            count += 1
        last = at + count == len(gaps)
        some, following = keys[at : at + count + 1], after if last else None
        fine, past = sampler.between(past, some, gap, settings, generator, following)
        yield fine[:, :-1] if last else fine
        at += count


def _without_first(count: int, chunks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    for chunk in chunks:
        if len(kept := chunk[count:]):
            yield kept
        count = max(0, count - len(chunk))


def _exactly(count: int, chunks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The first `count` frames of chunks."""
    for chunk in chunks:
        if len(kept := chunk[:count]):
            yield kept
        count -= len(kept)


def _thinned(chunks: Iterable[np.ndarray], first: int, step: int) -> Iterator[np.ndarray]:
    """Every `step`-th frame of chunks, from `first` on."""
    at = 0
    for chunk in chunks:
        if len(kept := chunk[(first - at) % step :: step]):
            yield kept
        at += len(chunk)

"""Where windows of keyframes are joined: video textures (Schödl et al. 2000) of latents.

Latents of two frames are about as far apart as their pixels: over pairs of frames the rank correlation was 0.96 to 1.00
on three clips (docs/log.md).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

LEAST_BRIDGING, MOST_BRIDGING = 1, 8
"""How many keyframes bridge two windows at least and at most."""
UNHURRIED = 1.5
"""Steps that a loop's bridge should have for each that its way is long at its clip's pace; with fewer it hurries."""
MOVING = 10.0
"""How many steps longer a loop's bridge may be if its keyframes then move a step more at each."""
FARTHEST = 2.0
"""How far apart windows may be that are bridged, in times of the way between the keyframes of one."""


LEAP = 0.7
"""Part of the way between two keyframes that is a leap if it is gone in one step."""


class Keyframe(NamedTuple):
    """Latents `1 1 Z h w`, whether they bridge two windows, and whether they are a real frame's."""

    latents: Tensor
    bridging: bool
    real: bool = False


def keyframes(latents: Tensor, *, bridging: bool = False) -> Iterator[Keyframe]:
    """Latents `1 T Z h w`, one by one, none of which keeps what it was made with in memory."""
    return (Keyframe(one.clone(), bridging) for one in latents.split(1, 1))


def leaps(start: Tensor, after: Tensor) -> bool:
    """Whether latents `1 T Z h w`, the last of which is a keyframe, do not go there from the keyframe `start`, but
    leap."""
    way = torch.cat([start, after], 1)[0].flatten(1)
    return bool(way.diff(dim=0).norm(dim=1).max() > LEAP * (way[-1] - way[0]).norm())


@dataclass(frozen=True)
class Join:
    """Where one window of keyframes is left and which following one is entered where; how many bridge the way."""

    following: int
    leave: int
    enter: int
    between: int


def join(
    window: Tensor, following: Tensor, at: int, earliest: int, first: int, *, however_far: bool = False
) -> Join | None:
    """How to get from a window of keyframes `T Z h w`, entered at `at` and left at `earliest` or later, into one of the
    following `N T Z h w`, entered among its `first` after the very first: so that the smallest share of what is seen
    is a bridge, and then where latents and their change differ least. None where that is far, against what is seen in
    one window, unless it is to be gone `however_far` it is."""
    one, others = window.flatten(1), following.flatten(2)
    leave = torch.arange(earliest, len(one), device=one.device)
    apart = torch.cdist(one[leave], others[:, 1 : first + 1])
    turns = torch.cdist(one[leave] - one[leave - 1], others[:, 1 : first + 1] - others[:, :first])
    both = torch.hypot(apart, turns)
    steps_of_others = others.diff(dim=1).norm(dim=2)
    steps_of_one = one.diff(dim=0).norm(dim=1).expand(len(others), -1)
    pace = torch.cat([steps_of_one, steps_of_others], 1).median(1).values.clamp(min=1e-6)[:, None, None]
    bridging = _bridging(both / pace)
    share = bridging / (bridging + (leave - at + 1)[:, None])
    chosen, row, column = np.unravel_index(
        int((share + 1e-3 * both / both.max().clamp(min=1e-6)).argmin()), both.shape
    )
    way = apart[chosen, row, column]
    farthest = FARTHEST * max(float(torch.cdist(keys, keys).max()) for keys in (one, others[chosen]))
    if way > farthest and not however_far:
        return None
    between = int(_bridging(way / pace[chosen, 0, 0]))
    return Join(int(chosen), earliest + int(row), 1 + int(column), between)


def _bridging(steps: Tensor) -> Tensor:
    """How many keyframes bridge a way of so many steps between windows, at the pace of these: what lingers there moves
    less than the footage."""
    return (steps - 1).round().clamp(LEAST_BRIDGING, MOST_BRIDGING)


def closing(clip: Sequence[Keyframe], count: int) -> tuple[int, int]:
    """Where in keyframes a ring of `count` begins, and how many of them, its last, bridge the way from those before, at
    most half, to its beginning: where that is a short way that does not have to hurry and those before move the most,
    and between keyframes that bridge nothing themselves if there are such."""
    flat = torch.cat([key.latents for key in clip], 1)[0].flatten(1)
    change = flat.diff(dim=0)
    steps = change.norm(dim=1)
    real = [i for i, (one, other) in enumerate(pairwise(clip)) if not one.bridging and not other.bridging]
    pace = float((steps[real] if real else steps).median().clamp(min=1e-6))
    ways = []
    for start in range(len(flat) - count + 1):
        for between in range(LEAST_BRIDGING, min(MOST_BRIDGING, count // 2) + 1):
            last = start + count - between - 1
            apart, turn = flat[last] - flat[start], change[last - 1] - change[start]
            way = float(torch.hypot(apart.norm(), turn.norm())) / pace
            hurry = max(1.0, UNHURRIED * way / (between + 1))
            moved = float(steps[start:last].sum()) / pace / count
            on_a_bridge = clip[start].bridging or clip[last].bridging
            ways.append((on_a_bridge, way * hurry - MOVING * moved, between, start))
    _, _, between, start = min(ways)
    return start, between

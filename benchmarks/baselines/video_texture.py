"""Video textures: footage played on, and at times from one frame to another that looks and moves alike.

Schödl, Szeliski, Salesin, Essa 2000, "Video Textures". Clips `T H W 3` go in, uint8; nothing is learned. A graph comes
out whose nodes are the footage's frames: from each the footage plays on at no cost, or jumps, which costs what the two
places differ. `sample` plays at random (section 4.1) and sees dead ends coming (3.3). `loop` is the cheapest closed
walk of exactly the length asked: the compound loops of section 4.2, with forward jumps too. Around a jump, what plays
on and what comes in are morphed into one another (section 5), with reroll's own morph.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.baselines import Frames
from reroll.sampling.morph import morph

Floats = NDArray[np.float32]
Places = NDArray[np.int64]
"""Frames by their number in all clips laid end to end."""

SIDE = 32  # frames are compared with their short side no longer than this many pixels
TAPS = np.array([1, 3, 3, 1], np.float32) / 8  # w in section 3.2, m = 2
REACH = 3  # frames before and after a jump over which it is morphed; at least m
RUN = 15  # frames played after a jump before the next; at least 2 REACH, so that no two morphs meet
NEAR_SECONDS = 0.3  # a jump leads at least this far from where playing on would
REGION = 2  # a jump is kept if it is the cheapest among those so many frames around it (section 3.4)
JUMPS = 8  # kept from each frame at most
ALPHA, POWER = 0.97, 1.0  # α and p in equation 6
SIGMA = 0.07  # σ in equation 5, in mean distances of two frames
STILL = 0.005  # cost to a loop of a frame that stands still, in mean distances of two frames
STARTS, LOOP_CELLS = 64, 40_000_000  # places a loop may begin at; cells its table may have
ROWS = 512  # frames compared with all others at a time


@dataclass(frozen=True)
class Graph:
    """`W` ways on from each of `N` frames: the first is to play on, the others jump. What cannot be costs infinity."""

    targets: Places  # N W: the first frame played
    costs: Floats  # N W: 0, and D' of a jump
    plays: Places  # W: how many frames a way plays before the next is chosen
    may_leave: NDArray[np.bool_]  # N: where a jump may begin
    scale: float  # mean D of two frames

    @property
    def landings(self) -> Places:
        """The last frame each way plays, `N W`."""
        return np.minimum(self.targets + self.plays - 1, len(self.targets) - 1)


@dataclass(frozen=True)
class VideoTexture:
    """Footage and the ways through it."""

    footage: Frames
    graph: Graph
    odds: Floats  # N W: P''
    pixels: Floats  # N P: the frames as they are compared
    steps: int = 0

    def sample(self, frames: int, seed: int) -> Frames:
        """Random play from a random place."""
        rng = np.random.default_rng(seed)
        played = [int(rng.choice(np.flatnonzero(self.odds.any(1))))]
        while len(played) < frames:
            way = rng.choice(len(self.graph.plays), p=self.odds[played[-1]])
            first = self.graph.targets[played[-1], way]
            played.extend(range(first, first + self.graph.plays[way]))
        return self._render(np.array(played[:frames]), closed=False)

    def loop(self, frames: int, seed: int) -> Frames | None:
        """The cheapest closed walk of so many frames; None if they are fewer than a jump plays."""
        graph, rng = self.graph, np.random.default_rng(seed)
        entries = np.unique(graph.targets[:, 1:][np.isfinite(graph.costs[:, 1:])])
        count = max(1, min(STARTS, len(entries), LOOP_CELLS // (len(self.footage) * (frames + 1))))
        entries = rng.choice(entries, count, replace=False)
        closing = np.where(graph.may_leave[:, None], jump_costs(self.pixels, entries), np.inf)
        moving = np.sqrt(np.square(np.diff(self.pixels, axis=0, prepend=self.pixels[:1])).mean(1))
        dull = STILL * graph.scale * np.maximum(0, 1 - moving / moving.mean())
        walk = closed_walk(graph, dull, entries, closing, frames)
        return None if walk is None else self._render(walk, closed=True)

    def rebuild(self, clip: Frames) -> None:
        """None: there is no encoder."""

    def _render(self, places: Places, *, closed: bool) -> Frames:
        """The frames at these places, morphed around each jump."""
        played = self.footage[places]
        follows = np.roll(places, -1)
        for at in np.flatnonzero(follows != places + 1)[: None if closed else -1]:
            for offset in range(-REACH, REACH):
                now = at + 1 + offset
                if closed or 0 <= now < len(places):
                    leaving, entering = (
                        self.footage[places[at] + 1 + offset],
                        self.footage[follows[at] + offset],
                    )
                    played[now % len(places)] = morph(leaving, entering, 2 * REACH + 1)[offset + REACH]
        return played


def train(clips: Sequence[Frames], fps: float, seconds: float, seed: int) -> VideoTexture:
    """Find the jumps; `seconds` and `seed` are not needed."""
    least = RUN + 2 * REACH + 1
    clips = [clip for clip in clips if len(clip) >= least]
    if not clips:
        raise ValueError(f"Video textures need a clip of at least {least} frames.")
    pixels = np.concatenate([_small(clip) for clip in clips])
    lengths = [len(clip) for clip in clips]
    graph = find_jumps(pixels, lengths, min(round(NEAR_SECONDS * fps), min(lengths) - 2 * REACH))
    return VideoTexture(np.concatenate(clips), graph, transition_odds(graph), pixels)


def _small(clip: Frames) -> Floats:
    """Frames as rows of values in 0 to 1, `T P`."""
    scale = min(1.0, SIDE / min(clip.shape[1:3]))
    size = round(clip.shape[2] * scale), round(clip.shape[1] * scale)
    small = [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in clip]
    return np.stack(small).reshape(len(clip), -1).astype(np.float32) / 255


def find_jumps(pixels: Floats, lengths: Sequence[int], near: int) -> Graph:
    """The ways on between frames `N P` in clips of these lengths (sections 3.1, 3.2 and 3.4)."""
    places, ends = np.arange(len(pixels)), np.cumsum(lengths)
    first, last = np.repeat(ends - lengths, lengths), np.repeat(ends - 1, lengths)
    may_leave = (places >= first + 1) & (places <= last - REACH)
    may_enter = (places >= first + REACH) & (places <= last - REACH - RUN)
    count, total = min(JUMPS, len(pixels)), 0.0
    targets = np.zeros((len(pixels), 1 + count), np.int64)
    costs = np.full(targets.shape, np.inf, np.float32)
    targets[:, 0], costs[places < last - REACH, 0] = np.minimum(places + 1, places[-1]), 0
    for start in range(0, len(pixels), ROWS):
        rows = places[start : start + ROWS]
        around = np.arange(rows[0] - REGION, rows[-1] + REGION + 1)
        near_by = np.arange(around[0] - 1, around[-1] + 3).clip(0, len(pixels) - 1)
        table = distances(pixels[near_by], pixels)
        total += float(table[REGION + 1 :][: len(rows)].mean()) * len(rows)
        leaving = around.clip(0, len(pixels) - 1)
        filtered = along_diagonals(table)
        filtered[np.abs(leaving[:, None] + 1 - places) < near] = np.inf
        filtered[:, ~may_enter] = filtered[~may_leave[leaving]] = np.inf
        kept = cheapest_around(filtered, REGION)
        kept |= (leaving == (last - REACH)[leaving])[:, None] & cheapest_around(filtered, 0)
        ways = np.where(kept, filtered, np.inf)[REGION:][: len(rows)]
        targets[rows, 1:] = np.argpartition(ways, count - 1, 1)[:, :count]
        costs[rows, 1:] = np.take_along_axis(ways, targets[rows, 1:], 1)
    return Graph(targets, costs, np.array([1] + [1 + RUN] * count), may_leave, total / len(pixels))


def distances(some: Floats, others: Floats) -> Floats:
    """D: root mean square between each of some frames `M P` and each of others `N P`: `M N`."""
    middle = others.mean(0)
    some, others = some - middle, others - middle
    squares = np.square(some).sum(1)[:, None] + np.square(others).sum(1) - 2 * some @ others.T
    return np.sqrt(np.maximum(squares, 0) / some.shape[1])


def along_diagonals(table: Floats) -> Floats:
    """D' of each jump i → j: D at i + 1, j with the dynamics around it, Σ w_k D_{i+1+k, j+k} (section 3.2).

    Rows of D `M+3 N` go in, beginning with the frame before the first i; `M N` comes out.
    """
    number = len(table) - 3
    return np.sum([TAPS[tap] * np.roll(table[tap:][:number], 2 - tap, 1) for tap in range(4)], axis=0)


def jump_costs(pixels: Floats, targets: Places) -> Floats:
    """D' of jumps from each of the frames `N P` to some: `N M`; those at either end, which have none, infinite."""
    costs = np.full((len(pixels), len(targets)), np.inf, np.float32)
    for which, target in enumerate(targets):
        costs[1:-2, which] = along_diagonals(distances(pixels, pixels[target - 2 : target + 2]))[:, 2]
    return costs


def cheapest_around(costs: Floats, rows: int) -> NDArray[np.bool_]:
    """Which jumps `M N` cost least within so many rows and within REGION columns."""
    region = np.ones((2 * rows + 1, 2 * REGION + 1), np.uint8)
    return costs == cv2.erode(costs, region)


def transition_odds(graph: Graph) -> Floats:
    """P'' (equation 5) of each way on `N W`, by D'', which has the costs to come in it (equation 6)."""
    alive = np.isfinite(graph.costs).any(1)
    future = np.zeros(len(graph.costs))
    while True:
        ahead = graph.costs**POWER + ALPHA**graph.plays * future[graph.landings]
        least = np.where(alive, ahead.min(1), 0)
        if np.abs(least - future).max() < 1e-4 * graph.scale:
            break
        future = least
    odds = np.exp(-(ahead - least[:, None]) / (SIGMA * graph.scale**POWER))
    return odds / np.maximum(odds.sum(1, keepdims=True), 1e-30)


def closed_walk(graph: Graph, dull: Floats, entries: Places, closing: Floats, frames: int) -> Places | None:
    """The cheapest walk of exactly so many frames that begins where one of the `entries` `M` has been played from for
    RUN frames, and ends with a jump there, kept or not, at a cost `closing` `N M`. To be at a frame costs `dull`, `N`.

    Section 4.2's dynamic programming over lengths, but over walks: V_l(i) is the least cost from i to the end in l
    frames, which is the jump's alone when no more are left than it plays.
    """
    sums = np.append(0, np.cumsum(dull))
    costs = (graph.costs + sums[graph.landings + 1] - sums[graph.targets]).astype(np.float32)
    least = np.full((max(frames, RUN + 1) + 1, *closing.shape), np.inf, np.float32)
    least[RUN + 1] = closing
    for length in range(RUN + 2, frames + 1):
        for way, plays in enumerate(graph.plays):
            total = costs[:, way, None] + least[max(length - plays, 0), graph.landings[:, way]]
            np.minimum(least[length], total, out=least[length])
    starts = entries + RUN
    best = least[frames, starts, np.arange(len(entries))].argmin()
    place, left = starts[best], frames
    if not np.isfinite(least[left, place, best]):
        return None
    walk: list[int] = []
    while left > RUN + 1:
        ahead = least[np.maximum(left - graph.plays, 0), graph.landings[place], best]
        way = (costs[place] + ahead).argmin()
        first, plays = graph.targets[place, way], graph.plays[way]
        walk.extend(range(first, first + plays))
        place, left = walk[-1], left - plays
    return np.array([*walk, *range(entries[best], starts[best] + 1)])

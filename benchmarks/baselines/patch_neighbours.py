"""Patch nearest neighbours over a space-time pyramid: every patch of the video made is one of the footage's.

VGPNN (Haim, Feinstein, Granot, Shocher, Bagon, Dekel, Irani 2022, "Diverse Generation from a Single Video Made
Possible"), on the CPU. Clips `T H W 3` go in, uint8; nothing is learned, and `train` only builds their pyramids.

A sample begins at the coarsest scale, as stretches of footage one after another with noise on them. At each scale every
patch of this guess gives way to its nearest in the footage, whose overlaps are averaged, some rounds over, and the
result is scaled up. Nearest neighbours are exact at the coarsest scale, which alone settles what happens, and there
they are weighted for completeness; at all others PatchMatch (Barnes et al. 2009) begins from those one scale below.

Inside, frames are `T C H W` float in [-1, 1], and a patch is one number, its place among the footage's `K` patches.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from benchmarks.baselines import Frames

COARSEST, SHRINK = 16, 0.75
"""The short side at the coarsest scale, in pixels, and about that of a scale from the next finer one's."""
RATES = 0.25, 0.5, 0.5, 1.0
"""Frames for each of the footage's, coarsest scale first; powers of 2, so that phases agree."""
RADIUS, STRIDE = 2, 2
"""Patches are 3 frames of 2 RADIUS + 1 pixels square, and in the guess STRIDE pixels apart."""
NUMBERS = 64  # principal components by which patches are compared
NOISE = 0.6  # on the first guess, in standard deviations of the footage
ALPHA = 0.01  # α of the score: small is complete, large is coherent
EXACT_ROUNDS, ROUNDS, SWEEPS = 3, 2, 2  # at the coarsest scale and at others; of PatchMatch in a round
STRETCH_SECONDS, TRIES = 2.0, 32
"""Of footage in the first guess, on average; cuts among which the best is made."""
LEAST_FRAMES, PIECE_SECONDS = 12, 10.0  # clips are as long at least, and cut if they are longer
LIBRARY = 6_000_000  # patches of footage that one sample looks through, about
KEYS, QUERIES = 256, 4096  # compared at a time, few enough to stay in cache


@dataclass(frozen=True)
class Scale:
    """One scale of the pyramid: the footage in pieces, `T C H W` each."""

    pieces: tuple[Tensor, ...]
    rate: float
    middle: Tensor  # C 1 1: the mean colour
    basis: Tensor  # NUMBERS C 3 2R+1 2R+1

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.pieces[0].shape[2], self.pieces[0].shape[3]

    def frames(self, full: int) -> int:
        """How many frames here make so many at full rate."""
        return max(3, math.ceil(full * self.rate))

    def describe(self, clip: Tensor, stride: int = 1, *, wrap: bool = False) -> Tensor:
        """By what its patches are compared, `T-2 h w NUMBERS` (`T h w NUMBERS` on a ring), whose squared distances are
        about D, per value."""
        around = torch.cat([clip[-1:], clip, clip[:1]]) if wrap else clip
        padded = F.pad(around - self.middle, (RADIUS,) * 4, mode="reflect").transpose(0, 1)[None]
        padded = padded.contiguous(memory_format=torch.channels_last_3d)
        return F.conv3d(padded, self.basis, stride=(1, stride, stride))[0].permute(1, 2, 3, 0).half()


@dataclass(frozen=True)
class Patches:
    """The patches of some pieces at one scale, numbered along columns, rows, frames and pieces."""

    size: tuple[int, int]
    lengths: Tensor  # of pieces, in frames
    values: Tensor  # N·(H+2R)·(W+2R) int64: a pixel in each, as four float16

    @property
    def starts(self) -> Tensor:
        """Of each piece, in middle frames of patches: two fewer than frames."""
        return (self.lengths - 2).cumsum(0) - self.lengths + 2

    def places(self, patches: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Piece, frame in it, row and column of their middles."""
        height, width = self.size
        middle = patches // (height * width)
        piece = torch.bucketize(middle, self.starts, right=True) - 1
        return piece, middle - self.starts[piece] + 1, patches // width % height, patches % width

    def nearest_to(self, piece: Tensor, frame: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """The patches at such places, in fractions: what inverts `places`."""
        height, width = self.size
        middle = (
            torch.minimum(frame.round().long().clamp(min=1), self.lengths[piece] - 2) - 1 + self.starts[piece]
        )
        row, column = row.round().long().clamp(0, height - 1), column.round().long().clamp(0, width - 1)
        return (middle * height + row) * width + column


def patches_of(pieces: Sequence[Tensor]) -> Patches:
    """Those of some pieces of one scale."""
    pixels = F.pad(torch.cat(list(pieces)), (RADIUS,) * 4, mode="reflect").permute(0, 2, 3, 1)
    values = F.pad(pixels, (0, 1)).half().view(torch.int64).flatten()
    height, width = pieces[0].shape[2:]
    return Patches((height, width), torch.tensor([len(piece) for piece in pieces]), values)


def describe_all(scale: Scale, pieces: Iterable[Tensor], patches: Patches) -> Tensor:
    """By what all patches of some pieces are compared, `K NUMBERS`."""
    found = torch.empty((int((patches.lengths - 2).sum()), *scale.size, NUMBERS), dtype=torch.half)
    for start, piece in zip(patches.starts.tolist(), pieces, strict=True):
        found[start : start + len(piece) - 2] = scale.describe(piece)
    return found.view(-1, NUMBERS)


def enlarge(clip: Tensor, frames: int, size: tuple[int, int], *, wrap: bool = False) -> Tensor:
    """`T C H W` scaled up; `wrap` has the first frame follow the last."""
    at = (torch.arange(frames) + 0.5) * len(clip) / frames - 0.5
    before = at.floor().long()
    share = (at - before)[:, None, None, None]
    one, other = (each % len(clip) if wrap else each.clamp(0, len(clip) - 1) for each in (before, before + 1))
    grown = F.interpolate(clip, size, mode="bicubic")
    return grown[one].lerp(grown[other], share)


def reduce(clip: Tensor, frames: int, size: tuple[int, int]) -> Tensor:
    """`T C H W` scaled down, without aliases."""
    small = F.interpolate(clip, size, mode="bicubic", antialias=True)
    in_time = small.flatten(1)[None, None]
    in_time = F.interpolate(in_time, (frames, in_time.shape[-1]), mode="bilinear", antialias=True)
    return in_time.view(frames, *small.shape[1:])


@dataclass(frozen=True)
class PatchNeighbours:
    """The footage's pyramid, coarsest scale first."""

    scales: tuple[Scale, ...]
    fps: float
    steps: int = 0

    def sample(self, frames: int, seed: int) -> Frames:
        """Another video of patches of the footage."""
        return self._make(frames, seed, wrap=False)

    def loop(self, frames: int, seed: int) -> Frames:
        """The same on a ring, with patches that reach over from the last frame to the first."""
        return self._make(frames, seed, wrap=True)

    def rebuild(self, clip: Frames) -> None:
        """None: there is no encoder."""

    @torch.inference_mode()
    def _make(self, frames: int, seed: int, *, wrap: bool) -> Frames:
        random = torch.Generator().manual_seed(seed)
        library, whole = self._library(random), frames if wrap else -(-frames // 4) * 4
        guess = self._first_guess(whole, library, random, wrap=wrap)
        scale = self.scales[0]
        patches = patches_of([scale.pieces[number] for number in library])
        keys = describe_all(scale, [scale.pieces[number] for number in library], patches)
        for _ in range(EXACT_ROUNDS):
            matches = nearest(scale.describe(guess, STRIDE, wrap=wrap).float(), keys)
            guess = vote(patches, matches, wrap=wrap)
        for coarser, scale in pairwise(self.scales):
            was, below = guess.shape, patches
            sharp = [scale.pieces[number] for number in library]
            blurred = (
                enlarge(coarser.pieces[number], len(scale.pieces[number]), scale.size) for number in library
            )
            patches = patches_of(sharp)
            guess = enlarge(guess, scale.frames(whole), scale.size, wrap=wrap)
            matches = carry_up(matches, was, below, guess.shape, patches, wrap=wrap)
            for rounds, pieces in ((1, blurred), (ROUNDS - 1, sharp)):
                keys = describe_all(scale, pieces, patches)
                for _ in range(rounds):
                    query = scale.describe(guess, STRIDE, wrap=wrap).float()
                    matches = search(query, keys, matches, scale.size, random)
                    guess = vote(patches, matches, wrap=wrap)
        pixels = guess[:frames].clamp(-1, 1).add(1).mul(127.5).round().byte()
        return pixels.permute(0, 2, 3, 1).contiguous().numpy()

    def _library(self, random: Generator) -> list[int]:
        """Which pieces of footage to look through: all, or so many of them, in random order."""
        pieces = self.scales[-1].pieces
        order = torch.randperm(len(pieces), generator=random).tolist()
        sizes = np.cumsum([pieces[number][:, 0].numel() for number in order])
        return order[: max(1, int(np.searchsorted(sizes, LIBRARY, side="right")))]

    def _first_guess(self, frames: int, library: list[int], random: Generator, *, wrap: bool) -> Tensor:
        """Stretches of footage at the coarsest scale and noise, `T C H W`; on a ring, those whose ends meet best."""
        scale = self.scales[0]
        pieces, length = [scale.pieces[number] for number in library], scale.frames(frames)
        usual = max(3, round(STRETCH_SECONDS * self.fps * scale.rate))
        guesses = [stretches(pieces, length + 2, usual, random) for _ in range(TRIES if wrap else 1)]
        guess = min(guesses, key=lambda each: float((each[length:] - each[:2]).square().mean()))[:length]
        spread = torch.cat(pieces).std((0, 2, 3))[:, None, None]
        return guess + NOISE * spread * torch.randn(guess.shape, generator=random)


def train(clips: Sequence[Frames], fps: float, seconds: float, seed: int) -> PatchNeighbours:
    """Build the pyramid; `seconds` and `seed` are not needed."""
    clips = [clip for clip in clips if len(clip) >= LEAST_FRAMES]
    if not clips:
        raise ValueError(f"Patch neighbours need a clip of at least {LEAST_FRAMES} frames.")
    pieces = []
    for clip in clips:
        for part in np.array_split(clip, math.ceil(len(clip) / max(2 * LEAST_FRAMES, PIECE_SECONDS * fps))):
            whole = torch.from_numpy(
                part[: len(part) // 4 * 4].copy()
            )  # as many as the lowest of RATES divides
            pieces.append(whole.permute(0, 3, 1, 2) / 127.5 - 1)
    height, width = pieces[0].shape[2:]
    least = min(1.0, COARSEST / min(height, width))
    count = max(1, round(math.log(least) / math.log(SHRINK)))
    scales = []
    for step in range(count + 1):
        share = least ** (1 - step / count)
        rate = 1.0 if step == count else RATES[min(step, len(RATES) - 1)]
        size = round(height * share), round(width * share)
        scales.append(
            scale_of(tuple(reduce(piece, round(len(piece) * rate), size) for piece in pieces), rate)
        )
    return PatchNeighbours(tuple(scales), fps)


def scale_of(pieces: tuple[Tensor, ...], rate: float) -> Scale:
    """A scale with its principal components: those of how patches at one place differ in time.

    Patches in time are rivals far more often than patches in space; components of the patches themselves would be of
    what a scene looks like, and blind to how it moves.
    """
    random, side = torch.Generator().manual_seed(0), 2 * RADIUS + 1
    differences = []
    for number in torch.randint(len(pieces), (200,), generator=random).tolist():
        one, other = torch.randint(len(pieces[number]) - 2, (2,), generator=random).tolist()
        change = pieces[number][one : one + 3] - pieces[number][other : other + 3]
        change = F.pad(change, (RADIUS,) * 4, mode="reflect").unfold(2, side, 2).unfold(3, side, 2)
        every = change.permute(2, 3, 1, 0, 4, 5).flatten(0, 1).flatten(1)
        differences.append(every[torch.randint(len(every), (50,), generator=random)])
    rows = torch.cat(differences)
    _, vectors = torch.linalg.eigh(rows.T @ rows)
    basis = vectors[:, -NUMBERS:].T.reshape(NUMBERS, 3, 3, side, side) / math.sqrt(rows.shape[1])
    middle = torch.stack([piece.mean((0, 2, 3)) for piece in pieces]).mean(0)[:, None, None]
    return Scale(pieces, rate, middle, basis.contiguous(memory_format=torch.channels_last_3d))


def stretches(pieces: Sequence[Tensor], frames: int, usual: int, random: Generator) -> Tensor:
    """So many frames in stretches of about the usual length, each cut and gone on from where it shows least."""

    def below(number: int) -> int:
        return int(torch.randint(max(1, number), (), generator=random))

    def anywhere(room: int) -> tuple[Tensor, int]:
        piece = pieces[below(len(pieces))]
        return piece, below(len(piece) - room)

    laid: list[Tensor] = []
    piece, start = anywhere(usual // 2)
    while len(laid) < frames:
        tries = []
        for _ in range(TRIES):
            stop = max(start + 1, min(start + usual // 2 + below(usual + 1), len(piece) - 2))
            after, at = anywhere(usual)  # stretches cut short would stand still: their ends are averaged
            tries.append(
                (float((piece[stop : stop + 2] - after[at : at + 2]).square().mean()), stop, after, at)
            )
        _, stop, after, at = min(tries, key=lambda each: each[0])
        laid += piece[start:stop]
        piece, start = after, at
    return torch.stack(laid[:frames])


def nearest(query: Tensor, keys: Tensor) -> Tensor:
    """The patch of least D(Q_i, K_j) / (α + min_l D(Q_l, K_j)) for each of the guess's, `T h w NUMBERS`: `T h w`."""
    queries = query.flatten(0, 2)
    squares = queries.square().sum(1, keepdim=True)
    best, found = torch.full((len(queries),), torch.inf), torch.zeros(len(queries), dtype=torch.long)
    for number, some in enumerate(keys.split(KEYS)):
        block = some.float()
        distance = torch.addmm(block.square().sum(1), queries, block.T, alpha=-2).add_(squares).clamp_(min=0)
        score, which = distance.div_(ALPHA + distance.amin(0)).min(1)
        found = torch.where(score < best, which + number * KEYS, found)
        best = torch.minimum(score, best)
    return found.view(query.shape[:3])


def search(query: Tensor, keys: Tensor, matches: Tensor, size: tuple[int, int], random: Generator) -> Tensor:
    """Better matches than those given, `T h w`, by PatchMatch for all patches of the guess at once."""
    height, width = size
    area, queries = height * width, query.flatten(0, 2).split(QUERIES)
    for _ in range(SWEEPS):
        offers = [matches]
        for axis, step in enumerate((area, STRIDE * width, STRIDE)):
            offers += [matches.roll(1, axis) + step, matches.roll(-1, axis) - step]
        for reach in (1, 3):
            frames, rows, columns = torch.randint(-reach, reach + 1, (3, *matches.shape), generator=random)
            offers.append(matches + frames * area + rows * width + columns)
        offers.append(
            matches % area + torch.randint(len(keys) // area, matches.shape, generator=random) * area
        )
        offered, found = torch.stack(offers).flatten(1).clamp_(0, len(keys) - 1), []
        for some, asked in zip(offered.split(QUERIES, 1), queries, strict=True):
            differences = keys.index_select(0, some.flatten()).view(*some.shape, -1).float().sub_(asked)
            found.append(some.gather(0, differences.square_().sum(2).argmin(0, keepdim=True))[0])
        matches = torch.cat(found).view(matches.shape)
    return matches


def middles(shape: Sequence[int], *, wrap: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Where the patches of a guess `T C H W` have their middles: frames, rows and columns."""
    frames = torch.arange(shape[0]) if wrap else torch.arange(1, shape[0] - 1)
    return frames, torch.arange(0, shape[2], STRIDE), torch.arange(0, shape[3], STRIDE)


def carry_up(
    matches: Tensor, was: Sequence[int], coarser: Patches, now: Sequence[int], finer: Patches, *, wrap: bool
) -> Tensor:
    """Matches of a guess that was `T C H W`, for the larger one it is now: `T h w`."""
    index, rest = [], []
    for old, new, step, axis in zip(
        middles(was, wrap=wrap), middles(now, wrap=wrap), (1, STRIDE, STRIDE), (0, 2, 3), strict=True
    ):
        at = (new + 0.5) * was[axis] / now[axis] - 0.5
        index.append(((at - old[0]) / step).round().long().clamp(0, len(old) - 1))
        rest.append(at - old[index[-1]])
    piece, frame, row, column = coarser.places(matches[index[0]][:, index[1]][:, :, index[2]])
    frame = (frame + rest[0][:, None, None] + 0.5) * (finer.lengths / coarser.lengths)[piece] - 0.5
    row = (row + rest[1][:, None] + 0.5) * finer.size[0] / coarser.size[0] - 0.5
    column = (column + rest[2] + 0.5) * finer.size[1] / coarser.size[1] - 0.5
    return finer.nearest_to(piece, frame, row, column)


def vote(patches: Patches, matches: Tensor, *, wrap: bool) -> Tensor:
    """The mean of the patches matched, each at its place: `T C H W`."""
    frames, rows, columns = matches.shape
    height, width = (length + 2 * RADIUS for length in patches.size)
    piece, frame, row, column = patches.places(matches)
    first = (patches.lengths.cumsum(0) - patches.lengths)[piece] + frame - 1
    corner = (first * height + row) * width + column
    total, votes = torch.zeros(frames + 2, height, width, 4), torch.zeros(frames + 2, height, width, 1)
    for time in range(3):
        for y in range(2 * RADIUS + 1):
            for x in range(2 * RADIUS + 1):
                seen = patches.values.take(corner + (time * height + y) * width + x)
                down, across = slice(y, y + STRIDE * rows, STRIDE), slice(x, x + STRIDE * columns, STRIDE)
                total[time : time + frames, down, across] += seen.view(torch.half).view(*matches.shape, 4)
                votes[time : time + frames, down, across] += 1
    total = torch.cat([total, votes], 3)[:, RADIUS:-RADIUS, RADIUS:-RADIUS]
    if wrap:
        total[1] += total[-1]
        total[-2] += total[0]
        total = total[1:-1]
    return (total[..., :3] / total[..., 4:]).permute(0, 3, 1, 2).contiguous()

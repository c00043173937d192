"""MotionPrior: noise → a latent sequence that moves like the footage. One network, used in one step or in many.

A transformer over space-time tokens (2 × 2 latents of one frame each). Every token carries its own noise level
(diffusion forcing, Chen et al. 2024): 0 is given, 1 is pure noise; every frame its own time in seconds (rotary
positions, Su et al. 2021, whose time axis is seconds and not indices). It predicts the velocity of rectified flow
(Liu et al. 2023), `source - latents`, in units of the source's spread (`objectives/flow.py`). With an Encoder
(`content`) every frame is shown what windows contain, what is given in them (`Surroundings.blend`), and where it lies
between two that are.

In: latents `B T Z h w` (h and w even; between given frames as `Source.seen` shows them), levels `B T h/2 w/2` in
[0, 1], times `B T` in seconds, labels `B` (-1: none), or shares of no label and of each: `B L+1`.
Out: velocity `B T Z h w`.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reroll.parts.blocks import time_step

PATCH = 2
REACH = 8
"""Frames between two given ones that are no farther apart are made from the line between them, not from noise."""
FASTEST_SECONDS, SLOWEST_SECONDS = 0.1, 16.0
FASTEST_TOKENS, SLOWEST_TOKENS = 3.0, 64.0
WRITTEN_OUT_TOKENS = 1024


def fourier(value: Tensor, bands: int, slowest: float, fastest: float) -> Tensor:
    """`...` → `... 2·bands`: sines and cosines at wavelengths spaced geometrically from slowest to fastest."""
    wavelengths = torch.logspace(math.log10(slowest), math.log10(fastest), bands).to(value.device)
    angle = value[..., None] * (2 * math.pi / wavelengths)
    return torch.cat([angle.sin(), angle.cos()], -1)


def rotary_angles(times: Tensor, rows: int, columns: int, head_width: int) -> Tensor:
    """Angles `B N head_width/2` of every token: half of the pairs turn with time, a quarter each with y and x."""
    pairs = head_width // 2
    in_time, in_space = pairs - 2 * (pairs // 4), pairs // 4

    def frequencies(count: int, slowest: float, fastest: float) -> Tensor:
        wavelengths = torch.logspace(math.log10(slowest), math.log10(fastest), count).to(times.device)
        return 2 * math.pi / wavelengths

    t = times.float()[:, :, None, None, None] * frequencies(in_time, SLOWEST_SECONDS, FASTEST_SECONDS)
    space = frequencies(in_space, SLOWEST_TOKENS, FASTEST_TOKENS)
    y = torch.arange(rows, device=times.device)[:, None, None] * space
    x = torch.arange(columns, device=times.device)[None, :, None] * space
    shape = (*times.shape, rows, columns, -1)
    return torch.cat([t.expand(shape), y.expand(shape), x.expand(shape)], -1).flatten(1, 3)


class Surroundings(NamedTuple):
    """The given tokens (level 0) next to each place of every frame, `B T h w` each: the frames they are in (before the
    first given one and after the last both are that one), how far it is from one to the other in time, whether at that
    place nothing is given, and whether it is between two that are no more than `REACH` frames apart."""

    first: Tensor
    last: Tensor
    share: Tensor
    nothing: Tensor
    between: Tensor

    def blend(self, tokens: Tensor) -> Tensor:
        """Those tokens, of `B T h w C`, blended by time; zero where nothing is given."""

        first, last = self._given(tokens)
        blended = first.lerp(last, self.share[..., None].to(tokens.dtype))
        return blended.masked_fill(self.nothing[..., None], 0)

    def change(self, tokens: Tensor) -> Tensor:
        """How far those tokens, of `B T h w C`, are from each other: `B T h w`, root mean square."""
        first, last = self._given(tokens)
        return (last - first).square().mean(-1).sqrt()

    def _given(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        first, last = (
            tokens.gather(1, frame[..., None].expand(tokens.shape)) for frame in (self.first, self.last)
        )
        return first, last


def surroundings(levels: Tensor, times: Tensor) -> Surroundings:
    """Of tokens with such levels, `B T h w`."""
    frames = levels.shape[1]
    index = torch.arange(frames, device=levels.device)
    given = (levels == 0)[
        :, None
    ]  # of every frame by every other; windows are short, and ONNX knows no cummax
    earlier = (index[:, None] >= index)[..., None, None]
    place = index[:, None, None]
    before = torch.where(given & earlier, place, -1).amax(2)
    after = torch.where(given & earlier.transpose(0, 1), place, frames).amin(2)
    nothing = (before < 0) & (after == frames)
    first = torch.where(before < 0, after, before).clamp(max=frames - 1)
    last = torch.where(after == frames, before, after).clamp(min=0)
    at = times[:, :, None, None].expand(levels.shape)
    start, stop = at.gather(1, first), at.gather(1, last)
    share = ((at - start) / (stop - start).clamp(min=1e-6)).clamp(0, 1)
    between = (before >= 0) & (after < frames) & (before < after) & (after - before <= REACH)
    return Surroundings(first, last, share, nothing, between)


def expand_levels(levels: Tensor, latents: Tensor) -> Tensor:
    """Token levels `B T h/2 w/2` → one per latent, `B T 1 h w`."""
    patch = latents.shape[-1] // levels.shape[-1]
    return levels.repeat_interleave(patch, -2).repeat_interleave(patch, -1)[:, :, None]


def to_tokens(latents: Tensor) -> Tensor:
    """Latents `B T Z h w` → `B T h/2 w/2 4Z`."""
    tokens = F.pixel_unshuffle(latents.flatten(0, 1), PATCH).unflatten(0, latents.shape[:2])
    return tokens.permute(0, 1, 3, 4, 2)


def from_tokens(tokens: Tensor) -> Tensor:
    """Tokens `B T h/2 w/2 4Z` → latents `B T Z h w`."""
    planes = tokens.permute(0, 1, 4, 2, 3)
    return F.pixel_shuffle(planes.flatten(0, 1), PATCH).unflatten(0, planes.shape[:2])


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turn the pairs of `B N width`, channel `i` with channel `i + width/2`, by angles `B N width/2`."""
    a, b = x.chunk(2, -1)
    return torch.cat([a * cosine - b * sine, a * sine + b * cosine], -1)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention on `B heads N head_width`, written out: in bf16 on a CPU, forward and backward take half the
    time of torch's fused one (44 against 87 ms for 12 × 4 × 384 × 64, one core). Elsewhere, and where the scores would
    take much memory, the fused one. Queries are scaled already."""
    if q.device.type != "cpu" or q.shape[-2] > WRITTEN_OUT_TOKENS:
        return F.scaled_dot_product_attention(q, k, v, scale=1.0)
    with torch.autocast(q.device.type, enabled=False):  # a softmax in fp32 would copy the scores twice
        return (q @ k.transpose(-1, -2)).softmax(-1) @ v


class Block(nn.Module):
    """Attention over all tokens, then an MLP, both modulated per window (adaLN-single, Chen et al. 2023).

    What is done element by element is laid out for long runs of memory: queries and keys are normalised and turned
    at full width, before they are split into heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.mix = nn.Linear(width, width, bias=False)
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)
        self.offset = nn.Parameter(torch.zeros(6, width))

    def forward(self, x: Tensor, modulation: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        scale1, shift1, gate1, scale2, shift2, gate2 = (modulation + self.offset).float().unbind(-2)
        width = x.shape[-1:]
        q, k, v = self.qkv(torch.addcmul(shift1, F.layer_norm(x, width), 1 + scale1)).chunk(3, -1)
        temperature = (width[0] // self.heads) ** -0.5
        q = rotate(F.layer_norm(q, width) * temperature, cosine, sine)
        k = rotate(F.layer_norm(k, width), cosine, sine)
        # A head's channels are pairs that turn together: one half of them from each half of the width.
        q, k = (each.unflatten(-1, (2, self.heads, -1)).permute(0, 3, 1, 2, 4).flatten(3) for each in (q, k))
        attended = attend(q, k, v.unflatten(-1, (self.heads, -1)).transpose(1, 2)).transpose(1, 2).flatten(2)
        x = torch.addcmul(x, gate1, self.mix(attended).float())
        widened = F.relu(self.widen(torch.addcmul(shift2, F.layer_norm(x, width), 1 + scale2))).square()
        return torch.addcmul(x, gate2, self.narrow(widened).float())


class MotionPrior(nn.Module):
    """Velocity of the latents at given noise levels and times. See the module's text for shapes."""

    between: Tensor
    """Added to tokens that lie between given ones: what is shown there is in other units (`Source.seen`), and while it
    is all noise nothing else tells so. A prior that is not told takes one for the other at times, and adds its spread
    times the whole picture to the line (docs/log.md). Fixed, so that what was trained without it (zero) can go on."""

    def __init__(
        self,
        latent_channels: int,
        width: int,
        depth: int,
        heads: int,
        labels: int = 0,
        *,
        content: bool = False,
    ) -> None:
        super().__init__()
        self.heads, self.width = heads, width
        self.content = self.given = None
        if content:
            self.content = nn.Linear(latent_channels * PATCH**2, width, bias=False)
            self.given = nn.Linear(latent_channels * PATCH**2, width, bias=False)
            self.register_buffer("between", torch.randn(width) / 2)
        self.enter = nn.Linear(latent_channels * PATCH**2, width)
        self.place = nn.Linear(4 * 6, width, bias=False)
        self.token_level = nn.Linear(32, width, bias=False)
        self.level = nn.Sequential(nn.Linear(32, width), nn.SiLU(), nn.Linear(width, width))
        self.gap = nn.Linear(16, width)
        self.label = nn.Embedding(labels + 1, width)
        self.modulate = nn.Linear(width, 6 * width)
        self.blocks = nn.ModuleList([Block(width, heads) for _ in range(depth)])
        self.leave_modulate = nn.Linear(width, 2 * width)
        self.leave = nn.Linear(width, latent_channels * PATCH**2)
        for zero in (self.modulate, self.leave_modulate, self.leave):
            nn.init.zeros_(zero.weight)
            nn.init.zeros_(zero.bias)
        self.modulate.bias.data.view(6, width)[[2, 5]] = 0.3  # the gates
        nn.init.normal_(self.label.weight, std=0.5)

    def forward(
        self, latents: Tensor, levels: Tensor, times: Tensor, labels: Tensor, content: Tensor | None = None
    ) -> Tensor:
        rows, columns = levels.shape[2:]
        tokens = to_tokens(latents)
        x = self.enter(tokens.flatten(1, 3)) + self._places(rows, columns, times)
        if self.given is not None:
            near = surroundings(levels, times)
            x = x + self.given(near.blend(tokens).flatten(1, 3))
            x = x + near.between.flatten(1)[..., None] * self.between
        x = x + self.token_level(fourier(levels.flatten(1), 16, 4.0, 0.05))
        heard = labels @ self.label.weight if labels.is_floating_point() else self.label(labels + 1)
        x = x + heard[:, None]
        if content is not None:
            assert self.content is not None
            shown = F.pixel_unshuffle(content, PATCH).permute(0, 2, 3, 1).flatten(1, 2)
            x = x + self.content(shown).repeat(1, latents.shape[1], 1)
        condition = F.silu(self._condition(levels, times) + heard)[:, None]
        modulation = self.modulate(condition).unflatten(-1, (6, self.width))
        angles = rotary_angles(times, rows, columns, self.width // self.heads).repeat(1, 1, self.heads)
        x = x.float()
        dtype = (
            torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else x.dtype
        )
        cosine, sine = angles.cos().to(dtype), angles.sin().to(dtype)
        for block in self.blocks:
            x = block(x, modulation, cosine, sine)
        scale, shift = self.leave_modulate(condition).chunk(2, -1)
        x = self.leave(F.layer_norm(x, x.shape[-1:]) * (1 + scale) + shift).float()
        return from_tokens(x.unflatten(1, (latents.shape[1], rows, columns)))

    def _places(self, rows: int, columns: int, times: Tensor) -> Tensor:
        """Where a token stands in the picture, measured from its centre: `1 T·rows·columns width`."""
        y = torch.arange(rows, device=times.device) - (rows - 1) / 2
        x = torch.arange(columns, device=times.device) - (columns - 1) / 2
        features = torch.cat(
            [
                fourier(y, 6, 32.0, 2.5)[:, None].expand(-1, columns, -1),
                fourier(x, 6, 32.0, 2.5)[None].expand(rows, -1, -1),
            ],
            -1,
        )
        placed: Tensor = self.place(features).flatten(0, 1).repeat(times.shape[1], 1)[None]
        return placed

    def _condition(self, levels: Tensor, times: Tensor) -> Tensor:
        """Mean noise level of the free tokens, and mean time step: `B width`."""
        flat = levels.flatten(1)
        level = flat.sum(1) / (flat > 0).sum(1).clamp(min=1)
        by_level = self.level(fourier(level, 16, 4.0, 0.05))
        by_gap = self.gap(fourier(time_step(times).log2(), 8, 32.0, 3.0))
        condition: Tensor = by_level + by_gap
        return condition

"""The noise a one-step generator turns into video: random in space, a smooth random process in time.

A third of the channels is constant over a clip (what is in it), the rest are pairs that turn. The constant ones and
part of the pairs are the same at every place: what is whole, a person or a pose, is decided once and not by each
place for itself. Each pair is one complex process with a one-sided spectrum,

    n(t) = Σ_k a_k · exp(i ω_k t),    a_k ~ complex normal,    ω_k log-uniform in the pair's own band,

so that its value at any time in seconds is known without the time before it: any length, any frame rate and
constant memory follow, and clips cannot show a joint. One-sided, because a process with ω and -ω in equal parts
is the same forwards and backwards, and footage is not. For a loop, every ω is a multiple of 2π/period.

The bands divide what lies between slow and fast among the pairs, so that a network can make what lasts of slow channels
and what flickers of fast ones. With every pair anywhere between the two, running water changed half as much from frame
to frame as it should, and twice as much within four (docs/log.md).
"""

import math

import torch
from torch import Generator, Tensor

WAVES = 4
GLOBAL_PAIRS = 0.4
"""Share of the pairs that are the same at every place."""
OLDER_PACES = 6.0, 0.35


def motion_noise(
    times: Tensor,
    shape: tuple[int, int, int],
    generator: Generator,
    paces: tuple[float, float] | None,
    period: float | None = None,
) -> Tensor:
    """Noise `T Z h w` (variance 1) at `times` (`T`, seconds) of one clip; drawn on the CPU.

    `paces` are seconds of the slowest and of the fastest wave; None is what older runs were trained with: every pair
    anywhere between the two. With the same generator state and period, the noise at a time does not depend on the other
    times asked for.
    """
    channels, rows, columns = shape
    pairs = channels // 3
    constant = channels - 2 * pairs
    still = torch.randn(constant, 1, 1, generator=generator)
    amplitude = torch.randn(2, WAVES, pairs, rows, columns, generator=generator) / math.sqrt(WAVES)
    whole = round(GLOBAL_PAIRS * pairs)
    amplitude[:, :, :whole] = amplitude[:, :, :whole, :1, :1].clone()
    position = torch.rand(WAVES, pairs, 1, 1, generator=generator)
    if paces is not None:
        position = torch.cat([_in_bands(part) for part in position.split([whole, pairs - whole], 1)], 1)
    slow, fast = (2 * math.pi / seconds for seconds in paces or OLDER_PACES)
    omega = slow * (fast / slow) ** position.double()  # after a minute of turns fp32 would not close a loop
    if period is not None:
        omega = (omega * period / (2 * math.pi)).round().clamp(min=1) * (2 * math.pi / period)
    angle = times.double().cpu()[:, None, None, None, None] * omega
    cosine, sine = angle.cos().float(), angle.sin().float()
    real = (amplitude[0] * cosine - amplitude[1] * sine).sum(1)
    imaginary = (amplitude[0] * sine + amplitude[1] * cosine).sum(1)
    return torch.cat([still.expand(len(times), -1, rows, columns), real, imaginary], 1)


def _in_bands(position: Tensor) -> Tensor:
    """Positions `K P 1 1` in [0, 1), each pair's in a band of its own."""
    pairs = position.shape[1]
    return (torch.arange(pairs)[:, None, None] + position) / max(1, pairs)

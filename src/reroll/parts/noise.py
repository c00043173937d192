"""The noise a one-step generator turns into video: random in space, a smooth random process in time.

A third of the channels is constant over a clip (what is in it), the rest are pairs that turn. The constant ones and
part of the pairs are the same at every place: what is whole, a person or a pose, is decided once and not by each
place for itself. Each pair is one complex process with a one-sided spectrum,

    n(t) = Σ_k a_k · exp(i ω_k t),    a_k ~ complex normal,    ω_k log-uniform between slow and fast,

so that its value at any time in seconds is known without the time before it: any length, any frame rate and
constant memory follow, and clips cannot show a joint. One-sided, because a process with ω and -ω in equal parts
is the same forwards and backwards, and footage is not. For a loop, every ω is a multiple of 2π/period.
"""

import math

import torch
from torch import Generator, Tensor

WAVES = 4
GLOBAL_PAIRS = 0.4
"""Share of the pairs that are the same at every place."""
SLOWEST_SECONDS, FASTEST_SECONDS = 6.0, 0.35


def motion_noise(
    times: Tensor, shape: tuple[int, int, int], generator: Generator, period: float | None = None
) -> Tensor:
    """Noise `T Z h w` (variance 1) at `times` (`T`, seconds) of one clip; drawn on the CPU.

    With the same generator state and period, the noise at a time does not depend on the other times asked for.
    """
    channels, rows, columns = shape
    pairs = channels // 3
    constant = channels - 2 * pairs
    still = torch.randn(constant, 1, 1, generator=generator)
    amplitude = torch.randn(2, WAVES, pairs, rows, columns, generator=generator) / math.sqrt(WAVES)
    whole = round(GLOBAL_PAIRS * pairs)
    amplitude[:, :, :whole] = amplitude[:, :, :whole, :1, :1].clone()
    position = torch.rand(WAVES, pairs, 1, 1, generator=generator)
    slow, fast = 2 * math.pi / SLOWEST_SECONDS, 2 * math.pi / FASTEST_SECONDS
    omega = slow * (fast / slow) ** position.double()  # after a minute of turns fp32 would not close a loop
    if period is not None:
        omega = (omega * period / (2 * math.pi)).round().clamp(min=1) * (2 * math.pi / period)
    angle = times.double().cpu()[:, None, None, None, None] * omega
    cosine, sine = angle.cos().float(), angle.sin().float()
    real = (amplitude[0] * cosine - amplitude[1] * sine).sum(1)
    imaginary = (amplitude[0] * sine + amplitude[1] * cosine).sum(1)
    return torch.cat([still.expand(len(times), -1, rows, columns), real, imaginary], 1)

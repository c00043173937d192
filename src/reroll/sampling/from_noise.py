"""Latents of `gan`: frame by frame from noise that is known at every time, so clips have no windows and no joints."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from reroll.parts.noise import motion_noise
from reroll.recipes.gan import one_step
from reroll.sampling.coder import CHUNK_FRAMES, Coder
from reroll.sampling.settings import SampleSettings, along, generator_of

FADE_SECONDS, FADE_LOOKS = 1.0, 9
"""Over how long labels change, and at how many times around each it is looked what holds."""


def latents_from_noise(coder: Coder, settings: SampleSettings) -> Iterator[Tensor]:
    """Latents `1 T Z h w` of a clip, or of a loop, in chunks."""
    period = settings.frames / settings.fps if settings.loop else None
    for start in range(0, settings.frames, CHUNK_FRAMES):
        times = torch.arange(start, min(start + CHUNK_FRAMES, settings.frames)) / settings.fps
        noise = noise_at(settings, times, coder, period).to(coder.engine.device)
        with coder.engine.autocast():
            yield one_step(coder.model, noise[None] * settings.temperature, labels_at(coder, settings, times))


def noise_at(settings: SampleSettings, times: Tensor, coder: Coder, period: float | None) -> Tensor:
    """The noise `T Z h w` at times of a clip; of one that goes through several seeds that of each in turn, two mixed so
    that it stays as large."""
    seeds = settings.through or (settings.seed,)
    paces = coder.model.config.noise_paces
    noises = [motion_noise(times, coder.latent_shape, generator_of(seed), paces, period) for seed in seeds]
    if len(seeds) == 1:
        return noises[0]
    mixed = []
    for number, time in enumerate(times.tolist()):
        first, share = along(time * settings.fps / settings.frames, len(seeds))
        angle = share * math.pi / 2
        mixed.append(math.cos(angle) * noises[first][number] + math.sin(angle) * noises[first + 1][number])
    return torch.stack(mixed)


def labels_at(coder: Coder, settings: SampleSettings, times: Tensor) -> Tensor:
    """Shares of labels `1 T L+1` at times: each change fades in around it."""
    if len(settings.labels.changes) == 1:
        return coder.heard(settings.labels.at(0.0)).expand(len(times), -1)[None]
    looks = torch.linspace(-FADE_SECONDS / 2, FADE_SECONDS / 2, FADE_LOOKS).tolist()
    shares = [
        torch.cat([coder.heard(settings.labels.at(max(0.0, time + look))) for look in looks]).mean(0)
        for time in times.tolist()
    ]
    return torch.stack(shares)[None]

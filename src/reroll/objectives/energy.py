"""Energy distance between windows of generated and of real latents (Székely & Rizzo 2013), a generator's loss that
needs no adversary (Cramér GAN, Bellemare et al. 2017).

    E = 2·E‖x - y‖ - E‖x - x'‖ - E‖y - y'‖          x, x' generated, y, y' real; 0 where both are distributed alike

The middle term holds generated windows apart: all of them being the mean, or one good window, costs as much as a wrong
one. Labels and time steps are coordinates like the others, so that the joint distribution is compared: what moves
fast at one time step may not stand for another.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from reroll.parts.blocks import time_step
from reroll.parts.motion_prior import PATCH


def energy_loss(made: Tensor, real: Tensor, times: Tensor, labels: Tensor) -> Tensor:
    """Energy distance of generated from real latents, each `B T Z h w`, both at `times` `B T` with `labels` `B`.

    Mean of three: of windows at each place, of whole windows, of the change between frames at each place. Each is
    in units of the real windows' own distance. Raises ValueError for fewer than two windows.
    """
    if len(made) < 2:
        raise ValueError("an energy distance needs two windows or more")
    strange = _strangeness(times, labels)
    distances = []
    for x, y in zip(_views(made), _views(real.detach()), strict=True):
        unit = y.std(1).square().sum(-1).mul(2).mean().sqrt() + 1e-4  # √E‖y - y'‖²
        distances.append(energy_distance(x / unit, y / unit, strange))
    return torch.stack(distances).mean()


def energy_distance(x: Tensor, y: Tensor, strange: Tensor) -> Tensor:
    """Of samples `P N D` of each of P distributions, mean over P; `strange` `N N` is added to squared distances.

    Sample `n` of one is never compared with sample `n` of the other, which is of the same label and time step: those
    pairs are nearer than two at random.
    """
    others = ~torch.eye(x.shape[1], dtype=torch.bool, device=x.device)

    def apart(a: Tensor, b: Tensor) -> Tensor:
        squared = (a[:, :, None] - b[:, None]).square().sum(-1) + strange
        return (squared[:, others] + 1e-6).sqrt().mean()

    return 2 * apart(x, y) - apart(x, x) - apart(y, y)


def _strangeness(times: Tensor, labels: Tensor) -> Tensor:
    """Squared distance `B B` of what windows are asked to be: label and log of the time step."""
    gap = time_step(times).log()
    return (gap[:, None] - gap).square() + 2 * (labels[:, None] != labels).float()


def _views(latents: Tensor) -> Iterator[Tensor]:
    """Latents as samples `P N D` of P distributions: one for each token's place, one for the whole, one for the changes
    at each place."""
    tokens = F.pixel_unshuffle(latents.flatten(0, 1), PATCH).unflatten(0, latents.shape[:2])
    placed = tokens.permute(3, 4, 0, 1, 2).flatten(0, 1)  # P N T C
    yield placed.flatten(2)
    yield placed.transpose(0, 1).flatten(1)[None]
    if latents.shape[1] > 1:
        yield placed.diff(dim=2).flatten(2)

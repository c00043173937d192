"""Energy distance between windows of generated and of real latents (Székely & Rizzo 2013), a generator's loss that
needs no adversary (Cramér GAN, Bellemare et al. 2017).

    E = 2·E‖x - y‖ - E‖x - x'‖ - E‖y - y'‖          x, x' generated, y, y' real; 0 where both are distributed alike

The middle term holds generated windows apart: all of them being the mean, or one good window, costs as much as a wrong
one. Time steps are a coordinate like the others, so that the joint distribution is compared: what moves fast at one
time step may not stand for another. Windows of one label are compared with each other, those of others count little: as
one more coordinate, labels were not heard at all (docs/log.md).
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from reroll.parts.blocks import time_step
from reroll.parts.motion_prior import PATCH

OTHER_LABEL = 0.1
"""How much a pair of windows of different labels counts."""


def energy_loss(made: Tensor, real: Tensor, times: Tensor, labels: Tensor) -> Tensor:
    """Energy distance of generated from real latents, each `B T Z h w`, both at `times` `B T` with `labels` `B`.

    Mean of three: of windows at each place, of whole windows, of the change between frames at each place. Each is
    in units of the real windows' own distance. Raises ValueError for fewer than two windows.
    """
    if len(made) < 2:
        raise ValueError("an energy distance needs two windows or more")
    strange = _strangeness(times)
    weights = torch.where(labels[:, None] == labels, 1.0, OTHER_LABEL).fill_diagonal_(0)
    distances = []
    for x, y in zip(_views(made), _views(real.detach()), strict=True):
        unit = y.std(1).square().sum(-1).mul(2).mean().sqrt() + 1e-4  # √E‖y - y'‖²
        distances.append(energy_distance(x / unit, y / unit, strange, weights))
    return torch.stack(distances).mean()


def energy_distance(x: Tensor, y: Tensor, strange: Tensor, weights: Tensor) -> Tensor:
    """Of samples `P N D` of each of P distributions, mean over P; `strange` `N N` is added to squared distances, and
    `weights` `N N` say how much each pair counts.

    Sample `n` of one is not to be compared with sample `n` of the other, which is of the same label and time step:
    those pairs are nearer than two at random.
    """
    counted = weights > 0
    shares = weights[counted] / weights.sum()

    def apart(a: Tensor, b: Tensor) -> Tensor:
        squared = (a[:, :, None] - b[:, None]).square().sum(-1) + strange
        return ((squared[:, counted] + 1e-6).sqrt() * shares).sum(1).mean()

    return 2 * apart(x, y) - apart(x, x) - apart(y, y)


def _strangeness(times: Tensor) -> Tensor:
    """Squared distance `B B` of windows' time steps, in logarithms."""
    gap = time_step(times).log()
    return (gap[:, None] - gap).square()


def _views(latents: Tensor) -> Iterator[Tensor]:
    """Latents as samples `P N D` of P distributions: one for each token's place, one for the whole, one for the changes
    at each place."""
    tokens = F.pixel_unshuffle(latents.flatten(0, 1), PATCH).unflatten(0, latents.shape[:2])
    placed = tokens.permute(3, 4, 0, 1, 2).flatten(0, 1)  # P N T C
    yield placed.flatten(2)
    yield placed.transpose(0, 1).flatten(1)[None]
    if latents.shape[1] > 1:
        yield placed.diff(dim=2).flatten(2)

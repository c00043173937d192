"""Encoder: a frame → the posterior over its latents. Strictly per frame, so one picture is as good as a clip.

In: `N 3 H W` in [-1, 1], H and W multiples of 16. Out: mean and log-variance, each `N Z H/8 W/8`.
A convolutional Gaussian encoder (Kingma & Welling 2014) of total stride 8: pixel-unshuffle 2, then two strided
convolutions.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from reroll.parts.blocks import ResidualBlock, activate, initialise

STRIDE = 8


class Encoder(nn.Module):
    """`N 3 H W` → (mean, log-variance), each `N Z H/8 W/8`."""

    def __init__(self, widths: tuple[int, int, int], latent_channels: int) -> None:
        super().__init__()
        fine, middle, coarse = widths
        self.enter = nn.Conv2d(12, fine, 3, padding=1)
        self.fine = ResidualBlock(fine)
        self.to_middle = nn.Conv2d(fine, middle, 4, stride=2, padding=1)
        self.middle = ResidualBlock(middle)
        self.to_coarse = nn.Conv2d(middle, coarse, 4, stride=2, padding=1)
        self.coarse = nn.Sequential(ResidualBlock(coarse), ResidualBlock(coarse))
        self.leave = nn.Conv2d(coarse, 2 * latent_channels, 1)
        initialise(self)
        self.leave.weight.data.mul_(0.5)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        x = self.fine(self.enter(F.pixel_unshuffle(frames, 2)))
        x = self.middle(self.to_middle(activate(x)))
        x = self.coarse(self.to_coarse(activate(x)))
        mean, log_variance = self.leave(activate(x)).float().chunk(2, 1)
        return mean, log_variance.clamp(-12, 4) - 4

"""Decoder: latents → frames. The second half of the generator in every recipe.

In: latents `B T Z h w`. Out: frames `B T 3 8h 8w`, in [-1, 1] up to overshoot (clamped only when pixels are
written, so that gradients never die). The Encoder's mirror, per frame, plus zero-initialised three-frame residuals
at low resolution against flicker. `HALO` is how many frames each side influence a frame: decode a chunk with
that many extra frames at each side, cut them off, and it equals decoding whole.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from reroll.parts.blocks import ResidualBlock, TemporalMix, activate, initialise

HALO = 2


def repeat_for_shuffle(layer: nn.Conv2d) -> None:
    """Equal first weights for the four pixels that a pixel shuffle lays side by side (ICNR, Aitken et al. 2017): the
    first frames are smooth, where independent weights print a checkered pattern that a discriminator seizes on."""
    weight = layer.weight.data
    weight.copy_(weight[::4].repeat_interleave(4, 0))


class Decoder(nn.Module):
    """`B T Z h w` → `B T 3 8h 8w`."""

    def __init__(self, widths: tuple[int, int, int], latent_channels: int) -> None:
        super().__init__()
        fine, middle, coarse = widths
        self.enter = nn.Conv2d(latent_channels, coarse, 3, padding=1)
        self.coarse = nn.ModuleList([ResidualBlock(coarse), ResidualBlock(coarse)])
        self.coarse_time = TemporalMix(coarse)
        self.to_middle = nn.Conv2d(coarse, 4 * middle, 1)
        self.middle = nn.ModuleList([ResidualBlock(middle), ResidualBlock(middle)])
        self.middle_time = TemporalMix(middle)
        self.to_fine = nn.Conv2d(middle, 4 * fine, 1)
        self.fine = nn.ModuleList([ResidualBlock(fine), ResidualBlock(fine)])
        self.leave = nn.Conv2d(fine, 12, 3, padding=1)
        initialise(self)
        for shuffled in (self.to_middle, self.to_fine, self.leave):
            repeat_for_shuffle(shuffled)
        self.leave.weight.data.mul_(0.3)

    def forward(self, latents: Tensor) -> Tensor:
        frames = latents.shape[1]
        x = self.enter(latents.flatten(0, 1))
        for block in self.coarse:
            x = block(x)
        x = self.coarse_time(x, frames)
        x = F.pixel_shuffle(self.to_middle(activate(x)), 2)
        for block in self.middle:
            x = block(x)
        x = self.middle_time(x, frames)
        x = F.pixel_shuffle(self.to_fine(activate(x)), 2)
        for block in self.fine:
            x = block(x)
        pixels = F.pixel_shuffle(self.leave(activate(x)), 2)
        return pixels.float().unflatten(0, (-1, frames))

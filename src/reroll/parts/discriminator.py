"""Discriminator: real or generated? Of frames, and of the change between them.

A 2-D residual trunk shared over frames sees each frame beside its difference to the frame before; the temporal
head joins three neighbouring frames' features with their time steps. Two verdicts: `fine`, one logit for every
8 × 8 pixels (texture, edges, small motion), and `wide`, from frames four times smaller, one for every 16 × 16 pixels
and most of the picture around them (what is where): it gives a generator that knows nothing something to begin with.

For `gan` it also says what it sees as latents, from which the Decoder has to redraw the frame (a self-supervised
discriminator, Liu et al. 2021, FastGAN): features that forget what is in a frame cannot.

A label is heard by projection (Miyato & Koyama 2018). In: frames `B T 3 H W` in [-1, 1], times `B T` in seconds,
labels `B` (-1: none). Out: `Verdict`.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reroll.parts.blocks import ResidualBlock, activate, beside_change, initialise, time_step


class Verdict(NamedTuple):
    """Logits (above 0: real) and the trunk's features, used as a reconstruction metric."""

    fine: Tensor
    wide: Tensor
    features: list[Tensor]


class Discriminator(nn.Module):
    """`B T 3 H W`, `B T` → logits `B T H/8 W/8` and `B T H/16 W/16`, features of two depths; with `latent_channels`,
    also → latents."""

    def __init__(self, widths: tuple[int, int, int], labels: int = 0, latent_channels: int = 0) -> None:
        super().__init__()
        fine, middle, coarse = widths
        self.enter = nn.Conv2d(24, fine, 3, padding=1)
        self.fine = ResidualBlock(fine)
        self.to_middle = nn.Conv2d(fine, middle, 4, stride=2, padding=1)
        self.middle = ResidualBlock(middle)
        self.to_coarse = nn.Conv2d(middle, coarse, 4, stride=2, padding=1)
        self.coarse = ResidualBlock(coarse)
        self.join = nn.Conv2d(3 * coarse + 1, coarse, 1)
        # No bias: relativistic losses see differences of logits only, it would never get a gradient.
        self.judge_fine = nn.Conv2d(coarse, 1, 1, bias=False)
        self.enter_wide = nn.Conv2d(6, middle, 3, padding=1)
        self.wide = ResidualBlock(middle)
        self.to_widest = nn.Conv2d(middle, coarse, 4, stride=2, padding=1)
        self.widest = nn.Sequential(ResidualBlock(coarse), ResidualBlock(coarse))
        self.join_wide = nn.Conv2d(3 * coarse + 1, coarse, 3, stride=2, padding=1)
        self.judge_wide = nn.Conv2d(coarse, 1, 1, bias=False)
        self.redraw = nn.Conv2d(coarse, latent_channels, 1) if latent_channels else None
        self.label = nn.Embedding(labels + 1, coarse)
        nn.init.normal_(self.label.weight, std=0.02)
        initialise(self)
        for judge in (self.judge_fine, self.judge_wide):
            judge.weight.data.mul_(0.1)

    def forward(self, frames: Tensor, times: Tensor, labels: Tensor | None = None) -> Verdict:
        count = frames.shape[1]
        seen = beside_change(frames)
        b, c = self._trunk(seen)
        joined = activate(self.join(self._neighbours(activate(c), times)))
        wide = self.wide(self.enter_wide(F.avg_pool2d(seen, 4)))
        wide = self.widest(self.to_widest(activate(wide)))
        wide = activate(self.join_wide(self._neighbours(activate(wide), times)))
        shape = (-1, count)
        none = torch.full(times.shape[:1], -1, device=times.device)
        label = self.label((none if labels is None else labels) + 1).repeat_interleave(count, 0)
        fine, wide = (
            judge(seen) + (seen * label[:, :, None, None]).sum(1, keepdim=True)
            for judge, seen in ((self.judge_fine, joined), (self.judge_wide, wide))
        )
        return Verdict(
            fine.float().unflatten(0, shape)[:, :, 0], wide.float().unflatten(0, shape)[:, :, 0], [b, joined]
        )

    def latents(self, frames: Tensor) -> Tensor:
        """Frames `B T 3 H W`, H and W multiples of 16 → what is seen in them, as the Decoder takes it: `B T Z H/8 W/8`.

        Raises TypeError for a Discriminator without `latent_channels`.
        """
        if self.redraw is None:
            raise TypeError("this discriminator gives no latents")
        _, c = self._trunk(beside_change(frames))
        latents: Tensor = self.redraw(activate(c))
        return latents.float().unflatten(0, frames.shape[:2])

    def seeing(self) -> list[nn.Parameter]:
        """Parameters of the layers from frames to latents."""
        layers = self.enter, self.fine, self.to_middle, self.middle, self.to_coarse, self.coarse, self.redraw
        return [p for layer in layers if layer is not None for p in layer.parameters()]

    def _trunk(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Features at a quarter and at an eighth of the size."""
        a = self.fine(self.enter(F.pixel_unshuffle(seen, 2)))
        b = self.middle(self.to_middle(activate(a)))
        return b, self.coarse(self.to_coarse(activate(b)))

    @staticmethod
    def _neighbours(features: Tensor, times: Tensor) -> Tensor:
        """Each frame's features beside its neighbours', and the log of the window's time step."""
        clip = features.unflatten(0, times.shape)
        before = torch.cat([clip[:, :1], clip[:, :-1]], 1)
        after = torch.cat([clip[:, 1:], clip[:, -1:]], 1)
        step = time_step(times).log()[:, None, None, None, None].expand(*clip.shape[:2], 1, *clip.shape[3:])
        return torch.cat([before, clip, after, step.to(clip.dtype)], 2).flatten(0, 1)

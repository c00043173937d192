"""LatentDiscriminator: made of noise, or seen in footage? Of latents, as `gan`'s MotionPrior makes them: no frame
has to be drawn for it.

What a comparison of distances does not see in thousands of dimensions, that the two halves of a face do not belong
together, a network learns to (docs/log.md). Two verdicts, as of the Discriminator of frames: `fine`, one logit for each
place of a window, and `wide`, one for all of it.

In: latents `B 3 Z h w` in units of each channel's deviation, times `B 3` in seconds, labels `B` (-1: none). Out:
`Verdict`, without features.
"""

import torch
from torch import Tensor, nn

from reroll.parts.blocks import ResidualBlock, activate, beside_change, initialise, time_step
from reroll.parts.discriminator import Verdict

WINDOW = 3
"""Frames that are judged together."""


class LatentDiscriminator(nn.Module):
    """`B 3 Z h w`, `B 3` → logits `B h w` and `B 1`."""

    def __init__(self, latent_channels: int, width: int, labels: int = 0) -> None:
        super().__init__()
        self.enter = nn.Conv2d(2 * latent_channels, width, 3, padding=1)
        self.frame = ResidualBlock(width)
        self.join = nn.Conv2d(WINDOW * width + 1, width, 1)
        self.window = ResidualBlock(width)
        self.to_middle = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.middle = ResidualBlock(width)
        self.to_coarse = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.coarse = ResidualBlock(width)
        # No bias, as in the Discriminator of frames: a relativistic loss gives it no gradient.
        self.judge_fine = nn.Conv2d(width, 1, 1, bias=False)
        self.judge_wide = nn.Linear(width, 1, bias=False)
        self.label = nn.Embedding(labels + 1, width)
        nn.init.normal_(self.label.weight, std=0.02)
        initialise(self)

    def forward(self, latents: Tensor, times: Tensor, labels: Tensor | None = None) -> Verdict:
        frames = activate(self.frame(self.enter(beside_change(latents))))
        frames = frames.unflatten(0, latents.shape[:2]).flatten(1, 2)
        step = time_step(times).log()[:, None, None, None].expand(-1, 1, *frames.shape[2:])
        joined = activate(self.window(self.join(torch.cat([frames, step.to(frames.dtype)], 1))))
        middle = activate(self.middle(self.to_middle(joined)))
        whole = activate(self.coarse(self.to_coarse(middle))).mean((2, 3))
        none = torch.full(times.shape[:1], -1, device=times.device)
        label = self.label((none if labels is None else labels) + 1)
        fine = self.judge_fine(joined)[:, 0] + (joined * label[:, :, None, None]).sum(1)
        wide = self.judge_wide(whole) + (whole * label).sum(1, keepdim=True)
        return Verdict(fine.float(), wide.float(), [])

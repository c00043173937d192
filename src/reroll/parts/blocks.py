"""Building blocks shared by the parts. Frames are folded into the batch (`N = B·T`) for every 2-D convolution;
only `TemporalMix` looks across frames.

Residual branches carry no normalisation: their last layer starts at zero, so each block starts as the identity
(Fixup, Zhang et al. 2019; R3GAN, Huang et al. 2024, shows the same trunk holds up in a GAN). On a CPU a group
norm costs about as much as a thin convolution.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.2


def activate(x: Tensor) -> Tensor:
    """Leaky ReLU with gain √2, so that variance is kept."""
    return F.leaky_relu(x, SLOPE) * 1.4


def time_step(times: Tensor) -> Tensor:
    """Mean step `B` of windows' times `B T`, in seconds, a millisecond at least: its log is taken."""
    return ((times[:, -1] - times[:, 0]) / max(1, times.shape[1] - 1)).clamp(min=1e-3)


def beside_change(clip: Tensor) -> Tensor:
    """Each frame of `B T C H W` and twice its change from the one before: `B·T 2C H W`."""
    count, change = clip.shape[1], clip.diff(dim=1)
    first = change[:, :1] if count > 1 else torch.zeros_like(clip)
    return torch.cat([clip, 2 * torch.cat([first, change], 1)[:, :count]], 2).flatten(0, 1)


class ResidualBlock(nn.Module):
    """`x + conv(act(conv(act(x))))` on `N C H W`; the second convolution starts at zero."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.second(activate(self.first(activate(x))))
        return out


class TemporalMix(nn.Module):
    """A zero-initialised residual over three neighbouring frames, `B·T C h w` in and out.

    At a window's ends the missing neighbour is the end frame itself, so a single frame is valid input and a
    caller that gives one more frame at each side and cuts it off gets the same values as decoding whole.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3 * channels, channels, 1)
        nn.init.zeros_(self.mix.weight)
        nn.init.zeros_(self.mix.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, frames: int) -> Tensor:
        clip = x.unflatten(0, (-1, frames))
        before = torch.cat([clip[:, :1], clip[:, :-1]], 1)
        after = torch.cat([clip[:, 1:], clip[:, -1:]], 1)
        neighbours = torch.cat([before - clip, clip, after - clip], 2).flatten(0, 1)
        out: Tensor = x + self.mix(activate(neighbours))
        return out


def initialise(module: nn.Module) -> None:
    """He initialisation for every convolution and linear layer that was not set to zero on purpose."""
    for layer in module.modules():
        if not isinstance(layer, nn.Conv2d | nn.Linear) or layer.weight.is_meta:  # only its shape is wanted
            continue
        if layer.weight.abs().sum() > 0:
            nn.init.kaiming_normal_(layer.weight, a=SLOPE)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

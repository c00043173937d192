"""VideoModel: the parts that make a sample, with the footage's grid and the latents' statistics.

The Discriminator is not in it: it trains the model and is never sampled from. Outside the parts, latents are
whitened: mean 0 and variance 1 per channel over the footage.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reroll.config import ModelConfig
from reroll.parts.decoder import Decoder
from reroll.parts.encoder import STRIDE, Encoder
from reroll.parts.motion_prior import PATCH, MotionPrior

GRID = STRIDE * PATCH


class VideoModel(nn.Module):
    """Encoder (unless the recipe has none), MotionPrior and Decoder for frames of one size."""

    latent_mean: Tensor
    latent_scale: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.latent_channels
        self.encoder = Encoder(config.decoder_widths, channels) if config.encoder else None
        self.decoder = Decoder(config.decoder_widths, channels)
        self.motion_prior = MotionPrior(
            channels, config.prior_width, config.prior_depth, config.prior_heads, len(config.labels)
        )
        self.register_buffer("latent_mean", torch.zeros(channels))
        self.register_buffer("latent_scale", torch.ones(channels))

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """`Z h w` of one frame: the picture padded to whole tokens, divided by 8."""
        config = self.config
        return config.latent_channels, -(-config.height // GRID) * PATCH, -(-config.width // GRID) * PATCH

    def pad(self, frames: Tensor) -> Tensor:
        """`B T 3 H W` → `N 3 H' W'` with edges repeated up to whole tokens."""
        flat = frames.flatten(0, 1)
        padded = F.pad(flat, (0, -flat.shape[-1] % GRID, 0, -flat.shape[-2] % GRID), mode="replicate")
        return padded.contiguous(memory_format=torch.channels_last)

    def posterior(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance, `B T Z h w`, of raw (not whitened) latents of frames `B T 3 H W`."""
        if self.encoder is None:
            raise TypeError("this recipe has no encoder")
        mean, log_variance = self.encoder(self.pad(frames))
        shape = frames.shape[:2]
        return mean.unflatten(0, shape), log_variance.unflatten(0, shape)

    def decode_raw(self, latents: Tensor) -> Tensor:
        """Raw latents `B T Z h w` → frames `B T 3 H W`, the padding cropped."""
        frames: Tensor = self.decoder(latents)
        return frames[..., : self.config.height, : self.config.width]

    def whiten(self, latents: Tensor) -> Tensor:
        """Raw latents → whitened ones, `B T Z h w`."""
        return (latents - self.latent_mean[:, None, None]) / self.latent_scale[:, None, None]

    def decode(self, latents: Tensor) -> Tensor:
        """Whitened latents `B T Z h w` → frames `B T 3 H W`."""
        return self.decode_raw(latents * self.latent_scale[:, None, None] + self.latent_mean[:, None, None])

    def encode(self, frames: Tensor) -> Tensor:
        """Frames `B T 3 H W` in [-1, 1] → whitened posterior means `B T Z h w`."""
        return self.whiten(self.posterior(frames)[0])

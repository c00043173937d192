"""The variational autoencoder's objective: reconstruction and KL (Kingma & Welling 2014, equation 10)."""

import torch
import torch.nn.functional as F
from torch import Tensor

CHANGE_WEIGHT, EDGE_WEIGHT = 0.5, 1.5
MOVING_WEIGHT, MOVING_MOST = 0.5, 8.0
"""Share of the loss that is counted by how much a place moves, and what a place can weigh of it at most."""
CELL = 8
"""Pixels on a side over which motion is averaged, as many as a latent covers."""


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL( N(mean, exp(log_variance)) ‖ N(0, I) ) per element; same shape as `mean`; never negative."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)


def reparameterise(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """A sample of the posterior: `mean + noise · standard deviation`."""
    return mean + noise * (0.5 * log_variance).exp()


def reconstruction_loss(decoded: Tensor, frames: Tensor) -> Tensor:
    """Mean absolute error of frames `B T 3 H W`, of the change between neighbouring frames, and of edges: the change
    between neighbouring pixels.

    The second is what keeps motion from being averaged, a flickering or frozen detail costs nothing extra in the
    first; the third keeps fine detail, which is a small part of the first. All are counted for more where the footage
    moves: a still background is right long before a hand is (measured: docs/log.md).
    """
    error, weight = decoded - frames, moving_weight(frames)
    loss = (error.abs() * weight).mean() + EDGE_WEIGHT * (
        (error.diff(dim=-1).abs() * weight[..., 1:]).mean()
        + (error.diff(dim=-2).abs() * weight[..., 1:, :]).mean()
    )
    if frames.shape[1] > 1:
        loss = loss + CHANGE_WEIGHT * (error.diff(dim=1).abs() * weight).mean()
    return loss


def moving_weight(frames: Tensor) -> Tensor:
    """What each place of windows `B T 3 H W` weighs, `B 1 1 H W`: about 1 on average over a window, 1 everywhere in one
    that is still."""
    moved = (frames - frames.mean(1, keepdim=True)).abs().mean(2).amax(1, keepdim=True)
    cells = F.avg_pool2d(moved, CELL, ceil_mode=True)
    near = F.interpolate(cells, size=frames.shape[-2:], mode="bilinear", align_corners=False)
    still = 1e-3  # an eighth of a grey level
    share = (near + still) / (near.mean((2, 3), keepdim=True) + still)
    return (1 - MOVING_WEIGHT + MOVING_WEIGHT * share.clamp(max=MOVING_MOST))[:, :, None]


def signal_to_noise(decoded: Tensor, frames: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of frames in [-1, 1], as one number."""
    error = (decoded.clamp(-1, 1) - frames).square().mean() / 4
    return -10 * torch.log10(error.clamp(min=1e-10))

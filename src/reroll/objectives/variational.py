"""The variational autoencoder's objective: reconstruction and KL (Kingma & Welling 2014, equation 10)."""

import torch
from torch import Tensor

CHANGE_WEIGHT, EDGE_WEIGHT = 0.5, 1.5


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
    first; the third keeps fine detail, which is a small part of the first (measured: docs/log.md).
    """
    error = decoded - frames
    loss = error.abs().mean() + EDGE_WEIGHT * (
        error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    )
    if frames.shape[1] > 1:
        loss = loss + CHANGE_WEIGHT * error.diff(dim=1).abs().mean()
    return loss


def signal_to_noise(decoded: Tensor, frames: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of frames in [-1, 1], as one number."""
    error = (decoded.clamp(-1, 1) - frames).square().mean() / 4
    return -10 * torch.log10(error.clamp(min=1e-10))

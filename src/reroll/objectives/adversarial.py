"""The adversarial losses: a relativistic pair loss with zero-centred gradient penalties.

    discriminator   softplus(-(D(real) - D(generated))) + γ/2·(R1 + R2)
    generator       softplus(-(D(generated) - D(real)))

after Jolicoeur-Martineau 2019 and R3GAN (Huang et al. 2024), whose analysis needs the penalty on real (R1) and on
generated frames (R2) alike. The penalty is taken in finite differences, E‖D(x + σε) - D(x)‖²/σ², which is the
squared gradient norm for small σ and costs one more forward instead of a double backward.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from reroll.parts.discriminator import Verdict

SIGMA = 0.02


def relativistic_loss(better: Verdict, worse: Verdict) -> Tensor:
    """How far `better` is from being judged more real than `worse`, mean over both verdicts' logits."""
    return 0.5 * (F.softplus(worse.fine - better.fine).mean() + F.softplus(worse.wide - better.wide).mean())


def feature_loss(generated: Verdict, real: Verdict) -> Tensor:
    """Mean absolute distance of the discriminator's features, each depth scaled by its own size."""
    terms = [
        (a.float() - b.detach().float()).abs().mean() / (b.detach().float().abs().mean() + 1e-4)
        for a, b in zip(generated.features, real.features, strict=True)
    ]
    return torch.stack(terms).mean()


def matching_loss(generated: Verdict, real: Verdict) -> Tensor:
    """Distance of the discriminator's features at each place, averaged over the batch (feature matching, Salimans et
    al. 2016), each depth scaled by its own size: what is where, for a generator that is far off."""
    terms = [
        (a.float().mean(0) - b.detach().float().mean(0)).abs().mean()
        / (b.detach().float().abs().mean() + 1e-4)
        for a, b in zip(generated.features, real.features, strict=True)
    ]
    return torch.stack(terms).mean()


def gradient_penalty(
    discriminator: Callable[[Tensor, Tensor], Verdict], frames: Tensor, times: Tensor, generator: Generator
) -> Tensor:
    """E‖∇ₓ mean logit(x)‖² per window, in finite differences, each verdict's own (call it in fp32).

    Summed over pixels like R1 (Mescheder et al. 2018); the scalar is the mean logit of each verdict.
    """
    noise = torch.randn(frames.shape, generator=generator).to(frames)
    here = discriminator(frames, times)
    there = discriminator(frames + SIGMA * noise, times)
    penalty = torch.zeros((), device=frames.device)
    for a, b in ((here.fine, there.fine), (here.wide, there.wide)):
        penalty = penalty + ((b.flatten(1).mean(1) - a.flatten(1).mean(1)) / SIGMA).square().mean()
    return penalty


def exact_penalty(discriminator: Callable[[Tensor], Verdict], data: Tensor) -> Tensor:
    """E‖∇ₓ (sum of both verdicts' mean logits)‖² per window of `data` `B …`, by a double backward (call it in fp32).

    In finite differences the same is unbiased, but so noisy that a LatentDiscriminator with it stayed at chance
    (docs/log.md).
    """
    here = data.detach().requires_grad_()
    verdict = discriminator(here.clone())  # a leaf itself would stop torch's FLOP counter
    logits = verdict.fine.flatten(1).mean(1) + verdict.wide.flatten(1).mean(1)
    (gradient,) = torch.autograd.grad(logits.sum(), here, create_graph=True)
    return gradient.square().flatten(1).sum(1).mean()


def blur(frames: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of `B T 3 H W` by `sigma` pixels; under 0.2 pixels the frames themselves.

    Edges are mirrored, which makes it a symmetric matrix: its own transpose.
    """
    if sigma < 0.2:
        return frames
    radius = int(3 * sigma + 0.5)
    taps = torch.arange(-radius, radius + 1, device=frames.device)
    kernel = torch.exp(-0.5 * (taps / sigma).square())
    kernel = (kernel / kernel.sum()).to(frames.dtype).expand(3, 1, -1)

    def mirrored(size: int) -> Tensor:
        place = torch.arange(-radius, size + radius, device=frames.device) % (2 * size)
        return torch.minimum(place, 2 * size - 1 - place)

    height, width = frames.shape[-2:]
    flat = frames.flatten(0, 1)[..., mirrored(height), :][..., mirrored(width)]
    flat = F.conv2d(flat, kernel[:, :, :, None], groups=3)
    return F.conv2d(flat, kernel[:, :, None], groups=3).unflatten(0, frames.shape[:2])


def augment(frames: Tensor, strength: float, generator: Generator) -> Tensor:
    """Brightness, contrast, shift and cut-out, differentiable (DiffAugment, Zhao et al. 2020).

    The same change over all frames of a window `B T 3 H W`; each window is changed with probability `strength`. Give
    real and generated frames generators of equal seed to have both changed alike.
    """
    batch, _, _, height, width = frames.shape
    draw = torch.rand(batch, 7, generator=generator).to(frames.device)
    on = (draw[:, 0] < strength).float()[:, None, None, None, None]

    def spread(column: int) -> Tensor:
        return (draw[:, column, None, None, None, None] - 0.5) * 2 * on

    mean = frames.mean((2, 3, 4), keepdim=True)
    out = (frames - mean) * (1 + 0.3 * spread(1)) + mean + 0.3 * spread(2)
    y = torch.arange(height, device=frames.device) + (spread(3) * height / 8).round().flatten()[:, None]
    x = torch.arange(width, device=frames.device) + (spread(4) * width / 8).round().flatten()[:, None]
    rows = y.clamp(0, height - 1).long()[:, None, None, :, None]
    columns = x.clamp(0, width - 1).long()[:, None, None, None, :]
    out = out.gather(3, rows.expand_as(out)).gather(4, columns.expand_as(out))
    centre_y, centre_x = draw[:, 5, None] * height, draw[:, 6, None] * width
    near_y = (torch.arange(height, device=frames.device) - centre_y).abs() < height / 6
    near_x = (torch.arange(width, device=frames.device) - centre_x).abs() < width / 6
    hole = (near_y[:, :, None] & near_x[:, None, :])[:, None, None] & (on > 0)
    return out.masked_fill(hole, 0.0)

"""The LatentDiscriminator's part in `gan`: it judges latents made of noise beside those seen in footage, and learns.

As in `adversary.py` one forward pass of each serves both sides, and both move at once.
"""

import torch
from torch import Tensor

from reroll.objectives.adversarial import exact_penalty, relativistic_loss
from reroll.recipes.adversary import scaled
from reroll.recipes.context import Context, Networks, OptimizerSpec

RATE = 5e-4
PENALTY_WEIGHT = 0.5
PENALTY_EVERY, PENALTY_WINDOWS = 2, 8
"""As in `adversary.py`; more of them, since latents are small."""


def optimizer(networks: Networks) -> OptimizerSpec:
    """The LatentDiscriminator's, in any stage."""
    assert networks.latent_discriminator is not None
    judge = list(networks.latent_discriminator.parameters())
    return OptimizerSpec(judge, RATE, (0.0, 0.99), muon=False, constant=True)


def judged(
    context: Context, made: Tensor, seen: Tensor, times: Tensor, labels: Tensor, beside: Tensor, share: float
) -> tuple[Tensor, dict[str, float]]:
    """A term whose gradient at the latents `made` `B 3 Z h w` is that of the verdict on them beside those `seen` in
    footage, at `share` times the size of the gradient of `beside`; then one step of the LatentDiscriminator. What comes
    with the term is logged.
    """
    judge = context.networks.latent_discriminator
    assert judge is not None
    unit = seen.detach().std((0, 1, 3, 4), keepdim=True) + 1e-4
    real = seen.detach() / unit
    generated = made.detach().requires_grad_()
    with context.autocast():
        on_real, on_generated = (judge(data, times, labels) for data in (real, generated / unit))
    loss = relativistic_loss(on_generated, on_real)
    gradient = torch.autograd.grad(loss, generated, retain_graph=True)[0]
    exact = torch.autograd.grad(beside, made, retain_graph=True)[0]
    term = (made * scaled(gradient, exact, share)).sum()
    terms = {"latent discriminator": relativistic_loss(on_real, on_generated)}
    if context.step % PENALTY_EVERY == 0:
        few = slice(PENALTY_WINDOWS)
        both = torch.cat([real[few], (generated.detach() / unit)[few]])
        gaps, heard = (torch.cat([each[few], each[few]]) for each in (times, labels))
        with context.full_precision():
            penalty = exact_penalty(lambda windows: judge(windows, gaps, heard), both)
        terms["latent penalty"] = PENALTY_EVERY * PENALTY_WEIGHT * penalty
    context.update("latent_discriminator", terms)
    return term, {"latent_discriminator": terms["latent discriminator"].item()}

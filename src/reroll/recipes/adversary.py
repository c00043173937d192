"""The Discriminator's part in `gan` and `vaegan`: it judges real and generated windows, and learns from it.

One forward pass of each serves both sides: the generator gets the gradient of its loss at the pixels, the
Discriminator that of its own at its weights. Both sides move at once (simultaneous gradient descent; its
convergence under a gradient penalty: Mescheder et al. 2018).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reroll.objectives.adversarial import augment, exact_penalty, gradient_penalty, relativistic_loss
from reroll.parts.discriminator import Verdict
from reroll.recipes.context import Context, Footage, Networks, OptimizerSpec

PENALTY_EVERY, PENALTY_WINDOWS = 4, 2
"""Steps from one gradient penalty to the next (lazy regularisation, Karras et al. 2020), and windows of each kind."""


@dataclass(frozen=True)
class Contest:
    """Real windows, generated ones (`data` is a leaf that takes gradients), and the verdicts on both."""

    real: Footage
    generated: Footage
    on_real: Verdict
    on_generated: Verdict

    def gradient(self, loss: Tensor) -> Tensor:
        """Of `loss` at the generated pixels, `B T 3 H W`."""
        return torch.autograd.grad(loss, self.generated.data, retain_graph=True)[0]


def optimizer(networks: Networks, learning_rate: float) -> OptimizerSpec:
    """The Discriminator's: Adam without momentum, at a constant rate, because the generator's must not fall alone."""
    assert networks.discriminator is not None
    judge = list(networks.discriminator.parameters())
    return OptimizerSpec(judge, learning_rate, (0.0, 0.99), muon=False, constant=True)


def shuffled(networks: Networks) -> list[nn.Parameter]:
    """The Decoder's layers before a pixel shuffle. Against a Discriminator these are Adam's: Muon makes the rows of an
    update orthogonal and so drives pixels that are laid side by side apart, which prints a grid over everything."""
    decoder = networks.model.decoder
    weights: list[nn.Parameter] = [
        layer.weight  # type: ignore[misc]
        for layer in (decoder.to_middle, decoder.to_fine, decoder.leave)
    ]
    return weights


def scaled(gradient: Tensor, beside: Tensor, share: float) -> Tensor:
    """The adversary's gradient at the pixels at `share` times the size of the one beside it."""
    return gradient * (share * beside.norm() / (gradient.norm() + 1e-12))


def contest(context: Context, real: Footage, generated: Footage) -> Contest:
    """Judge both, augmented alike; as many windows and frames of each."""
    discriminator = context.networks.discriminator
    assert discriminator is not None
    generated = generated._replace(data=generated.data.detach().requires_grad_())
    verdicts = []
    for footage in (real, generated):
        seen = augment(footage.data, context.augmentation, context.generator_for("augment"))
        with context.autocast():
            verdicts.append(discriminator(seen, footage.times, footage.labels))
    return Contest(real, generated, *verdicts)


def discriminator_update(
    context: Context,
    of: Contest,
    penalty_weight: float,
    extra: tuple[Tensor, Tensor] | None = None,
    exact: bool = False,
) -> dict[str, float]:
    """One step of the Discriminator on what it has judged, and on `extra`, (something it said, its gradient); what
    comes back is logged. The penalty is taken in finite differences unless it is to be `exact`."""
    discriminator = context.networks.discriminator
    assert discriminator is not None
    terms = {"discriminator": relativistic_loss(of.on_real, of.on_generated)}
    if context.step % PENALTY_EVERY == 0:
        both = [
            torch.cat([real[:PENALTY_WINDOWS], made[:PENALTY_WINDOWS].detach()])
            for real, made in zip(of.real, of.generated, strict=True)
        ]
        frames, times, labels = both
        with context.full_precision():
            if exact:
                penalty = exact_penalty(lambda moved: discriminator(moved, times, labels), frames)
            else:
                penalty = gradient_penalty(
                    lambda moved, gaps: discriminator(moved, gaps, labels),
                    frames,
                    times,
                    context.generator_for("penalty"),
                )
        terms["penalty"] = PENALTY_EVERY * penalty_weight * penalty
    context.update("discriminator", terms, extra)
    # A relativistic loss leaves the logits' common offset free: signs are taken around the middle of the two.
    real, made = of.on_real.fine, of.on_generated.fine
    middle = (real.mean() + made.mean()) / 2
    return {
        "discriminator": terms["discriminator"].item(),
        "real_sign": (real - middle).sign().mean().item(),
        "fake_sign": (made - middle).sign().mean().item(),
        "margin_sign": (real - made).sign().mean().item(),
    }

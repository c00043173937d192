"""`vaegan`: the VAE whose reconstruction is also judged by a Discriminator, then a MotionPrior finished by it.

Four stages. `autoencoder` is the `vae`'s; `adversarial` goes on with it, with the Discriminator's features as an
added reconstruction metric and its verdict as a loss (VAE/GAN, Larsen et al. 2016; VQGAN, Esser et al. 2021), at
a strength that rises while the Discriminator learns. `prior` is the `vae`'s. `finish` lets the Discriminator judge
clips sampled in a few steps, with flow matching and reconstruction as anchors, so that few steps are enough.
"""

from dataclasses import replace

import torch
from torch import Tensor

from reroll.objectives.adversarial import augment, feature_loss, gradient_penalty, relativistic_loss
from reroll.objectives.flow import denoise
from reroll.objectives.variational import reconstruction_loss, signal_to_noise
from reroll.parts.discriminator import Verdict
from reroll.recipes import vae
from reroll.recipes.context import Context, Footage, Networks, OptimizerSpec, StageSpec

RAMP = 0.5
"""Share of the stage over which the adversary comes up to strength: an untrained one would wreck the Decoder."""
ADVERSARIAL_SHARE = 0.6
"""Gradient of the adversary at the pixels, as a multiple of the reconstruction's, once ramped up."""
PENALTY_WEIGHT, PENALTY_EVERY = 0.1, 2
FINISH_FRAMES = 6
FINISH_WEIGHT = 0.005
"""Ten times as much printed a grid over everything within forty steps (docs/log.md)."""


class VaeGan:
    """Encoder + Decoder by ELBO and adversary; MotionPrior by flow matching, finished adversarially."""

    name = "vaegan"
    stages = (
        StageSpec("autoencoder", 0.2),
        StageSpec("adversarial", 0.18),
        StageSpec("prior", 0.56, on_latents=True, repeats=True),
        StageSpec("finish", 0.06, on_latents=True, repeats=True),
    )
    has_encoder = True
    has_discriminator = True

    def optimizers(self, stage: str, networks: Networks) -> dict[str, OptimizerSpec]:
        assert networks.discriminator is not None
        judge = OptimizerSpec(list(networks.discriminator.parameters()), 1e-3, (0.0, 0.99), constant=True)
        if stage == "finish":
            model = networks.model
            made_by = [*model.motion_prior.parameters(), *model.decoder.parameters()]
            return {"generator": OptimizerSpec(made_by, 3e-4), "discriminator": judge}
        if stage == "adversarial":
            both = vae.Vae().optimizers("autoencoder", networks)["autoencoder"]
            return {"autoencoder": replace(both, learning_rate=1.5e-3), "discriminator": judge}
        return vae.Vae().optimizers(stage, networks)

    def step(self, stage: str, context: Context) -> dict[str, float]:
        match stage:
            case "autoencoder":
                return vae.autoencoder_step(context)
            case "adversarial":
                return adversarial_step(context)
            case "prior":
                return vae.prior_step(context)
            case _:
                return finish_step(context)


def judge(context: Context, frames: Tensor, times: Tensor, labels: Tensor) -> Verdict:
    """The Discriminator's verdict on augmented frames; the same call augments real and generated alike."""
    discriminator = context.networks.discriminator
    assert discriminator is not None
    seen = augment(frames, context.augmentation, context.generator_for("augment"))
    with context.autocast():
        verdict: Verdict = discriminator(seen, times, labels)
    return verdict


def discriminator_update(
    context: Context,
    real: Footage,
    generated: Tensor,
    made_as: Footage,
    penalty_weight: float = PENALTY_WEIGHT,
) -> dict[str, float]:
    """One step of the Discriminator on real windows and (detached) generated ones whose times and labels are those of
    `made_as`."""
    discriminator = context.networks.discriminator
    assert discriminator is not None
    on_real = judge(context, real.data, real.times, real.labels)
    on_generated = judge(context, generated.detach(), made_as.times, made_as.labels)
    terms = {"discriminator": relativistic_loss(on_real, on_generated)}
    if context.step % PENALTY_EVERY == 0:
        both = torch.cat([real.data[:1], generated.detach()[:1]])
        times = torch.cat([real.times[:1], made_as.times[:1]])
        labels = torch.cat([real.labels[:1], made_as.labels[:1]])
        with context.full_precision():
            penalty = gradient_penalty(
                lambda frames, gaps: discriminator(frames, gaps, labels),
                both,
                times,
                context.generator_for("penalty"),
            )
        terms["penalty"] = PENALTY_EVERY * penalty_weight * penalty
    context.update("discriminator", terms)
    margin = (on_real.fine - on_generated.fine).sign().mean()
    # A relativistic loss leaves the logits' common offset free: signs are taken around the middle of the two.
    middle = (on_real.fine.mean() + on_generated.fine.mean()) / 2
    return {
        "discriminator": terms["discriminator"].item(),
        "real_sign": (on_real.fine - middle).sign().mean().item(),
        "fake_sign": (on_generated.fine - middle).sign().mean().item(),
        "margin_sign": margin.item(),
    }


def adversarial_gradient(context: Context, footage: Footage, decoded: Tensor, size: Tensor) -> Tensor:
    """The adversary's gradient at the pixels, scaled to `size` times the ramp: it can guide, never take over."""
    pixels = decoded.detach().requires_grad_()
    with torch.no_grad():
        on_real = judge(context, footage.data, footage.times, footage.labels)
    on_decoded = judge(context, pixels, footage.times, footage.labels)
    loss = relativistic_loss(on_decoded, on_real) + feature_loss(on_decoded, on_real)
    gradient = torch.autograd.grad(loss, pixels)[0]
    ramp = min(1.0, context.progress / RAMP)
    return gradient * (ADVERSARIAL_SHARE * ramp * size / (gradient.norm() + 1e-12))


def adversarial_step(context: Context) -> dict[str, float]:
    """The `vae`'s step with the adversary's gradient added at the pixels, then a step of the Discriminator."""
    footage, decoded, terms = vae.encode_decode(context)
    terms["reconstruction"] = reconstruction_loss(decoded, footage.data)
    size = torch.autograd.grad(terms["reconstruction"], decoded, retain_graph=True)[0].norm()
    gradient = adversarial_gradient(context, footage, decoded, size)
    context.update("autoencoder", terms, (decoded, gradient))
    return discriminator_update(context, footage, decoded, footage) | {
        "reconstruction": terms["reconstruction"].item(),
        "kl": terms["kl"].item() / vae.KL_WEIGHT,
        "psnr": signal_to_noise(decoded.detach(), footage.data).item(),
    }


def finish_step(context: Context) -> dict[str, float]:
    """The Discriminator judges a stretch of a clip sampled in one to four steps; gradient reaches the last step."""
    model = context.networks.model
    real = context.windows(2, FINISH_FRAMES)
    anchor = context.latents(2)
    steps = 1 + int(torch.randint(4, (1,), generator=context.generator))
    with context.autocast():
        sampled = denoise(
            model.motion_prior, context.noise(*anchor.data.shape), anchor.times, anchor.labels, steps=steps,
            gradient_in_last_step=True,
        )  # fmt: skip
        start = int(torch.randint(sampled.shape[1] - FINISH_FRAMES + 1, (1,), generator=context.generator))
        stretch = slice(start, start + FINISH_FRAMES)
        decoded = model.decode(sampled[:, stretch])
        rebuilt = model.decode(model.encode(real.data).detach())
    made_as = Footage(sampled, anchor.times[:, stretch], anchor.labels)
    with torch.no_grad():
        on_real = judge(context, real.data, real.times, real.labels)
    verdict = judge(context, decoded, made_as.times, made_as.labels)
    terms = {
        "flow": vae.prior_loss(context),
        "reconstruction": reconstruction_loss(rebuilt, real.data),
        "adversarial": FINISH_WEIGHT * relativistic_loss(verdict, on_real),
    }
    context.update("generator", terms)
    logged = discriminator_update(context, real, decoded, made_as)
    return logged | {name: term.item() for name, term in terms.items()}

"""`vaegan`: the VAE whose reconstruction is also judged by a Discriminator, then a MotionPrior finished by it.

Three stages. `autoencoder` is the `vae`'s, with the Discriminator's features as an added reconstruction metric and
its verdict as a loss (VAE/GAN, Larsen et al. 2016; VQGAN, Esser et al. 2021); the Discriminator is warmed up before
the Decoder hears of it. `prior` is the `vae`'s. `finish` lets the Discriminator judge clips sampled in a few steps
while flow matching and reconstruction go on as anchors, so that few steps are enough.
"""

import torch
from torch import Tensor

from reroll.objectives.adversarial import augment, feature_loss, gradient_penalty, relativistic_loss
from reroll.objectives.flow import denoise
from reroll.objectives.variational import reconstruction_loss, signal_to_noise
from reroll.parts.discriminator import Verdict
from reroll.recipes import vae
from reroll.recipes.context import Context, Footage, Networks, OptimizerSpec, StageSpec

WARM_UP, RAMP_FROM, RAMP_TO = 0.25, 0.35, 0.6
ADVERSARIAL_SHARE = 0.6
"""Gradient of the adversary at the pixels, as a multiple of the reconstruction's, once ramped up."""
PENALTY_WEIGHT, PENALTY_EVERY = 0.05, 2
FINISH_FRAMES = 6


class VaeGan:
    """Encoder + Decoder by ELBO and adversary; MotionPrior by flow matching, finished adversarially."""

    name = "vaegan"
    stages = (StageSpec("autoencoder", 0.38), StageSpec("prior", 0.52), StageSpec("finish", 0.1))
    has_encoder = True
    has_discriminator = True

    def optimizers(self, stage: str, networks: Networks) -> dict[str, OptimizerSpec]:
        assert networks.discriminator is not None
        judge = OptimizerSpec(list(networks.discriminator.parameters()), 3e-3, (0.0, 0.99), constant=True)
        if stage == "finish":
            model = networks.model
            made_by = [*model.motion_prior.parameters(), *model.decoder.parameters()]
            return {"generator": OptimizerSpec(made_by, 3e-4), "discriminator": judge}
        specs = vae.Vae().optimizers(stage, networks)
        return {**specs, "discriminator": judge} if stage == "autoencoder" else specs

    def step(self, stage: str, context: Context) -> dict[str, float]:
        if stage == "autoencoder":
            return autoencoder_step(context)
        return vae.prior_step(context) if stage == "prior" else finish_step(context)


def judge(context: Context, frames: Tensor, times: Tensor) -> Verdict:
    """The Discriminator's verdict on augmented frames; the same call augments real and generated alike."""
    discriminator = context.networks.discriminator
    assert discriminator is not None
    seen = augment(frames, context.augmentation, context.generator_for("augment"))
    with context.autocast():
        verdict: Verdict = discriminator(seen, times)
    return verdict


def discriminator_update(context: Context, real: Footage, generated: Tensor) -> dict[str, float]:
    """One step of the Discriminator on real windows and (detached) generated ones."""
    discriminator = context.networks.discriminator
    assert discriminator is not None
    on_real = judge(context, real.data, real.times)
    on_generated = judge(context, generated.detach(), real.times)
    terms = {"discriminator": relativistic_loss(on_real, on_generated)}
    if context.step % PENALTY_EVERY == 0:
        both = torch.cat([real.data[:1], generated.detach()[:1]])
        times = torch.cat([real.times[:1], real.times[:1]])
        with context.full_precision():
            penalty = gradient_penalty(discriminator, both, times, context.generator_for("penalty"))
        terms["penalty"] = PENALTY_EVERY * PENALTY_WEIGHT * penalty
    context.update("discriminator", terms)
    margin = (on_real.fine - on_generated.fine).sign().mean()
    return {
        "discriminator": terms["discriminator"].item(),
        "real_sign": on_real.fine.sign().mean().item(),
        "fake_sign": on_generated.fine.sign().mean().item(),
        "margin_sign": margin.item(),
    }


def adversarial_gradient(context: Context, footage: Footage, decoded: Tensor, size: Tensor) -> Tensor:
    """The adversary's gradient at the pixels, scaled to `size` times the ramp: it can guide, never take over."""
    pixels = decoded.detach().requires_grad_()
    with torch.no_grad():
        on_real = judge(context, footage.data, footage.times)
    on_decoded = judge(context, pixels, footage.times)
    loss = relativistic_loss(on_decoded, on_real) + feature_loss(on_decoded, on_real)
    gradient = torch.autograd.grad(loss, pixels)[0]
    ramp = min(1.0, max(0.0, (context.progress - RAMP_FROM) / (RAMP_TO - RAMP_FROM)))
    return gradient * (ADVERSARIAL_SHARE * ramp * size / (gradient.norm() + 1e-12))


def autoencoder_step(context: Context) -> dict[str, float]:
    """The `vae`'s step; past the warm-up also a step of the Discriminator, past the ramp's start its gradient."""
    footage, decoded, terms = vae.encode_decode(context)
    terms["reconstruction"] = reconstruction_loss(decoded, footage.data)
    extra = None
    logged = {}
    if context.progress >= RAMP_FROM:
        size = torch.autograd.grad(terms["reconstruction"], decoded, retain_graph=True)[0].norm()
        extra = (decoded, adversarial_gradient(context, footage, decoded, size))
    context.update("autoencoder", terms, extra)
    if context.progress >= WARM_UP:
        logged = discriminator_update(context, footage, decoded)
    return logged | {
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
    matched = Footage(real.data, anchor.times[:, stretch], real.labels)
    with torch.no_grad():
        on_real = judge(context, real.data, real.times)
    verdict = judge(context, decoded, matched.times)
    terms = {
        "flow": vae.prior_loss(context),
        "reconstruction": reconstruction_loss(rebuilt, real.data),
        "adversarial": 0.05 * relativistic_loss(verdict, on_real),
    }
    context.update("generator", terms)
    logged = discriminator_update(context, real, decoded)
    return logged | {name: term.item() for name, term in terms.items()}

"""`vaegan`: the VAE whose reconstruction is also judged by a Discriminator, then a MotionPrior finished by it.

Four stages. `autoencoder` is the `vae`'s; `adversarial` refines it, with the Discriminator's features as an
added reconstruction metric and its verdict as a loss (VAE/GAN, Larsen et al. 2016; VQGAN, Esser et al. 2021), at
a strength that rises while the Discriminator learns. `prior` is the `vae`'s. `finish` lets the Discriminator judge
clips sampled in a few steps, with flow matching and reconstruction as anchors, so that few steps are enough.
"""

from dataclasses import replace

import torch
from torch import Tensor

from reroll.objectives.adversarial import feature_loss, relativistic_loss
from reroll.objectives.flow import denoise, free_levels, source_of
from reroll.objectives.variational import reconstruction_loss, signal_to_noise
from reroll.recipes import adversary, vae
from reroll.recipes.context import Context, Footage, Networks, OptimizerSpec, StageSpec

RAMP = 0.5
"""Share of the stage over which the adversary comes up to strength: an untrained one would wreck the Decoder."""
ADVERSARIAL_SHARE, FINISH_SHARE = 0.2, 0.3
"""Gradient of the adversary at the pixels, as a multiple of the reconstruction's, once ramped up: it can guide, never
take over."""
PENALTY_WEIGHT = 0.003
"""Of the Discriminator: with 0.1 it stays at chance, because reconstructions differ from footage in little."""
FINISH_FRAMES = 6


class VaeGan:
    """Encoder + Decoder by ELBO and adversary; MotionPrior by flow matching, finished adversarially."""

    name = "vaegan"
    stages = (
        StageSpec("autoencoder", 0.34),
        StageSpec("adversarial", 0.05),
        StageSpec("prior", 0.55, on_latents=True, repeats=True, keeps_early=True),
        StageSpec("finish", 0.06, on_latents=True, repeats=True),
    )
    patience = 1.0
    has_encoder = True
    has_discriminator = True

    def optimizers(self, stage: str, networks: Networks) -> dict[str, OptimizerSpec]:
        judge = adversary.optimizer(networks, 3e-4)
        if stage == "finish":
            model = networks.model
            made_by = [*model.motion_prior.parameters(), *model.decoder.parameters()]
            return {
                "generator": OptimizerSpec(made_by, 3e-4, adam=adversary.shuffled(networks)),
                "discriminator": judge,
            }
        if stage == "adversarial":
            both = vae.Vae().optimizers("autoencoder", networks)["autoencoder"]
            return {
                "autoencoder": replace(both, learning_rate=5e-4, adam=adversary.shuffled(networks)),
                "discriminator": judge,
            }
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


def weighed(context: Context, gradient: Tensor, beside: Tensor, share: float) -> Tensor:
    """The adversary's gradient at the pixels at `share` times the size of the one beside it, ramped up."""
    ramp = min(1.0, context.progress / RAMP)
    return adversary.scaled(gradient, beside, share * ramp)


def adversarial_step(context: Context) -> dict[str, float]:
    """The `vae`'s step with the adversary's gradient added at the pixels, then a step of the Discriminator."""
    footage, decoded, terms = vae.encode_decode(context, 0.0)
    terms["reconstruction"] = reconstruction_loss(decoded, footage.data)
    of = adversary.contest(context, footage, footage._replace(data=decoded))
    verdict = relativistic_loss(of.on_generated, of.on_real) + feature_loss(of.on_generated, of.on_real)
    exact = torch.autograd.grad(terms["reconstruction"], decoded, retain_graph=True)[0]
    gradient = weighed(context, of.gradient(verdict), exact, ADVERSARIAL_SHARE)
    logged = adversary.discriminator_update(context, of, PENALTY_WEIGHT)
    context.update("autoencoder", terms, (decoded, gradient))
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
    contents = vae.contents_of(context, anchor.data)
    steps = 1 + int(torch.randint(4, (1,), generator=context.generator))
    noise = context.noise(*anchor.data.shape)
    source = source_of(
        noise, noise, free_levels(noise), anchor.times, model.source_spread, contents.content, contents.around
    )
    with context.autocast():
        sampled = denoise(
            model.motion_prior, source, anchor.times, anchor.labels, steps=steps, content=contents.shown,
            gradient_in_last_step=True,
        )  # fmt: skip
        start = int(torch.randint(sampled.shape[1] - FINISH_FRAMES + 1, (1,), generator=context.generator))
        stretch = slice(start, start + FINISH_FRAMES)
        decoded = model.decode(sampled[:, stretch])
        rebuilt = model.decode(model.encode(real.data).detach())
    of = adversary.contest(context, real, Footage(decoded, anchor.times[:, stretch], anchor.labels))
    verdict = relativistic_loss(of.on_generated, of.on_real)
    terms = {"flow": vae.prior_loss(context), "reconstruction": reconstruction_loss(rebuilt, real.data)}
    exact = torch.autograd.grad(terms["reconstruction"], rebuilt, retain_graph=True)[0]
    gradient = weighed(context, of.gradient(verdict), exact, FINISH_SHARE)
    logged = adversary.discriminator_update(context, of, PENALTY_WEIGHT)
    context.update("generator", terms, (decoded, gradient))
    return logged | {name: term.item() for name, term in terms.items()} | {"adversarial": verdict.item()}

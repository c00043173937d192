"""`gan`: MotionPrior (one step) and Decoder against the Discriminator, no Encoder.

The noise is smooth in time (`parts/noise.py`), and each frame is made from the noise at its own time: clips of any
length have no windows and so no joints. A sample is noise → one step of the MotionPrior → Decoder.

An adversary alone teaches slowly: after ten minutes a face without eyes. So the Discriminator also says what it sees in
footage as latents, and the Decoder has to redraw the footage from them (a self-supervised discriminator, Liu et
al. 2021): it learns to draw from the first step on. And what the MotionPrior makes of noise has to be distributed like
these latents (energy distance, as in the Cramér GAN, Bellemare et al. 2017), and a LatentDiscriminator has to take them
for such. The distance holds samples apart and shows the way from the first step on, but hardly sees whether the
parts of a frame belong together, which the LatentDiscriminator learns to.

Two stages. `redrawing` is all this, in steps that take half as long; it leaves a Discriminator that knows what there
is to see (as projected GANs begin with, Sauer et al. 2021). In `adversarial` its verdict joins in. Measured:
docs/log.md.
"""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from reroll.objectives.adversarial import blur, matching_loss, relativistic_loss
from reroll.objectives.energy import energy_loss
from reroll.objectives.variational import reconstruction_loss, signal_to_noise
from reroll.parts import latent_discriminator
from reroll.parts.model import VideoModel
from reroll.parts.noise import motion_noise
from reroll.recipes import adversary, latent_adversary, vae
from reroll.recipes.context import Context, Footage, Networks, OptimizerSpec, StageSpec

BATCH, FRAMES = 5, latent_discriminator.WINDOW
MULTIPLES = (1, 7)
"""Of the plan's strides: neighbouring frames show how things move, those seconds apart that a clip stays one clip, and
so what its constant noise is for."""
REDRAW_NOISE, REDRAW_DECAY = 0.03, 1e-3
"""Noise on the latents that are redrawn, so that near ones look alike, and weight of their square, so that they
do not grow until the noise is nothing. Water changes by as little as 0.1 from frame to frame."""
UNDECODED = 16
"""Windows in the energy distance besides those that are decoded: of five alone it is mostly chance."""
LATENT_SHARE, LATENT_RAMP = 1.0, 0.25
"""Gradient of the verdict on latents, as a multiple of the energy distance's, and the share of the first stage over
which it comes up to it."""
ENERGY_RATE = 2.5e-3
"""The MotionPrior's while nothing else teaches it."""
ADVERSARIAL_SHARE = 0.6
"""Gradient of the adversary at the pixels, as a multiple of that of redrawing."""
PENALTY_WEIGHT = 1.0
"""Hundreds of times the `vaegan`'s: what is generated differs from footage in much, its gradient has to be smooth."""
BLUR, BLUR_SHARE = 0.12, 0.3
"""Blur of all the Discriminator judges at first, in heights of the picture, and the share of the stage in which it goes
(Karras et al. 2021): what is where is learnt before what it looks like."""


class Gan:
    """MotionPrior in one step + Decoder: redrawing what the Discriminator sees, then against it."""

    name = "gan"
    stages = (StageSpec("redrawing", 0.35), StageSpec("adversarial", 0.65, repeats=True))
    patience = 10.0
    has_encoder = False
    has_discriminator = True

    def optimizers(self, stage: str, networks: Networks) -> dict[str, OptimizerSpec]:
        model, discriminator = networks.model, networks.discriminator
        assert discriminator is not None
        prior = list(model.motion_prior.parameters())
        if stage == "redrawing":
            both = [*discriminator.parameters(), *model.decoder.parameters()]
            return {
                "redrawing": OptimizerSpec(both, vae.AUTOENCODER_RATE),
                "motion_prior": OptimizerSpec(prior, ENERGY_RATE, (0.0, 0.99)),
                "latent_discriminator": latent_adversary.optimizer(networks),
            }
        made_by = [*prior, *model.decoder.parameters()]
        # What is seen changes calmly, for the Decoder and the MotionPrior have to follow it; who judges has to hurry.
        judge = replace(adversary.optimizer(networks, 5e-4), calm=discriminator.seeing())
        return {
            "generator": OptimizerSpec(made_by, 7e-4, (0.0, 0.99), adam=adversary.shuffled(networks)),
            "discriminator": judge,
            "latent_discriminator": latent_adversary.optimizer(networks),
        }

    def step(self, stage: str, context: Context) -> dict[str, float]:
        if stage == "redrawing":
            return redrawing_step(context)
        return adversarial_step(context)


class Compared(NamedTuple):
    """Latents made of noise and those seen in footage, `B T Z h w`, both at `times` `B T` with `labels` `B`."""

    made: Tensor
    seen: Tensor
    times: Tensor
    labels: Tensor


def redrawing_step(context: Context) -> dict[str, float]:
    """The Discriminator and the Decoder as an autoencoder, then the MotionPrior after its latents."""
    footage = context.windows(BATCH, FRAMES)
    moved = vae.moved(footage.data, vae.fewer_moved(context), context.generator_for("moved"))
    seen = see(context, moved)
    rebuilt = decode(context, seen)
    terms = {
        "redrawing": reconstruction_loss(rebuilt, moved),
        "decay": REDRAW_DECAY * seen.square().mean(),
    }
    context.update("redrawing", terms)
    compared = undecoded(context)
    spread = energy_loss(*compared)
    share = LATENT_SHARE * min(1.0, context.progress / LATENT_RAMP)
    verdict, logged = latent_adversary.judged(context, *compared, spread, share)
    context.update("motion_prior", {"energy": spread, "latent adversary": verdict})
    return logged | {
        "energy": spread.item(),
        "reconstruction": terms["redrawing"].item(),
        "psnr": signal_to_noise(rebuilt.detach(), moved).item(),
    }


def adversarial_step(context: Context) -> dict[str, float]:
    """The generator against the Discriminator, beside redrawing and the energy distance, then the Discriminator."""
    real = context.windows(BATCH, FRAMES, MULTIPLES)
    real = real._replace(labels=vae.drop_labels(context, real.labels))
    model = context.networks.model
    latents = generate(context, real)
    seen = see(context, real.data)
    told = seen.detach().requires_grad_()
    rebuilt = decode(context, told)
    with context.autocast():
        generated = model.decode(latents)
    redrawing = reconstruction_loss(rebuilt, real.data)
    unready = max(0.0, 1 - context.progress / BLUR_SHARE) if context.untrained else 0.0
    sigma = BLUR * real.data.shape[-2] * unready
    of = adversary.contest(
        context,
        real._replace(data=blur(real.data, sigma)),
        real._replace(data=blur(generated.detach(), sigma)),
    )
    loss = relativistic_loss(of.on_generated, of.on_real)
    match = matching_loss(of.on_generated, of.on_real)
    exact = torch.autograd.grad(redrawing, rebuilt, retain_graph=True)[0]
    gradient = adversary.scaled(of.gradient(loss + match), exact, ADVERSARIAL_SHARE)
    decoded = Compared(latents, seen, real.times, real.labels)
    compared = Compared(*(torch.cat(each) for each in zip(decoded, undecoded(context), strict=True)))
    spread = energy_loss(*compared)
    verdict, logged = latent_adversary.judged(context, *compared, spread, LATENT_SHARE)
    terms = {"redrawing": redrawing, "energy": spread, "latent adversary": verdict}
    # The blur is a symmetric matrix: blurring the gradient is going back through it.
    context.update("generator", terms, (generated, blur(gradient, sigma)), through=[told])
    assert told.grad is not None
    back = told.grad + 2 * REDRAW_DECAY * told.detach() / told.numel()
    logged |= adversary.discriminator_update(context, of, PENALTY_WEIGHT, (seen, back), exact=True)
    return logged | {
        "adversarial": loss.item(),
        "matching": match.item(),
        "energy": spread.item(),
        "reconstruction": redrawing.item(),
        "psnr": signal_to_noise(rebuilt.detach(), real.data).item(),
    }


def generate(context: Context, like: Footage) -> Tensor:
    """Latents `B T Z h w` of new windows with the times and labels of `like`."""
    model = context.networks.model
    paces = model.config.noise_paces
    noise = torch.stack(
        [motion_noise(t, model.latent_shape, context.generator, paces) for t in like.times.cpu()]
    )
    with context.autocast():
        return one_step(model, context.to_device(noise), like.labels)


def see(context: Context, frames: Tensor) -> Tensor:
    """What the Discriminator sees in frames `B T 3 H W`, as latents `B T Z h w`."""
    model, discriminator = context.networks.model, context.networks.discriminator
    assert discriminator is not None
    with context.autocast():
        return discriminator.latents(model.pad(frames).unflatten(0, frames.shape[:2]))


def decode(context: Context, seen: Tensor) -> Tensor:
    """Latents that were seen, `B T Z h w`, and a little noise → frames `B T 3 H W`."""
    with context.autocast():
        return context.networks.model.decode(seen + REDRAW_NOISE * context.noise(*seen.shape))


def undecoded(context: Context) -> Compared:
    """Windows of which only the latents are compared."""
    real = context.windows(UNDECODED, FRAMES, MULTIPLES)
    labels = vae.drop_labels(context, real.labels, "undecoded labels")
    with torch.no_grad():  # as many at a time as are decoded, so that large frames take no more memory for it
        seen = torch.cat([see(context, some) for some in real.data.split(BATCH)])
    return Compared(generate(context, real._replace(labels=labels)), seen, real.times, labels)


def one_step(model: VideoModel, noise: Tensor, labels: Tensor) -> Tensor:
    """Noise `B T Z h w` → latents, each frame by itself; labels `B`, or shares of them in each frame `B T L+1`.

    At level 1 the velocity is `noise - latents`; its negative without the noise is taken for the latents, so that an
    untrained generator begins with a plain picture and not with one of noise that it has to learn to cancel.
    """
    batch, frames, _, rows, columns = noise.shape
    each = noise.flatten(0, 1)[:, None]
    levels = torch.ones(batch * frames, 1, rows // 2, columns // 2, device=noise.device)
    times = torch.zeros(batch * frames, 1, device=noise.device)
    heard = labels.flatten(0, 1) if labels.is_floating_point() else labels.repeat_interleave(frames)
    velocity = model.motion_prior(each, levels, times, heard)
    return (-velocity).unflatten(0, (batch, frames))[:, :, 0]

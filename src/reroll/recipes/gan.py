"""`gan`: MotionPrior (one step) and Decoder against the Discriminator, end to end, no Encoder.

The noise is smooth in time (`parts/noise.py`), and each frame is made from the noise at its own time: clips of any
length have no windows and so no joints. A sample is noise → one step of the MotionPrior → Decoder.
"""

import torch
from torch import Tensor

from reroll.objectives.adversarial import blur, matching_loss, relativistic_loss
from reroll.parts.model import VideoModel
from reroll.parts.noise import motion_noise
from reroll.recipes import adversary, vae
from reroll.recipes.context import Context, Networks, OptimizerSpec, StageSpec

BATCH, FRAMES = 5, 3
PENALTY_WEIGHT = 1.0
"""Hundreds of times the `vaegan`'s: here nothing but the Discriminator's gradient leads, and it has to be smooth."""
BLUR, BLUR_SHARE = 0.12, 0.6
"""Blur of all the Discriminator sees at first, in heights of the picture, and the share of the stage in which it goes
(Karras et al. 2021): what is where is learnt before what it looks like."""


class Gan:
    """MotionPrior in one step + Decoder, against the Discriminator."""

    name = "gan"
    stages = (StageSpec("adversarial", 1.0, repeats=True),)
    patience = 10.0
    has_encoder = False
    has_discriminator = True

    def optimizers(self, stage: str, networks: Networks) -> dict[str, OptimizerSpec]:
        model = networks.model
        made_by = [*model.motion_prior.parameters(), *model.decoder.parameters()]
        return {
            "generator": OptimizerSpec(made_by, 7e-4, (0.0, 0.99), adam=adversary.shuffled(networks)),
            "discriminator": adversary.optimizer(networks, 5e-4),
        }

    def step(self, stage: str, context: Context) -> dict[str, float]:
        real = vae.drop_labels(context, context.windows(BATCH, FRAMES))
        model = context.networks.model
        shape = model.latent_shape
        noise = torch.stack([motion_noise(t, shape, context.generator) for t in real.times.cpu()])
        with context.autocast():
            generated = model.decode(one_step(model, context.to_device(noise), real.labels))
        unready = max(0.0, 1 - context.progress / BLUR_SHARE) if context.untrained else 0.0
        sigma = BLUR * real.data.shape[-2] * unready
        of = adversary.contest(
            context,
            real._replace(data=blur(real.data, sigma)),
            real._replace(data=blur(generated.detach(), sigma)),
        )
        loss = relativistic_loss(of.on_generated, of.on_real)
        match = matching_loss(of.on_generated, of.on_real)
        gradient = of.gradient(loss + match)
        logged = adversary.discriminator_update(context, of, PENALTY_WEIGHT)
        # The blur is a symmetric matrix: blurring the gradient is going back through it.
        context.update("generator", {}, (generated, blur(gradient, sigma)))
        return logged | {"adversarial": loss.item(), "matching": match.item()}


def one_step(model: VideoModel, noise: Tensor, labels: Tensor) -> Tensor:
    """Noise `B T Z h w` → latents, each frame by itself.

    At level 1 the velocity is `noise - latents`; its negative without the noise is taken for the latents, so that an
    untrained generator begins with a plain picture and not with one of noise that it has to learn to cancel.
    """
    batch, frames, _, rows, columns = noise.shape
    each = noise.flatten(0, 1)[:, None]
    levels = torch.ones(batch * frames, 1, rows // 2, columns // 2, device=noise.device)
    times = torch.zeros(batch * frames, 1, device=noise.device)
    velocity = model.motion_prior(each, levels, times, labels.repeat_interleave(frames))
    return (-velocity).unflatten(0, (batch, frames))[:, :, 0]

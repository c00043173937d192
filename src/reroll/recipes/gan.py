"""`gan`: MotionPrior (one step) and Decoder against the Discriminator, end to end, no Encoder.

The noise is smooth in time (`parts/noise.py`), and each frame is made from the noise at its own time: clips of any
length have no windows and so no joints. A sample is noise → one step of the MotionPrior → Decoder.
"""

import torch
from torch import Tensor

from reroll.objectives.adversarial import relativistic_loss
from reroll.parts.model import VideoModel
from reroll.parts.noise import motion_noise
from reroll.recipes import vae
from reroll.recipes.context import Context, Networks, OptimizerSpec, StageSpec
from reroll.recipes.vaegan import discriminator_update, judge

BATCH, FRAMES = 8, 3
PENALTY_WEIGHT = 1.0
"""Ten times the `vaegan`'s: here nothing but the Discriminator's gradient leads, and it has to be smooth."""


class Gan:
    """MotionPrior in one step + Decoder, against the Discriminator."""

    name = "gan"
    stages = (StageSpec("adversarial", 1.0, repeats=True),)
    has_encoder = False
    has_discriminator = True

    def optimizers(self, stage: str, networks: Networks) -> dict[str, OptimizerSpec]:
        model = networks.model
        assert networks.discriminator is not None
        judged_by = list(networks.discriminator.parameters())
        made_by = [*model.motion_prior.parameters(), *model.decoder.parameters()]
        return {
            "generator": OptimizerSpec(made_by, 7e-4, (0.0, 0.99)),
            "discriminator": OptimizerSpec(judged_by, 5e-4, (0.0, 0.99), muon=False, constant=True),
        }

    def step(self, stage: str, context: Context) -> dict[str, float]:
        real = vae.drop_labels(context, context.windows(BATCH, FRAMES))
        model = context.networks.model
        shape = model.latent_shape
        noise = torch.stack([motion_noise(t, shape, context.generator) for t in real.times.cpu()])
        with context.autocast():
            generated = model.decode(one_step(model, context.to_device(noise), real.labels))
        with torch.no_grad():
            on_real = judge(context, real.data, real.times, real.labels)
        loss = relativistic_loss(judge(context, generated, real.times, real.labels), on_real)
        context.update("generator", {"adversarial": loss})
        return discriminator_update(context, real, generated, real, PENALTY_WEIGHT) | {
            "adversarial": loss.item()
        }


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

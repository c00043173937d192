"""`vae`: Encoder and Decoder by the ELBO, then the MotionPrior by flow matching on their latents.

Two stages. `autoencoder` minimises reconstruction + β·KL on short windows; `prior` learns what the latents do over
time: the learned prior of the VAE (Kingma & Welling 2014; latent flow matching, Dao et al. 2023). A sample is
noise → many small steps of the MotionPrior → Decoder.
"""

import torch
from torch import Tensor

from reroll.objectives.flow import draw_levels, flow_loss, interpolate
from reroll.objectives.variational import kl_divergence, reconstruction_loss, reparameterise, signal_to_noise
from reroll.parts.motion_prior import PATCH
from reroll.recipes.context import Context, Footage, Networks, OptimizerSpec, StageSpec

KL_WEIGHT = 3e-4
AUTOENCODER_BATCH, AUTOENCODER_FRAMES = 5, 3
PRIOR_BATCH = 8
LABEL_DROP = 0.1


class Vae:
    """Encoder + Decoder by the ELBO; MotionPrior by flow matching."""

    name = "vae"
    stages = (StageSpec("autoencoder", 0.38), StageSpec("prior", 0.62, on_latents=True, repeats=True))
    has_encoder = True
    has_discriminator = False

    def optimizers(self, stage: str, networks: Networks) -> dict[str, OptimizerSpec]:
        model = networks.model
        assert model.encoder is not None
        if stage == "autoencoder":
            both = [*model.encoder.parameters(), *model.decoder.parameters()]
            return {"autoencoder": OptimizerSpec(both, 3e-3)}
        return {"motion_prior": OptimizerSpec(list(model.motion_prior.parameters()), 2e-3)}

    def step(self, stage: str, context: Context) -> dict[str, float]:
        return autoencoder_step(context) if stage == "autoencoder" else prior_step(context)


def encode_decode(context: Context) -> tuple[Footage, Tensor, dict[str, Tensor]]:
    """Footage, its reconstruction `B T 3 H W` through a sample of the posterior, and the ELBO's terms."""
    footage = context.windows(AUTOENCODER_BATCH, AUTOENCODER_FRAMES)
    model = context.networks.model
    with context.autocast():
        mean, log_variance = model.posterior(footage.data)
        decoded = model.decode_raw(reparameterise(mean, log_variance, context.noise(*mean.shape)))
    return footage, decoded, {"kl": KL_WEIGHT * kl_divergence(mean, log_variance).mean()}


def autoencoder_step(context: Context) -> dict[str, float]:
    """One step of reconstruction + β·KL."""
    footage, decoded, terms = encode_decode(context)
    terms["reconstruction"] = reconstruction_loss(decoded, footage.data)
    context.update("autoencoder", terms)
    return {
        "reconstruction": terms["reconstruction"].item(),
        "kl": terms["kl"].item() / KL_WEIGHT,
        "psnr": signal_to_noise(decoded.detach(), footage.data).item(),
    }


def drop_labels(context: Context, footage: Footage) -> Footage:
    """The same with one label in ten taken away: what a sample without a label is made from."""
    dropped = torch.rand(len(footage.labels), generator=context.generator_for("labels")) < LABEL_DROP
    return footage._replace(labels=footage.labels.masked_fill(context.to_device(dropped), -1))


def prior_loss(context: Context) -> Tensor:
    """The flow matching loss of one batch of latent windows with mixed noise levels."""
    footage = drop_labels(context, context.latents(PRIOR_BATCH))
    clean, generator = footage.data, context.generator
    batch, frames, _, rows, columns = clean.shape
    shape = (batch, frames, rows // PATCH, columns // PATCH)
    levels = context.to_device(draw_levels(shape, generator))
    noise = context.noise(*clean.shape)
    with context.autocast():
        velocity = context.networks.model.motion_prior(
            interpolate(clean, noise, levels), levels, footage.times, footage.labels
        )
    return flow_loss(velocity, clean, noise, levels)


def prior_step(context: Context) -> dict[str, float]:
    """One step of flow matching."""
    loss = prior_loss(context)
    context.update("motion_prior", {"flow": loss})
    return {"flow": loss.item()}

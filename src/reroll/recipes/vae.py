"""`vae`: Encoder and Decoder by the ELBO, then the MotionPrior by flow matching on their latents.

Two stages. `autoencoder` minimises reconstruction + β·KL on short windows; `prior` learns what the latents do over
time: the learned prior of the VAE (Kingma & Welling 2014; latent flow matching, Dao et al. 2023). A sample is
noise → many small steps of the MotionPrior → Decoder.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from reroll.objectives.flow import draw_levels, flow_loss, interpolate, source_of
from reroll.objectives.variational import kl_divergence, reconstruction_loss, reparameterise, signal_to_noise
from reroll.parts.model import CONTENT_NOISE
from reroll.parts.motion_prior import PATCH
from reroll.recipes.context import Context, Footage, Networks, OptimizerSpec, StageSpec

KL_WEIGHT = 3e-4
AUTOENCODER_BATCH, AUTOENCODER_FRAMES = 5, 3
AUTOENCODER_RATE = 1.5e-3
"""Twice as much explodes on some footage, and is 1 dB worse on other (docs/log.md)."""
PRIOR_BATCH = 8
LABEL_DROP = CONTENT_DROP = 0.1
MOVED, MOVED_UNTIL = 0.6, 0.7
"""Share of the autoencoder's windows that are zoomed, shifted and mirrored (docs/log.md: 1.5 dB on unseen footage), and
when that has come down to none: what is learnt last is the footage as it is (1 dB)."""


class Vae:
    """Encoder + Decoder by the ELBO; MotionPrior by flow matching."""

    name = "vae"
    stages = (
        StageSpec("autoencoder", 0.38),
        StageSpec("prior", 0.62, on_latents=True, repeats=True, keeps_early=True),
    )
    patience = 1.0
    has_encoder = True
    has_discriminator = False

    def optimizers(self, stage: str, networks: Networks) -> dict[str, OptimizerSpec]:
        model = networks.model
        assert model.encoder is not None
        if stage == "autoencoder":
            both = [*model.encoder.parameters(), *model.decoder.parameters()]
            return {"autoencoder": OptimizerSpec(both, AUTOENCODER_RATE)}
        return {"motion_prior": OptimizerSpec(list(model.motion_prior.parameters()), 3e-3)}

    def step(self, stage: str, context: Context) -> dict[str, float]:
        if stage == "autoencoder":
            return autoencoder_step(context)
        return prior_step(context)


def fewer_moved(context: Context) -> float:
    """The share of moved windows in the autoencoder's stage."""
    return MOVED * max(0.0, 1 - context.progress / MOVED_UNTIL)


def encode_decode(context: Context, share: float) -> tuple[Footage, Tensor, dict[str, Tensor]]:
    """Footage, a share of it moved; its reconstruction `B T 3 H W` through a sample of the posterior; and the
    ELBO's terms."""
    footage = context.windows(AUTOENCODER_BATCH, AUTOENCODER_FRAMES)
    footage = footage._replace(data=moved(footage.data, share, context.generator_for("moved")))
    model = context.networks.model
    with context.autocast():
        mean, log_variance = model.posterior(footage.data)
        decoded = model.decode_raw(reparameterise(mean, log_variance, context.noise(*mean.shape)))
    return footage, decoded, {"kl": KL_WEIGHT * kl_divergence(mean, log_variance).mean()}


def moved(frames: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Windows `B T 3 H W`, a share of them zoomed, shifted and mirrored, alike over a window's frames.

    Only the autoencoder is given these: it has to draw anything anywhere, how things move is not its to learn.
    """
    if share == 0:
        return frames
    batch, count = frames.shape[:2]
    draw = torch.rand(batch, 5, generator=generator).to(frames.device)
    on = (draw[:, 0] < share).float()
    zoom = 1.3 ** ((2 * draw[:, 1] - 1) * on)
    flip = 1 - 2 * (draw[:, 4] < 0.5).float() * on
    theta = torch.zeros(batch, 2, 3, device=frames.device)
    theta[:, 0, 0], theta[:, 1, 1] = zoom * flip, zoom
    theta[:, 0, 2], theta[:, 1, 2] = 0.4 * (draw[:, 2] - 0.5) * on, 0.4 * (draw[:, 3] - 0.5) * on
    grid = F.affine_grid(theta, [batch, 3, *frames.shape[-2:]], align_corners=False)
    out = F.grid_sample(
        frames.flatten(0, 1), grid.repeat_interleave(count, 0), padding_mode="reflection", align_corners=False
    )
    return out.unflatten(0, (batch, count))


def autoencoder_step(context: Context) -> dict[str, float]:
    """One step of reconstruction + β·KL, with ever fewer of the windows moved."""
    footage, decoded, terms = encode_decode(context, fewer_moved(context))
    terms["reconstruction"] = reconstruction_loss(decoded, footage.data)
    context.update("autoencoder", terms)
    return {
        "reconstruction": terms["reconstruction"].item(),
        "kl": terms["kl"].item() / KL_WEIGHT,
        "psnr": signal_to_noise(decoded.detach(), footage.data).item(),
    }


def drop_labels(context: Context, labels: Tensor, of: str = "labels") -> Tensor:
    """The same with one label in ten taken away: what a sample without a label is made from. `of` tells what is drawn
    in the same step apart."""
    dropped = torch.rand(len(labels), generator=context.generator_for(of)) < LABEL_DROP
    return labels.masked_fill(context.to_device(dropped), -1)


class Contents(NamedTuple):
    """What is in windows, `B Z h w`, with noise; which of them the MotionPrior is `told` of, nine in ten, and which
    begin `around` it: of the others half, so that both what guidance leads away from and what is of no content is
    learnt. `B` each."""

    content: Tensor
    told: Tensor
    around: Tensor

    @property
    def shown(self) -> Tensor:
        """As the MotionPrior is told it: zero for the others."""
        return self.content * self.told[:, None, None, None]


def contents_of(context: Context, clean: Tensor) -> Contents:
    """Of windows of latents `B T Z h w`."""
    content = context.networks.model.content
    assert content is not None
    codes = content.encode(clean)
    drawn = torch.rand(len(codes), generator=context.generator_for("content"))
    told, around = (context.to_device(drawn >= share) for share in (CONTENT_DROP, CONTENT_DROP / 2))
    return Contents(content(codes + CONTENT_NOISE * context.noise(*codes.shape)), told, around)


def prior_loss(context: Context) -> Tensor:
    """The flow matching loss of one batch of latent windows with mixed noise levels."""
    windows = context.latents(PRIOR_BATCH)
    clean = windows.data
    batch, frames, _, rows, columns = clean.shape
    shape = (batch, frames, rows // PATCH, columns // PATCH)
    levels = context.to_device(draw_levels(shape, windows.spacings, context.generator))
    noise = context.noise(*clean.shape)
    # What is given shows what is in the window. Neither content nor label: that is what guidance leads away from.
    all_free = levels.flatten(1).amin(1) == levels.flatten(1).amax(1)
    contents = contents_of(context, clean)
    labels = drop_labels(context, windows.labels).masked_fill(all_free & ~contents.told, -1)
    model = context.networks.model
    source = source_of(
        noise, clean, levels, windows.times, model.source_spread, contents.content, contents.around & all_free
    )
    with context.autocast():
        predicted = model.motion_prior(
            source.seen(interpolate(clean, source.latents, levels)), levels, windows.times, labels,
            contents.shown * all_free[:, None, None, None],
        )  # fmt: skip
    return flow_loss(predicted, clean, source, levels)


def prior_step(context: Context) -> dict[str, float]:
    """One step of flow matching."""
    loss = prior_loss(context)
    context.update("motion_prior", {"flow": loss})
    return {"flow": loss.item()}

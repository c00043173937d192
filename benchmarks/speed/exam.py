"""How good a `vae` in training is: PSNR of the autoencoder and flow matching loss of the prior on fixed windows.

Windows are held out where the footage allows it, noise and noise levels are always the same. A flow matching loss says
something only beside another on the same latents, so both priors are examined (and trained) behind one Encoder.
"""

from contextlib import AbstractContextManager

import numpy as np
import torch
from torch import Tensor

from reroll.footage import Store, Windows, split
from reroll.objectives.flow import draw_levels, flow_loss, interpolate, source_of
from reroll.objectives.variational import signal_to_noise
from reroll.parts.model import VideoModel
from reroll.parts.motion_prior import PATCH
from reroll.training.budget import WINDOW_FRAMES

WINDOWS, BATCH, BATCHES = 8, 8, 8


def to_tensor(frames: np.ndarray) -> Tensor:
    """uint8 `B T H W 3` → `B T 3 H W` in [-1, 1]."""
    return torch.from_numpy(frames).movedim(-1, -3).float() / 127.5 - 1


class Exam:
    """Fixed windows of a store: `WINDOWS` for the PSNR, `BATCHES` batches for the loss."""

    def __init__(self, store: Store, strides: tuple[int, ...]) -> None:
        parts = split(store, WINDOW_FRAMES)
        self.held_out = bool(parts.heldout)
        windows = Windows(store, parts.heldout or parts.train, seed=1, mirror=False)
        found = windows.fixed(WINDOW_FRAMES)
        chosen = [found[i] for i in np.linspace(0, len(found) - 1, min(WINDOWS, len(found))).astype(int)]
        self.frames = [to_tensor(store.frames(*window)[None]) for window in chosen]
        self.draws = [
            windows.draw(number, batch=BATCH, frames=WINDOW_FRAMES, strides=strides)
            for number in range(BATCHES)
        ]
        self.windows, self.keys = windows, max(strides)
        self._latents: list[Tensor] = []

    @property
    def of(self) -> str:
        """What the windows are of."""
        return "held-out footage" if self.held_out else "training footage"

    @torch.no_grad()
    def psnr(self, model: VideoModel, precision: AbstractContextManager[object]) -> float:
        """dB of reconstructions, mean over the windows; `precision` is the context the model is used in."""
        with precision:
            rebuilt = [model.decode_raw(model.posterior(real)[0]) for real in self.frames]
        pairs = zip(rebuilt, self.frames, strict=True)
        return float(np.mean([signal_to_noise(made, real).item() for made, real in pairs]))

    @torch.no_grad()
    def flow(self, model: VideoModel, precision: AbstractContextManager[object]) -> float:
        """Flow matching loss of the prior; the Encoder has to be the same at every call."""
        generator = torch.Generator().manual_seed(0)
        self._latents = self._latents or [
            model.encode(to_tensor(self.windows.read(drawn).frames)) for drawn in self.draws
        ]
        losses = []
        with precision:
            for drawn, clean in zip(self.draws, self._latents, strict=True):
                batch, frames, _, rows, columns = clean.shape
                spacings = [round(self.keys / stride) for stride in drawn.strides.tolist()]
                levels = draw_levels((batch, frames, rows // PATCH, columns // PATCH), spacings, generator)
                noise = torch.randn(clean.shape, generator=generator)
                free = levels.flatten(1).amin(1) == levels.flatten(1).amax(1)
                assert model.content is not None
                content = model.content(model.content.encode(clean))
                times, labels = torch.from_numpy(drawn.timestamps).float(), torch.from_numpy(drawn.labels)
                source = source_of(noise, clean, levels, times, model.source_spread, content, free)
                predicted = model.motion_prior(
                    source.seen(interpolate(clean, source.latents, levels)), levels, times, labels,
                    content * free[:, None, None, None],
                )  # fmt: skip
                losses.append(flow_loss(predicted.float(), clean, source, levels).item())
        return float(np.mean(losses))

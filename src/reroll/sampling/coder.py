"""Frames to latents and back: chunks with what the Decoder sees beside them, rings, morphs."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from reroll.parts.decoder import HALO
from reroll.parts.model import VideoModel
from reroll.sampling.labels import Mixture, weights
from reroll.sampling.morph import morph
from reroll.training.engine import Engine

CHUNK_FRAMES = 16


class Coder:
    """Encoder and Decoder of one model."""

    def __init__(self, model: VideoModel, engine: Engine) -> None:
        self.model, self.engine = model.eval().requires_grad_(False), engine
        self.latent_shape = model.latent_shape

    def encode(self, frames: np.ndarray) -> Tensor:
        """uint8 `T H W 3` → whitened latents `1 T Z h w`."""
        with torch.no_grad(), self.engine.autocast():
            encoded = [
                self.model.encode(self.engine.frames(frames[None, at : at + CHUNK_FRAMES]))
                for at in range(0, len(frames), CHUNK_FRAMES)
            ]
        return torch.cat(encoded, 1)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Iterator[np.ndarray]:
        """Whitened latents `1 T Z h w` → uint8 chunks `T H W 3`."""
        yield from self.decode_pieces(iter([latents]), None)

    def decode_pieces(self, latents: Iterator[Tensor], before: Tensor | None) -> Iterator[np.ndarray]:
        """Latents in any pieces → frames: each chunk is decoded with its neighbours and cut."""
        held = before[:, -HALO:] if before is not None else self.no_frames()
        skip = held.shape[1]
        for piece in latents:
            held = torch.cat([held, piece], 1)
            if held.shape[1] >= skip + HALO + CHUNK_FRAMES:
                ready = held.shape[1] - HALO
                yield self._pixels(held)[skip:ready]
                held, skip = held[:, ready - HALO :], HALO
        if held.shape[1] > skip:
            yield self._pixels(held)[skip:]

    def _decode_ring(self, latents: Iterator[Tensor], count: int) -> Iterator[np.ndarray]:
        """A closed ring of `count` latents in pieces → its frames, beginning after the first `HALO`, which come last:
        each is decoded among its neighbours, and the ring is never held as a whole."""
        head = self.no_frames()

        def wrapped() -> Iterator[Tensor]:
            nonlocal head
            for piece in latents:
                head = torch.cat([head, piece], 1)[:, : 2 * HALO]
                yield piece
            yield head[:, torch.arange(2 * HALO) % count]

        at = 0
        for chunk in self.decode_pieces(wrapped(), None):
            if len(kept := chunk[max(0, HALO - at) : max(0, count + HALO - at)]):
                yield kept
            at += len(chunk)

    def _pixels(self, latents: Tensor) -> np.ndarray:
        """Whitened latents `1 T Z h w` → uint8 `T H W 3`."""
        with self.engine.autocast():
            frames = self.model.decode(latents)[0]
        return self.engine.pixels(frames)

    def _morphed(self, one: Tensor, other: Tensor, steps: int) -> Tensor:
        """What lies between latents `1 1 Z h w` in so many steps, `1 steps-1 Z h w`, their frames morphed.

        Denoised, it would follow one side for as long as it can and leap to the other, with ghosts (docs/log.md).
        """
        if steps == 1:
            return self.no_frames()
        with self.engine.autocast():
            ends = self.engine.pixels(self.model.decode(torch.cat([one, other]))[:, 0])
        return self.encode(morph(ends[0], ends[1], steps))

    def no_frames(self, batch: int = 1) -> Tensor:
        return torch.zeros(batch, 0, *self.latent_shape, device=self.engine.device)

    def _to(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.engine.device)

    def heard(self, mixture: Mixture) -> Tensor:
        """Shares of labels `1 L+1`, as the MotionPrior is told them."""
        return self._to(weights(mixture, len(self.model.config.labels)))[None]

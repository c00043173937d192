"""The plain loop that training is measured against: the networks, batches, losses and schedule of stages of `vae`, as a
reader of PyTorch's tutorials would train them.

fp32, tensors laid out as torch lays them out, torch's own allocator and AdamW, all footage as one tensor in memory, the
last weights and no average of them; the prior's windows go through the Encoder at every step. It has a warm-up, a
cosine and clipped gradients, as tutorials have, and its rates were tuned.

In: a store of frames uint8 `T H W 3`. It needs a process of its own, since `Engine.start` would change allocator and
threads for it.
"""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.speed.children import answer
from benchmarks.speed.footage import training_windows
from reroll.footage import Store, Windows
from reroll.objectives.flow import draw_levels, flow_loss, interpolate, source_of
from reroll.objectives.variational import kl_divergence, reconstruction_loss, reparameterise
from reroll.parts.model import CONTENT_NOISE, GRID, VideoModel
from reroll.parts.motion_prior import PATCH
from reroll.recipes import RECIPES, vae
from reroll.training.budget import TIMED_AT, WINDOW_FRAMES, choose_strides, model_config
from reroll.training.latents import prior_strides

RATES = {"autoencoder": 1e-3, "prior": 4e-3}
"""The best of those tried on held-out footage. The autoencoder diverges at 2e-3, and without clipping is 1 dB worse."""
WARM_UP_STEPS, MOST_GRADIENT = 20, 1.0


class PlainLoop:
    """A model, all footage in memory, and the two losses. `model` is trained in place."""

    def __init__(self, model: VideoModel, windows: Windows, seed: int = 0) -> None:
        store = windows.store
        self.model, self.windows = model, windows
        frames = torch.from_numpy(store.frames(0, store.frame_count))
        self.frames = frames.permute(0, 3, 1, 2).contiguous()  # T 3 H W
        self.strides = choose_strides(windows.spans, store.files[0].fps)
        self.generator = torch.Generator().manual_seed(seed)
        self.batches = 0
        self.losses: dict[str, Callable[[float], Tensor]] = {
            "autoencoder": self.autoencoder_loss, "prior": self.prior_loss,
        }  # fmt: skip

    def parameters(self, stage: str) -> list[Tensor]:
        """What a stage trains."""
        parts = (
            (self.model.encoder, self.model.decoder) if stage == "autoencoder" else (self.model.motion_prior,)
        )
        return [p for part in parts if part is not None for p in part.parameters()]

    def batch(
        self, size: int, frames: int, strides: Sequence[int]
    ) -> tuple[Tensor, Tensor, Tensor, list[int]]:
        """Random windows: frames `B T 3 H W` in [-1, 1], times `B T`, labels `B`, strides."""
        self.batches += 1
        drawn = self.windows.draw(self.batches, batch=size, frames=frames, strides=strides)
        data = self.frames[torch.from_numpy(drawn.indices)].float() / 127.5 - 1
        mirrored = torch.from_numpy(drawn.mirrored)
        data[mirrored] = data[mirrored].flip(-1)
        times, labels = torch.from_numpy(drawn.timestamps).float(), torch.from_numpy(drawn.labels)
        return data, times, labels, drawn.strides.tolist()

    def encode(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance `B T Z h w` of the posterior."""
        flat = frames.flatten(0, 1)
        below, right = -flat.shape[-2] % GRID, -flat.shape[-1] % GRID
        mean, log_variance = self.model.encoder(F.pad(flat, (0, right, 0, below), mode="replicate"))
        return mean.unflatten(0, frames.shape[:2]), log_variance.unflatten(0, frames.shape[:2])

    def autoencoder_loss(self, progress: float) -> Tensor:
        """Reconstruction and KL of one batch."""
        frames, *_ = self.batch(vae.AUTOENCODER_BATCH, vae.AUTOENCODER_FRAMES, self.strides)
        share = vae.MOVED * max(0.0, 1 - progress / vae.MOVED_UNTIL)
        frames = vae.moved(frames, share, self.generator)
        mean, log_variance = self.encode(frames)
        noise = torch.randn(mean.shape, generator=self.generator)
        decoded = self.model.decode_raw(reparameterise(mean, log_variance, noise))
        return reconstruction_loss(decoded, frames) + vae.KL_WEIGHT * kl_divergence(mean, log_variance).mean()

    def prior_loss(self, progress: float) -> Tensor:
        """Flow matching on one batch, which is encoded first."""
        strides = prior_strides(self.strides)
        frames, times, labels, drawn = self.batch(vae.PRIOR_BATCH, WINDOW_FRAMES, strides)
        with torch.no_grad():
            clean = self.model.whiten(self.encode(frames)[0])
        batch, count, _, rows, columns = clean.shape
        spacings = [round(max(self.strides) / stride) for stride in drawn]
        levels = draw_levels((batch, count, rows // PATCH, columns // PATCH), spacings, self.generator)
        noise = torch.randn(clean.shape, generator=self.generator)
        all_free = levels.flatten(1).amin(1) == levels.flatten(1).amax(1)
        drawn = torch.rand(batch, generator=self.generator)
        kept, around = drawn >= vae.CONTENT_DROP, drawn >= vae.CONTENT_DROP / 2
        named = torch.rand(batch, generator=self.generator) >= vae.LABEL_DROP
        labels = labels.masked_fill(~named | (all_free & ~kept), -1)
        codes = self.model.content.encode(clean)
        content = self.model.content(
            codes + CONTENT_NOISE * torch.randn(codes.shape, generator=self.generator)
        )
        source = source_of(noise, clean, levels, times, self.model.source_spread, content, around & all_free)
        shown = content * (kept & all_free)[:, None, None, None]
        predicted = self.model.motion_prior(
            source.seen(interpolate(clean, source.latents, levels)), levels, times, labels, shown
        )
        return flow_loss(predicted, clean, source, levels)

    def train(
        self, stage: str, progress: Callable[[int], float], after: Callable[[float, int], None] | None = None,
        rate: float | None = None,
    ) -> list[float]:  # fmt: skip
        """Steps until `progress`, of the number of steps done, is 1; their losses. `after` each, (progress, steps)."""
        peak, parameters = RATES[stage] if rate is None else rate, self.parameters(stage)
        optimizer = torch.optim.AdamW(parameters, lr=peak)
        losses: list[float] = []
        while (done := progress(len(losses))) < 1:
            warm_up = min(1.0, (len(losses) + 1) / WARM_UP_STEPS)
            for group in optimizer.param_groups:
                group["lr"] = peak * warm_up * 0.5 * (1 + math.cos(math.pi * done))
            loss = self.losses[stage](done)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, MOST_GRADIENT)
            optimizer.step()
            losses.append(loss.item())
            if after is not None:
                after(done, len(losses))
        return losses


def open_loop(store: str, model: str, threads: int, seed: int = 0, *, mirror: bool = False) -> PlainLoop:
    """New networks for a store of frames, on so many threads."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    opened = Store.open(Path(store))
    networks = VideoModel(model_config(model, RECIPES["vae"], opened))
    return PlainLoop(networks, training_windows(opened, mirror=mirror), seed)


def step_seconds(store: str, model: str, threads: int) -> dict[str, float]:
    """Seconds a step of each stage: one step that is not timed, then as many as of ours."""
    loop = open_loop(store, model, threads)
    found, steps = {}, 1 + len(TIMED_AT)
    for stage in loop.losses:
        ends: list[float] = []
        loop.train(stage, lambda done: done / steps, lambda *_, ends=ends: ends.append(time.perf_counter()))
        found[stage] = (ends[-1] - ends[0]) / len(TIMED_AT)
    return found


if __name__ == "__main__":
    answer(step_seconds)

"""Previews: what a run makes now, from the same seeds each time, kept as a history.

While the autoencoder trains, a preview is footage above its reconstruction; afterwards it is samples, one a row.
Written as `previews/step-00001200.png` and `.mp4`.
"""

from pathlib import Path

import numpy as np
import torch

from reroll.export.media import write_grid, write_video
from reroll.objectives.variational import signal_to_noise
from reroll.sampling.sampler import Sampler
from reroll.sampling.settings import SampleSettings
from reroll.training.disk import full_disk_is_said
from reroll.training.trainer import Trainer

SAMPLES, SECONDS, COLUMNS = 3, 2.0, 8
DENOISE_STEPS = 8
"""A third of what samples are made in: with as many, previews took a fifth of a run of five minutes (docs/log.md)."""
STILL = 1e-3
"""Motion energy, in squared levels of 255, of footage that stands still: nothing to compare samples with."""


def preview(
    trainer: Trainer, fps: float, heldout: np.ndarray, run: Path, done_steps: int
) -> dict[str, float]:
    """Write the preview after `done_steps` steps and return what was measured on it.

    `heldout` are fixed windows of footage, uint8 `N T H W 3`: held out if the footage allows it.
    """
    trainer.ema.eval()
    measured: dict[str, float] = {}
    if trainer.recipe.has_encoder and not trainer.on_latents:
        rebuilt, measured["preview_psnr"] = reconstruct(trainer, heldout)
        shown = np.concatenate([heldout[:2], rebuilt[:2]])
        film = np.concatenate([np.concatenate(list(pair), 1) for pair in zip(heldout, rebuilt, strict=True)])
    else:
        gap = trainer.plan.key_stride / fps
        sampler = Sampler(trainer.ema, trainer.engine, key_gap_seconds=gap)
        frames = max(2, round(SECONDS * fps))
        settings = [
            SampleSettings(frames=frames, fps=fps, seed=seed, denoise_steps=DENOISE_STEPS)
            for seed in range(SAMPLES)
        ]
        shown = np.stack([np.concatenate(list(sampler.frames(each))) for each in settings])
        film = np.concatenate(list(shown), 2)
        if (moving := motion_energy(heldout)) > STILL:
            measured["motion_energy"] = motion_energy(shown) / moving
    folder = run / "previews"
    with full_disk_is_said(folder, folder.name):
        folder.mkdir(exist_ok=True)
    write_grid(folder / f"step-{done_steps:08d}.png", shown, COLUMNS)
    write_video(folder / f"step-{done_steps:08d}.mp4", even(film), fps)
    return measured


@torch.no_grad()
def reconstruct(trainer: Trainer, frames: np.ndarray) -> tuple[np.ndarray, float]:
    """Averaged weights' reconstruction of uint8 `N T H W 3`, and its PSNR in dB."""
    rebuilt, ratios = [], []
    for window in frames:
        real = trainer.engine.frames(window[None])
        with trainer.autocast():
            decoded = trainer.ema.decode_raw(trainer.ema.posterior(real)[0])
        ratios.append(signal_to_noise(decoded, real).item())
        rebuilt.append(trainer.engine.pixels(decoded[0]))
    return np.stack(rebuilt), float(np.mean(ratios))


def motion_energy(clips: np.ndarray) -> float:
    """Mean squared change from frame to frame of uint8 `N T H W 3`."""
    return float(np.square(np.diff(clips.astype(np.float32), axis=1)).mean())


def even(film: np.ndarray) -> np.ndarray:
    """Frames with a last row or column dropped where H.264 needs even sizes."""
    height, width = film.shape[1:3]
    return np.ascontiguousarray(film[:, : height - height % 2, : width - width % 2])

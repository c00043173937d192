"""Frames per second of samples, by size, recipe and number of denoising steps.

The networks are new: how long one takes does not depend on what it has learnt. How many keyframes bridge two windows
does, because bridges are morphed and not denoised: samples of a trained run were up to a fifth slower, by seed. `vae`
and `vaegan` sample with the same networks in the same way and share a row; `gan` always makes one step.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

from benchmarks.speed.bench import Bench
from benchmarks.speed.footage import Footage
from benchmarks.speed.tables import Table, interleaved
from reroll.config import ModelConfig, ModelName, SampleOptions
from reroll.parts.model import VideoModel
from reroll.recipes import RECIPES
from reroll.sampling.sampler import Sampler
from reroll.sampling.settings import SampleSettings
from reroll.training.budget import choose_strides, model_config
from reroll.training.engine import Engine

SIZES = (64, 128)
STEPS = (1, 4, SampleOptions.denoise_steps)


@dataclass(frozen=True)
class Shown:
    """What is sampled: networks, the footage's frame rate and the time from keyframe to keyframe."""

    config: ModelConfig
    fps: float
    key_gap_seconds: float

    @classmethod
    def like(cls, footage: Footage, size: int, recipe: str, model: ModelName) -> "Shown":
        """As a run on this footage would sample."""
        windows = footage.windows(size)
        fps = windows.store.files[0].fps
        gap = max(choose_strides(windows.spans, fps)) / fps
        return cls(model_config(model, RECIPES[recipe], windows.store), fps, gap)

    def sampler(self, engine: Engine) -> Sampler:
        """New networks."""
        torch.manual_seed(0)
        return Sampler(engine.setup(VideoModel(self.config)), engine, key_gap_seconds=self.key_gap_seconds)

    def settings(self, seconds: float, steps: int) -> SampleSettings:
        """Of a clip of so many seconds."""
        return SampleSettings(frames=max(1, round(seconds * self.fps)), fps=self.fps, denoise_steps=steps)


def frames_per_second(sampler: Sampler, settings: SampleSettings) -> float:
    """Of one whole clip."""
    began = time.perf_counter()
    made = sum(len(chunk) for chunk in sampler.frames(settings))
    sampler.engine.synchronize()
    return made / (time.perf_counter() - began)


def tables(bench: Bench) -> list[Table]:
    """One row for each size, kind of recipe and number of steps."""
    cases: dict[tuple[int, str, int], Callable[[], float]] = {}
    for size in bench.sizes or SIZES:
        for names in _alike(bench.all_recipes):
            shown = Shown.like(bench.footage, size, names[0], bench.model)
            sampler = shown.sampler(bench.engine)
            for count in STEPS if shown.config.encoder else (1,):
                settings = shown.settings(bench.seconds, count)
                cases[size, ", ".join(names), count] = lambda sampler=sampler, settings=settings: (
                    frames_per_second(sampler, settings)
                )
    rates = interleaved(cases, bench.rounds)
    fps = shown.fps
    rows: list[dict[str, Any]] = [
        {
            "size": bench.shape(size), "recipe": names, "denoise steps": count,
            "frames a second": median(found), "times real time": median(found) / fps, "rounds": found,
        }
        for (size, names, count), found in rates.items()
    ]  # fmt: skip
    note = (
        f"Clips of {bench.seconds:g} s at {fps:.3g} frames a second, model {bench.model}, with new networks; from the"
        " first step to the last frame."
    )
    return [Table("Sampling", rows, note)]


def _alike(recipes: Sequence[str]) -> list[list[str]]:
    """Recipes that sample in the same way, together."""
    kinds = ([name for name in recipes if RECIPES[name].has_encoder == encoder] for encoder in (True, False))
    return [names for names in kinds if names]

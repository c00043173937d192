"""What is trained on: the clips given, or one that is made, as a store of frames of any size.

A made clip is 4:3 at 25 frames a second: a square swings over a picture that drifts, no frame is like another.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from reroll.config import ModelName, Plan, StagePlan
from reroll.export.media import VideoWriter
from reroll.footage import Store, Windows, find_footage, ingest, split
from reroll.recipes import Recipe
from reroll.training.budget import WINDOW_FRAMES, choose_strides

FPS, HEIGHT, WIDTH = 25, 144, 192
MADE_SECONDS = 10.0
STAGE_STEPS = 1000
"""Steps of each stage in the plan that is timed: only how far a step is in its stage matters."""


def make_clip(path: Path, seconds: float) -> Path:
    """Write a clip of so many seconds."""
    coarse = np.random.default_rng(0).integers(30, 225, (8, 32, 3), dtype=np.uint8)
    wide = cv2.resize(coarse, (3 * WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    side = HEIGHT // 4
    with VideoWriter(path, FPS, HEIGHT, WIDTH) as writer:
        for number in range(round(seconds * FPS)):
            image = np.roll(wide, -number, axis=1)[:, :WIDTH].copy()
            x = round((WIDTH - side) * (0.5 + 0.45 * np.sin(number * 0.21)))
            y = round((HEIGHT - side) * (0.5 + 0.45 * np.sin(number * 0.13)))
            image[y : y + side, x : x + side] = (230, 220, 40)
            writer.write(image)
    return path


class Footage:
    """Clips or folders, or a made clip if none are given; frames are kept under `cache`."""

    def __init__(self, clips: Sequence[Path], cache: Path) -> None:
        self.cache = cache
        self.clips = list(clips) or [make_clip(cache / "made.mp4", MADE_SECONDS)]
        self._stores: dict[int, Store] = {}

    def store(self, size: int) -> Store:
        """Frames of `size` pixels on the short side."""
        if size not in self._stores:
            files, _ = find_footage(self.clips)
            self._stores[size] = ingest(files, short_side=size, cache_dir=self.cache)
        return self._stores[size]

    def windows(self, size: int) -> Windows:
        """Training windows of that size."""
        return training_windows(self.store(size))


def training_windows(store: Store, *, mirror: bool = False) -> Windows:
    """Windows over what is trained on, not over what is held out."""
    return Windows(store, split(store, WINDOW_FRAMES).train, seed=0, mirror=mirror)


def timing_plan(recipe: Recipe, model: ModelName, windows: Windows) -> Plan:
    """A plan whose steps are timed."""
    return Plan(
        model=model, stages=tuple(StagePlan(name=s.name, steps=STAGE_STEPS) for s in recipe.stages),
        strides=choose_strides(windows.spans, windows.store.files[0].fps), preview_every=1, checkpoint_every=1,
    )  # fmt: skip

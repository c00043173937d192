"""What reroll is measured against: five other ways to make video from the same footage, in the same minutes, and the
footage itself.

Each module has one function, `train(clips, fps, seconds, seed)`, and returns a `Baseline`. They see what our recipes
see: the training part of the footage at the benchmark's size, and nothing pretrained.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]
"""`T H W 3`, RGB, 0 to 255."""


class Baseline(Protocol):
    """A rival after its training."""

    steps: int
    """Optimizer steps made; 0 for those that learn nothing."""

    def sample(self, frames: int, seed: int) -> Frames:
        """One new clip `T H W 3` of so many frames at the footage's rate; the same seed gives the same frames."""

    def loop(self, frames: int, seed: int) -> Frames | None:
        """A clip that should go on from its last frame to its first, or None if this system has no way to make one."""

    def rebuild(self, clip: Frames) -> Frames | None:
        """Footage through encoder and decoder, or None if there is no encoder."""


class Train(Protocol):
    """The one function of a baseline's module."""

    def __call__(self, clips: Sequence[Frames], fps: float, seconds: float, seed: int) -> Baseline:
        """Learn from `clips` for so many seconds, all set-up included."""


BASELINES: dict[str, str | None] = {
    "tutorial-gan": "tensorflow",
    "tutorial-vae": "tensorflow",
    "mocogan": None,
    "video-texture": None,
    "patch-neighbours": None,
    "footage": None,
}
"""Each baseline's name, and the package it needs beyond our own dependencies."""


def trainer(name: str) -> Train:
    """The `train` of a baseline's module, which is called as it is."""
    train: Train = import_module(f"benchmarks.baselines.{name.replace('-', '_')}").train
    return train

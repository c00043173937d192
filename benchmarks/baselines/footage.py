"""The footage itself, cut at random: no generator, but the line that says how near anything can come in this measure.

In: clips `T H W 3` uint8. A sample is a stretch of one of them, which are chosen by their length; where it is longer
than the clip it is played to and fro.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.baselines import Baseline, Frames


@dataclass(frozen=True)
class Footage:
    """Stretches of clips."""

    clips: list[Frames]
    steps: int = 0

    def sample(self, frames: int, seed: int) -> Frames:
        """A random stretch."""
        random = np.random.default_rng(seed)
        lengths = np.array([len(clip) for clip in self.clips], float)
        clip = self.clips[random.choice(len(self.clips), p=lengths / lengths.sum())]
        start = random.integers(max(1, len(clip) - frames + 1))
        there_and_back = np.concatenate([np.arange(len(clip)), np.arange(len(clip) - 2, 0, -1)])
        return clip[np.take(there_and_back, np.arange(start, start + frames), mode="wrap")]

    def loop(self, frames: int, seed: int) -> Frames | None:
        """None: a stretch does not close."""
        return None

    def rebuild(self, clip: Frames) -> Frames | None:
        """None: nothing is encoded."""
        return None


def train(clips: Sequence[Frames], fps: float, seconds: float, seed: int) -> Baseline:
    """Nothing is learnt."""
    return Footage(list(clips))

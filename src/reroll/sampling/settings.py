"""What one sample is, and where its chances come from."""

import hashlib
from dataclasses import dataclass, replace

import torch
from torch import Generator

from reroll.config import SampleOptions
from reroll.sampling.labels import Labels


@dataclass(frozen=True)
class SampleSettings:
    """What one sample is: `frames` at `fps`, of `seed`; the record an output carries."""

    frames: int
    fps: float
    seed: int = 0
    labels: Labels = Labels()  # noqa: RUF009 (frozen)
    denoise_steps: int = SampleOptions.denoise_steps
    temperature: float = SampleOptions.temperature
    guidance: float = SampleOptions.guidance
    sharpness: float = SampleOptions.sharpness
    size: str | None = None
    tile: str | None = None
    loop: bool = False
    through: tuple[int, ...] = ()
    """Seeds whose contents an open clip goes through, evenly in time, from the first to the last."""

    @property
    def between_steps(self) -> int:
        """Denoising steps of frames between keyframes, which begin near where they end: a quarter."""
        return max(1, self.denoise_steps // 4)

    def at(self, seconds: float) -> "SampleSettings":
        """With the labels that hold at that time."""
        return self if len(self.labels.changes) == 1 else replace(self, labels=self.labels.held(seconds))


def along(share: float, count: int) -> tuple[int, float]:
    """Where one is after a share (0 to 1) of a way through so many places: the last one passed, and how far from it to
    the next."""
    place = min(max(share, 0.0), 1.0) * (count - 1)
    first = min(int(place), max(0, count - 2))
    return first, place - first


def generator_of(seed: int) -> Generator:
    """A sample's own generator."""
    digest = hashlib.blake2b(f"sample/{seed}".encode(), digest_size=7).digest()
    return torch.Generator("cpu").manual_seed(int.from_bytes(digest, "big"))

"""What a run is asked to be and what it was planned to be: frozen models, stored as `run.json` in the run.

`TrainingConfig` is what the user said; `Plan` is what the minutes were turned into, once, by timing. Every
schedule reads the plan's steps, never a clock. `SampleOptions` are what a sample of a trained run is asked to be.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

RecipeName = Literal["vae", "gan", "vaegan"]
ModelName = Literal["s", "m", "l"]
MOST_MINUTES = 100_000.0


class Frozen(BaseModel):
    """A model that cannot be changed and refuses fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Width = Annotated[int, Field(ge=1, le=4096)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class ModelConfig(Frozen):
    """Sizes of the four parts, with what the footage decides (grid and labels)."""

    height: int = Field(ge=16, le=2560)
    width: int = Field(ge=16, le=2560)
    latent_channels: int = Field(ge=1, le=256)
    decoder_widths: tuple[Width, Width, Width]
    discriminator_widths: tuple[Width, Width, Width]
    prior_width: int = Field(ge=16, le=4096)
    prior_depth: int = Field(ge=1, le=64)
    prior_heads: int = Field(ge=1, le=64)
    labels: tuple[str, ...] = ()
    encoder: bool = True
    noise_paces: tuple[Seconds, Seconds] | None = None
    """Of `gan`: seconds of the slowest and of the fastest wave in its noise (`parts/noise.py`); None in older runs."""


PRESETS: dict[str, dict[str, object]] = {
    "s": {
        "latent_channels": 16, "decoder_widths": (24, 64, 128), "discriminator_widths": (24, 48, 96),
        "prior_width": 128, "prior_depth": 5, "prior_heads": 2,
    },
    "m": {
        "latent_channels": 16, "decoder_widths": (32, 96, 192), "discriminator_widths": (32, 64, 128),
        "prior_width": 192, "prior_depth": 5, "prior_heads": 3,
    },
    "l": {
        "latent_channels": 16, "decoder_widths": (48, 128, 256), "discriminator_widths": (48, 96, 192),
        "prior_width": 384, "prior_depth": 8, "prior_heads": 6,
    },
}  # fmt: skip


class TrainingConfig(Frozen):
    """What the user asked for."""

    recipe: RecipeName = "vaegan"
    footage: tuple[str, ...]
    minutes: float | None = Field(default=None, gt=0, le=MOST_MINUTES)
    steps: int | None = Field(default=None, gt=0)
    size: int = Field(default=64, ge=16, le=1024, multiple_of=2)
    model: Literal["auto", "s", "m", "l"] = "auto"
    seed: int = Field(default=0, ge=0, lt=2**63)
    device: str = "auto"
    precision: str = "auto"
    threads: int | None = Field(default=None, gt=0)
    init: str | None = None
    like: str | None = None
    owner: str | None = Field(default=None, max_length=1000)
    licence: str | None = Field(default=None, max_length=1000)


@dataclass(frozen=True)
class SampleOptions:
    """How clips are sampled, whatever their length and seed; the options `sample` and `extend` share.

    Args:
        fps: Frames a second; by default those of the footage, or of the take that is extended.
        label: One of the footage's labels; a mixture, such as walk:0.5,run:0.5; or changes over time, such as
            walk@0,run@3s.
        denoise_steps: Steps of the motion prior: more is slower and may be better. `gan` always makes one.
        temperature: Below 1 calmer, above 1 wilder.
        guidance: How strongly a label, and what is in a new clip, is held to; 1 is plain.
        sharpness: How far samples are led away from what the motion prior made half-way through its training, which
            was more blurred; 0 is plain, and takes half the time.
        size: Width and height in pixels, such as 128x72: what is smaller than trained is the frame's middle, what is
            larger goes on mirrored at its edges, up to twice as far. `repaint` keeps the take's own.
        tile: x, y or xy: the left edge meets the right one, the top the bottom, or both. The ends of each such side are
            laid over each other, so it is a quarter shorter than trained unless --size says otherwise.
    """

    fps: float | None = None
    label: str | None = None
    denoise_steps: int = 24
    temperature: float = 1.0
    guidance: float = 1.0
    sharpness: float = 1.0
    size: str | None = None
    tile: str | None = None


@dataclass(frozen=True)
class JudgedOptions:
    """What of a run is sampled to be judged; the options `report` and `evaluate` share. A loop is made as well.

    Args:
        samples: How many clips are judged.
        seconds: Length of each.
        long_seconds: Length of one more clip, whose end is held against its beginning; 0 for none.
    """

    samples: int = 8
    seconds: float = 10.0
    long_seconds: float = 60.0


class StagePlan(Frozen):
    """One stage: its name and how many steps it takes."""

    name: str
    steps: int = Field(ge=1)


class Plan(Frozen):
    """What the minutes became. `replans` in the run's events change `stages`, nothing else does."""

    model: ModelName
    stages: tuple[StagePlan, ...]
    window_frames: int = Field(default=16, ge=2, le=1024)
    strides: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(1,), min_length=1)
    mirror: bool = False
    preview_every: int = Field(ge=1)
    checkpoint_every: int = Field(ge=1)
    seconds_per_step: dict[str, float] = {}

    @property
    def steps(self) -> int:
        """Steps of all stages together."""
        return sum(stage.steps for stage in self.stages)

    @property
    def key_stride(self) -> int:
        """The stride of keyframes, the largest."""
        return max(self.strides)

    def locate(self, step: int) -> tuple[int, int]:
        """Global step → (index of its stage, step within that stage)."""
        for index, stage in enumerate(self.stages):
            if step < stage.steps:
                return index, step
            step -= stage.steps
        return len(self.stages) - 1, self.stages[-1].steps

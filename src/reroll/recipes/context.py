"""What a recipe is given at each step, and what it has to say about itself.

A recipe names its stages, the optimizers of each, and what one step of a stage does. The training loop owns
everything else: data, schedule, precision, checks for non-finite values, averages, checkpoints.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from torch import Generator, Tensor, nn

from reroll.parts.discriminator import Discriminator
from reroll.parts.latent_discriminator import LatentDiscriminator
from reroll.parts.model import VideoModel


class Footage(NamedTuple):
    """A batch of windows: frames `B T 3 H W`, times `B T` (s), labels `B`."""

    data: Tensor
    times: Tensor
    labels: Tensor


class Latents(NamedTuple):
    """A batch of windows: whitened latents `B T Z h w`, times `B T` (s), labels `B`; `spacings` says of each how many
    of its steps there are from one keyframe to the next: 1 for windows of keyframes."""

    data: Tensor
    times: Tensor
    labels: Tensor
    spacings: list[int]


@dataclass(frozen=True)
class Networks:
    """The parts in training. `discriminator` is None for `vae`, `latent_discriminator` for all but `gan`."""

    model: VideoModel
    discriminator: Discriminator | None
    latent_discriminator: LatentDiscriminator | None = None

    def judges(self) -> dict[str, nn.Module]:
        """Those who judge and are not in the model, by name."""
        judges = {
            "discriminator": self.discriminator,
            "latent_discriminator": self.latent_discriminator,
        }
        return {name: judge for name, judge in judges.items() if judge is not None}

    def parameters(self) -> Iterator[nn.Parameter]:
        """Of all parts."""
        for part in (self.model, *self.judges().values()):
            yield from part.parameters()


@dataclass(frozen=True)
class OptimizerSpec:
    """Parameters that are updated together and the peak of their learning rate."""

    parameters: list[nn.Parameter]
    learning_rate: float
    betas: tuple[float, float] = (0.9, 0.99)
    muon: bool = True
    """Muon for matrices and filters, or Adam for all."""
    adam: list[nn.Parameter] = field(default_factory=list)
    """Those of them that are Adam's even so."""
    calm: list[nn.Parameter] = field(default_factory=list)
    """Those of them that learn at `training/optimizer.py`'s share `CALM` of the rate."""
    constant: bool = False
    """Whether the rate stays at its peak after the warm-up: two that compete must not slow down alone."""


@dataclass(frozen=True)
class StageSpec:
    """A stage's name and its share of the training time. Its steps cost alike."""

    name: str
    share: float
    on_latents: bool = False
    """Whether it trains on latents of an Encoder that stays as it is."""
    repeats: bool = False
    """Whether it trains what makes samples, on ground that stays as it is: minutes that are added later go to it."""
    keeps_early: bool = False
    """Whether the MotionPrior's average is kept as it is half-way through."""


class Context(Protocol):
    """One step's surroundings. `progress` runs from 0 to 1 over the stage."""

    networks: Networks
    progress: float
    step: int
    generator: Generator
    augmentation: float

    @property
    def untrained(self) -> bool:
        """Whether the stage's networks began it with first weights: not those of an older run or of earlier minutes."""

    def windows(self, batch: int, frames: int, multiples: Sequence[int] = (1,)) -> Footage:
        """Random training windows as frames, at the plan's strides times any of `multiples`."""

    def latents(self, batch: int) -> Latents:
        """Random training windows of the plan's length; of those at the footage's own rate twice, of keyframes four
        times as many as of what is between."""

    def noise(self, *shape: int) -> Tensor:
        """Standard normal noise on the device."""

    def generator_for(self, purpose: str) -> Generator:
        """A CPU generator that depends on this step and `purpose` only."""

    def to_device(self, tensor: Tensor) -> Tensor:
        """A tensor drawn on the CPU, on the device."""

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision of the run."""

    def full_precision(self) -> AbstractContextManager[Any]:
        """fp32 whatever the run's precision."""

    def update(
        self,
        optimizer: str,
        terms: Mapping[str, Tensor],
        extra: tuple[Tensor, Tensor] | None = None,
        through: Sequence[Tensor] = (),
    ) -> None:
        """One optimizer step on the sum of `terms`; `extra` is (tensor, its gradient), for a gradient already
        taken; leaves in `through` get their gradient in `.grad` too. Raises NonFiniteError before anything is
        changed when a term or a gradient is not finite."""


class Recipe(Protocol):
    """A recipe: stages, optimizers, one step."""

    @property
    def name(self) -> str:
        """As in `--recipe`."""

    @property
    def stages(self) -> tuple[StageSpec, ...]:
        """In order."""

    @property
    def patience(self) -> float:
        """How many times the steps of the `vae` it takes: the more, the sooner a smaller model is the better one."""

    @property
    def has_encoder(self) -> bool:
        """Whether footage can be given to it when sampling."""

    @property
    def has_discriminator(self) -> bool:
        """Whether a Discriminator takes part."""

    def optimizers(self, stage: str, networks: Networks) -> dict[str, OptimizerSpec]:
        """The optimizers of a stage, by name."""

    def step(self, stage: str, context: Context) -> dict[str, float]:
        """Train one step; what comes back is logged."""

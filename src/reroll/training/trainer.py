"""Trainer: everything a training step needs and changes, as the `Context` that recipes are given.

Every random choice of a step is a pure function of (seed, step, purpose), every schedule of (stage, step): no
random state has to be saved, and a resumed run draws what an uninterrupted one would have drawn.
"""

import copy
import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from reroll.config import ModelConfig, Plan
from reroll.footage import Windows
from reroll.parts.discriminator import Discriminator
from reroll.parts.latent_discriminator import LatentDiscriminator
from reroll.parts.model import VideoModel
from reroll.recipes.context import Footage, Latents, Networks, OptimizerSpec, Recipe, StageSpec
from reroll.training import latents
from reroll.training.checkpoint import Loaded
from reroll.training.engine import Engine
from reroll.training.latents import LatentCache, never
from reroll.training.optimizer import Muon
from reroll.training.run import restore, restore_judges
from reroll.training.training_state import load_optimizer_state, optimizer_state

WARM_UP_STEPS = 20
EARLY = 0.5
"""Progress of a stage up to which the early prior is the average itself; sooner is too sharp (docs/log.md)."""
AUGMENT_TARGET, AUGMENT_SPEED, AUGMENT_MOST = 0.6, 0.001, 0.6


class NonFiniteError(ArithmeticError):
    """A loss term or a gradient is not finite; nothing was changed. The message names it."""


def rate_factor(progress: float, step: int) -> float:
    """Learning rate over a stage, relative to its peak: warm-up, flat, then a straight line to zero."""
    warm_up = min(1.0, (step + 1) / WARM_UP_STEPS)
    return warm_up * min(1.0, max(0.02, (1 - progress) / 0.6))


def average_decay(step: int, steps: int) -> float:
    """Decay of the EMA: its half-life is 3 % of the stage, and shorter while the stage is young."""
    half_life = max(1.0, min(0.03 * steps, 0.1 * step))
    return float(0.5 ** (1 / half_life))


class Trainer:
    """Networks, their EMA, the current stage's optimizers; a recipe's `Context`."""

    def __init__(
        self, engine: Engine, recipe: Recipe, config: ModelConfig, windows: Windows, plan: Plan, seed: int
    ) -> None:
        self.engine, self.recipe, self.data = engine, recipe, windows
        self.plan, self.seed = plan, seed
        torch.manual_seed(seed)
        model = engine.setup(VideoModel(config))
        widths, labels = config.discriminator_widths, len(config.labels)
        seen = 0 if config.encoder else config.latent_channels
        self.networks = Networks(
            model,
            engine.setup(Discriminator(widths, labels, seen)) if recipe.has_discriminator else None,
            engine.setup(LatentDiscriminator(seen, widths[-1], labels)) if seen else None,
        )
        self.ema = copy.deepcopy(model).requires_grad_(False)
        self.augmentation = 0.0
        self.started_from = False  # an older run (--init)
        self.rate_scale = 1.0
        self.optimizers: dict[str, Muon] = {}
        self.specs: dict[str, OptimizerSpec] = {}
        self.stage, self.step, self.global_step, self.progress = 0, 0, 0, 0.0
        self.generator = engine.generator(seed)
        self._draws, self.frames_in_step = 0, 0
        self._cache: LatentCache | None = None
        self._encoder: dict[str, Tensor] = {}  # as it was when the latents were taken in

    @property
    def stage_name(self) -> str:
        """The current stage's name."""
        return self.plan.stages[self.stage].name

    @property
    def untrained(self) -> bool:
        """Whether the current stage's networks begin it with first weights."""
        return not self.started_from and self.stage_name not in [
            s.name for s in self.plan.stages[: self.stage]
        ]

    @property
    def on_latents(self) -> bool:
        """Whether the current stage trains on latents, whose Encoder then stays as it is."""
        return self._is_on_latents(self.stage)

    def _is_on_latents(self, stage: int) -> bool:
        return self._stage_spec(stage).on_latents

    def _stage_spec(self, stage: int) -> StageSpec:
        name = self.plan.stages[stage].name
        return next(spec for spec in self.recipe.stages if spec.name == name)

    def enter_stage(
        self, stage: int, *, resumed: bool = False, timing: bool = False, stopped: Callable[[], bool] = never
    ) -> None:
        """Make the stage's optimizers; a new stage starts from the averaged weights of the one before.

        `timing` leaves out what is done once and not in every step: blank latents will do. Where latents are encoded
        and `stopped` becomes true, StoppedError, and nothing is changed.
        """
        if self._is_on_latents(stage):
            self._use_latents(measured=resumed, timing=timing, stopped=stopped)
        self.stage = stage
        if stage > 0 and not resumed:
            self.networks.model.load_state_dict(self.ema.state_dict())
        self.specs = self.recipe.optimizers(self.stage_name, self.networks)
        self.optimizers = {
            name: Muon(
                spec.parameters, spec.learning_rate, betas=spec.betas, matrices=spec.muon, adam=spec.adam,
                calm=spec.calm, compute=self.engine.compute_dtype,
            )
            for name, spec in self.specs.items()
        }  # fmt: skip

    def train_step(self, global_step: int) -> dict[str, float]:
        """One step of the recipe, then the averages. Raises NonFiniteError."""
        stage, self.step = self.plan.locate(global_step)
        self.global_step, steps = global_step, self.plan.stages[stage].steps
        self.progress = self.step / steps
        self.generator, self._draws = self.generator_for("step"), 0
        self.frames_in_step = 0
        for name, optimizer in self.optimizers.items():
            spec = self.specs[name]
            factor = rate_factor(0.0 if spec.constant else self.progress, self.step) * self.rate_scale
            for group in optimizer.param_groups:
                group["lr"] = spec.learning_rate * factor
        logged = self.recipe.step(self.stage_name, self)
        self._average(average_decay(self.step, steps))
        if self._stage_spec(stage).keeps_early and self.progress < EARLY:
            self._keep_early()
        if "margin_sign" in logged:
            toward = 1 if logged["margin_sign"] > AUGMENT_TARGET else -1
            self.augmentation = min(AUGMENT_MOST, max(0.0, self.augmentation + toward * AUGMENT_SPEED))
            logged["augmentation"] = self.augmentation
        return logged

    def _use_latents(self, *, measured: bool, timing: bool, stopped: Callable[[], bool]) -> None:
        """Measure the latents' statistics, unless a checkpoint held them, and keep the latents if they are few
        enough; nothing of it again while the Encoder, which is the averaged one, is the same."""
        windows = self.data
        if timing:
            self._cache = LatentCache.blank(self.ema, windows) if latents.fits(windows, self.ema) else None
            return
        assert self.ema.encoder is not None
        now = self.ema.encoder.state_dict()
        if not self._encoder or not all(torch.equal(now[name], then) for name, then in self._encoder.items()):
            self._encoder, self._cache = {}, None
            model = copy.deepcopy(self.ema)  # a stop in between leaves nothing half measured
            cache = latents.take_in(self.engine, model, windows, measured=measured, stopped=stopped)
            if not measured:
                plan = self.plan
                of = (self.engine, model, windows, cache, plan.window_frames, plan.strides, stopped)
                latents.measure_content(*of)
                latents.measure_spread(*of)
            self._statistics = dict(model.named_buffers())
            self._encoder = {name: value.clone() for name, value in now.items()}
            self._cache = cache
        for owner in (self.networks.model, self.ema):
            for name, value in owner.named_buffers():
                value.copy_(self._statistics[name])

    def state(self) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
        """For a checkpoint: tensors of networks, averages and optimizers, and the rest for JSON."""
        tensors = {"model": self.networks.model.state_dict(), "ema": self.ema.state_dict()}
        tensors |= {name: judge.state_dict() for name, judge in self.networks.judges().items()}
        optimizers = {}
        for name, optimizer in self.optimizers.items():
            tensors[f"optimizer-{name}"], optimizers[name] = optimizer_state(optimizer)
        return tensors, {
            "stage": self.stage, "augmentation": self.augmentation, "optimizers": optimizers,
            "plan": self.plan.model_dump(),
        }  # fmt: skip

    def restore(self, loaded: Loaded) -> None:
        """Put back what `state` gave. CheckpointError when it is of another model."""
        self.plan = Plan.model_validate(loaded.state["plan"])
        restore(self.networks.model, loaded.tensors["model"], loaded.path)
        restore(self.ema, loaded.tensors["ema"], loaded.path)
        restore_judges(self.networks, loaded)
        self.enter_stage(loaded.state["stage"], resumed=True)
        for name, optimizer in self.optimizers.items():
            tensors, state = loaded.tensors.get(f"optimizer-{name}", {}), loaded.state["optimizers"]
            if name in state or name != "latent_discriminator":  # which runs of older versions do not have
                load_optimizer_state(optimizer, tensors, state[name])
        self.augmentation = loaded.state["augmentation"]
        self.global_step = loaded.step

    @torch.no_grad()
    def _average(self, decay: float) -> None:
        trained = {id(p) for spec in self.specs.values() for p in spec.parameters}
        pairs = [
            (mean, p)
            for mean, p in zip(self.ema.parameters(), self.networks.model.parameters(), strict=True)
            if id(p) in trained
        ]
        torch._foreach_lerp_([mean for mean, _ in pairs], [p for _, p in pairs], 1 - decay)

    @torch.no_grad()
    def _keep_early(self) -> None:
        """The early prior is the average as it is now."""
        early, average = self.ema.early_prior, self.ema.motion_prior
        assert early is not None
        torch._foreach_copy_(list(early.parameters()), list(average.parameters()))

    # What recipes are given (Context)

    def windows(self, batch: int, frames: int, multiples: Sequence[int] = (1,)) -> Footage:
        strides = [stride * multiple for stride in self.plan.strides for multiple in multiples]
        drawn = self.data.batch(self._draw(), batch=batch, frames=frames, strides=strides)
        return self._footage(self.engine.frames(drawn.frames), drawn.timestamps, drawn.labels)

    def latents(self, batch: int) -> Latents:
        frames, keys = self.plan.window_frames, self.plan.key_stride
        strides = latents.prior_strides(self.plan.strides)
        drawn = self.data.draw(self._draw(), batch=batch, frames=frames, strides=strides)
        if self._cache is not None:
            data = self._cache.windows(drawn)
        else:
            frames_read = self.engine.frames(self.data.read(drawn).frames)
            with torch.no_grad(), self.autocast():
                data = self.networks.model.encode(frames_read)
        spacings = [round(keys / stride) for stride in drawn.strides.tolist()]
        return Latents(*self._footage(data, drawn.timestamps, drawn.labels), spacings)

    def noise(self, *shape: int) -> Tensor:
        return self.engine.noise(shape, self.generator)

    def generator_for(self, purpose: str) -> Generator:
        text = f"{self.seed}/{self.global_step}/{purpose}".encode()
        digest = hashlib.blake2b(text, digest_size=7).digest()
        return self.engine.generator(int.from_bytes(digest, "big"))

    def to_device(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.engine.device)

    def autocast(self) -> AbstractContextManager[Any]:
        return self.engine.autocast()

    def full_precision(self) -> AbstractContextManager[Any]:
        return self.engine.full_precision()

    def update(
        self,
        optimizer: str,
        terms: Mapping[str, Tensor],
        extra: tuple[Tensor, Tensor] | None = None,
        through: Sequence[Tensor] = (),
    ) -> None:
        for name, term in terms.items():
            if not torch.isfinite(term):
                raise NonFiniteError(f"{self.stage_name}: {name} is {term.item()}")
        roots: list[Tensor] = [term.float() for term in terms.values()]
        gradients: list[Tensor | None] = [None] * len(roots)
        if extra is not None:
            if not torch.isfinite(extra[1]).all():
                raise NonFiniteError(
                    f"{self.stage_name}: the gradient beside {' + '.join(terms)} is not finite"
                )
            roots.append(extra[0])
            gradients.append(extra[1])
        parameters = self.specs[optimizer].parameters
        for parameter in parameters:
            parameter.grad = None
        torch.autograd.backward(
            roots, gradients, inputs=[*(p for p in parameters if p.requires_grad), *through]
        )
        present = [p.grad for p in parameters if p.grad is not None]
        if not torch.isfinite(torch.nn.utils.get_total_norm(present)):
            raise NonFiniteError(
                f"{self.stage_name}: the gradient of {' + '.join(terms) or optimizer} is not finite"
            )
        self.optimizers[optimizer].step()

    def _draw(self) -> int:
        """The index of the next batch: unique to this step and call."""
        self._draws += 1
        return self.global_step * 16 + self._draws

    def _footage(self, data: Tensor, timestamps: np.ndarray, labels: np.ndarray) -> Footage:
        self.frames_in_step += timestamps.size
        return Footage(
            self.to_device(data),
            self.engine.tensor(timestamps.astype(np.float32)),
            self.engine.tensor(labels),
        )

"""Minutes → a plan, once, by timing: which model, how many steps per stage.

A few steps of each stage are timed on the real footage. Schedules read the plan's steps only; what the clock says
later can change the plan (a *re-plan*, logged and replayed on resume), never a schedule directly.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import get_args

from reroll.config import PRESETS, Frozen, ModelConfig, ModelName, Plan, StagePlan
from reroll.errors import UsageError
from reroll.footage import Span, Store, Windows
from reroll.footage.inspect import Inspection
from reroll.footage.store import PICTURE_SECONDS, frame_size
from reroll.recipes import Recipe
from reroll.recipes.context import StageSpec
from reroll.training.engine import Engine
from reroll.training.footprint import fits, require_memory
from reroll.training.paces import noise_paces
from reroll.training.trainer import Trainer

WINDOW_FRAMES = 16
KEYS_PER_SECOND = 7.5
FITTING = 0.75
"""Share of the frames that has to be in shots as long as a window of keyframes."""
RELATIVE_COST = {"s": 0.5, "m": 1.0, "l": 2.2}
WANTED_STEPS: dict[ModelName, int] = {"l": 40_000, "m": 6000, "s": 0}
"""A model is chosen when this many steps of all stages fit: below, a smaller one learns more in the time
(docs/log.md)."""
TIMED_AT = (0.1, 0.901, 0.302, 0.703)  # one of each remainder by four: some work is done every fourth step
PREVIEWS = 8
CHECKPOINT_SECONDS, CHECKPOINT_STEPS = 90.0, 250
"""About how long to go without a checkpoint, and how many steps where they are not timed."""
RESERVE = 0.93
"""Share of the remaining time that is planned for steps; previews and checkpoints take the rest."""
LEAST_STEPS, LEAST_STAGE_STEPS = 40, 4
"""A run of fewer steps, in all and in a stage, is refused: it would have learnt nothing."""


@dataclass(frozen=True)
class Timing:
    """Seconds per step of each stage, for one model."""

    model: ModelName
    seconds: dict[str, float]

    def steps(self, recipe: Recipe, budget_seconds: float) -> int:
        """Steps of all stages that fit into the time."""
        return sum(int(budget_seconds * s.share / self.seconds[s.name]) for s in recipe.stages)

    def scaled(self, model: ModelName) -> "Timing":
        """What another model would take, by the relative cost of the models."""
        factor = RELATIVE_COST[model] / RELATIVE_COST[self.model]
        return Timing(model, {name: seconds * factor for name, seconds in self.seconds.items()})


SIZES = (32, 48, 64, 96, 128, 192, 256)
SECONDS_PER_MEGAPIXEL_STEP = 95.0
"""Core-seconds of an average `vaegan` step of model `m` per megapixel of a frame, in a 20-minute run (docs/log.md)."""
WANTED_FOR_SIZE = 2000
"""Steps below which a larger size is not worth it: a sharp 64 beats a blurred 128."""


def largest_model(steps: Callable[[ModelName], int]) -> ModelName:
    """The largest model that gets as many steps as it wants; `steps` says how many fit for each."""
    order: tuple[ModelName, ...] = ("l", "m", "s")
    return next((model for model in order if steps(model) >= WANTED_STEPS[model]), "s")


class Suggestion(Frozen):
    """What could be trained in the time on this machine, before anything is timed: size in pixels on the short
    side, model, and how many steps of it fit."""

    minutes: float
    cores: int
    size: int
    width: int
    height: int
    model: ModelName
    steps: int
    reason: str

    def lines(self) -> list[str]:
        """For a person."""
        return [
            f"in {self.minutes:g} minutes on {self.cores} core{'s' if self.cores > 1 else ''}: --size {self.size}"
            f" ({self.width}×{self.height}), model {self.model}, about {self.steps} steps",
            f"  because {self.reason}",
            "  (an estimate for CPU cores with bf16; `reroll train` times this machine)",
        ]


def suggest(footage: Inspection, minutes: float, cores: int) -> Suggestion:
    """The largest size whose steps suffice, for footage of this shape; an estimate, `train` times for real."""

    shapes = [(file.width, file.height, file.seconds or PICTURE_SECONDS) for file in footage.files]

    def steps(size: int, model: ModelName = "m") -> int:
        height, width = frame_size(shapes, size)
        seconds = SECONDS_PER_MEGAPIXEL_STEP * RELATIVE_COST[model] * width * height / 1e6
        return int(minutes * 60 * cores / seconds)

    largest = median_low(min(width, height) for width, height, _ in shapes)
    possible = [size for size in SIZES if size <= largest] or [SIZES[0]]
    enough = [size for size in possible if steps(size) >= WANTED_FOR_SIZE]
    size = enough[-1] if enough else possible[0]
    model = largest_model(lambda model: steps(size, model))
    height, width = frame_size(shapes, size)
    larger = possible[possible.index(size) + 1] if size != possible[-1] else None
    reason = (
        f"a larger picture would get {steps(larger)} steps, and under {WANTED_FOR_SIZE} it stays blurred"
        if larger
        else "the footage itself is no larger"
    )
    if not enough:
        reason = f"even the smallest size gets only {steps(size, model)} steps; give more minutes"
    return Suggestion(
        minutes=minutes, cores=cores, size=size, width=width, height=height, model=model,
        steps=steps(size, model), reason=reason,
    )  # fmt: skip


def choose_strides(spans: Sequence[Span], fps: float) -> tuple[int, ...]:
    """Strides windows are drawn at: every frame, and up to 6-8 frames a second if shots with three quarters of the
    frames are long enough: all samples' keyframes are that far apart, and what is in other shots would never have been
    seen so (docs/log.md)."""
    lengths = [span.stop - span.start for span in spans]

    def fits(stride: int) -> bool:
        long_enough = sum(length for length in lengths if length > stride * (WINDOW_FRAMES - 1))
        return long_enough >= FITTING * sum(lengths)

    coarse = max(1, round(fps / KEYS_PER_SECOND))
    while coarse > 1 and not fits(coarse):
        coarse -= 1
    return tuple(sorted({1, max(1, coarse // 2), coarse}))


def model_config(model: ModelName, recipe: Recipe, store: Store) -> ModelConfig:
    """The preset with what the footage decides."""
    return ModelConfig(
        height=store.height, width=store.width, encoder=recipe.has_encoder, labels=tuple(store.labels),
        noise_paces=None if recipe.has_encoder else noise_paces(store),
        **PRESETS[model],  # type: ignore[arg-type]
    )  # fmt: skip


def time_model(
    engine: Engine, recipe: Recipe, model: ModelName, store: Store, windows: Windows, plan: Plan, seed: int
) -> Timing:
    """Time steps at four places of every stage, after one that warms up; nothing of it is kept."""
    trial = plan.model_copy(
        update={"stages": tuple(StagePlan(name=s.name, steps=1000) for s in recipe.stages)}
    )
    trainer = Trainer(engine, recipe, model_config(model, recipe, store), windows, trial, seed)
    seconds = {}
    for index, stage in enumerate(recipe.stages):
        trainer.enter_stage(index, timing=True)
        trainer.train_step(index * 1000 + 500)
        started = time.perf_counter()
        for place in TIMED_AT:
            trainer.train_step(index * 1000 + round(1000 * place))
        engine.synchronize()
        seconds[stage.name] = (time.perf_counter() - started) / len(TIMED_AT)
    return Timing(model, seconds)


def plan_stages(
    specs: Sequence[StageSpec], timing: Timing, budget_seconds: float, option: str = "--minutes"
) -> tuple[StagePlan, ...]:
    """Steps of these stages that fill the time by their shares. UsageError when it is too short to train anything."""
    whole = sum(s.share for s in specs)
    per_second = {s.name: s.share / whole / timing.seconds[s.name] for s in specs}
    least_seconds = LEAST_STEPS / sum(per_second.values()) / RESERVE
    if budget_seconds < least_seconds:
        raise UsageError(
            f"{option} is too short: {max(0.0, budget_seconds) / 60:.1f} minutes are left for training,"
            f" and {least_seconds / 60:.1f} are the least for this size; give more minutes or a smaller --size."
        )
    usable = budget_seconds * RESERVE
    return tuple(
        StagePlan(name=name, steps=max(LEAST_STAGE_STEPS, int(usable * steps)))
        for name, steps in per_second.items()
    )


def split_steps(recipe: Recipe, steps: int) -> tuple[StagePlan, ...]:
    """`--steps` given outright, divided among the stages by their shares. UsageError if they do not go round."""
    if steps < len(recipe.stages):
        raise UsageError(
            f"--steps {steps}: {recipe.name} has {len(recipe.stages)} stages, give at least one step each."
        )
    counts = [max(1, round(steps * s.share)) for s in recipe.stages]
    counts[counts.index(max(counts))] += steps - sum(counts)
    return tuple(StagePlan(name=s.name, steps=n) for s, n in zip(recipe.stages, counts, strict=True))


def make_plan(
    engine: Engine, recipe: Recipe, store: Store, windows: Windows, *, fps: float, model: str, seed: int,
    steps: int | None, seconds_left: float | None, mirror: bool, started: float,
) -> Plan:  # fmt: skip
    """The plan for `steps`, or for `seconds_left` seconds counted from `started` (monotonic).

    Raises:
        UsageError: The time is too short.
        SpaceError: It takes more memory than there is.
    """
    base = Plan(
        model="m" if model == "auto" else model,  # type: ignore[arg-type]
        stages=tuple(StagePlan(name=s.name, steps=1) for s in recipe.stages),
        window_frames=WINDOW_FRAMES, strides=choose_strides(windows.spans, fps), mirror=mirror, preview_every=1,
        checkpoint_every=1,
    )  # fmt: skip
    if steps is not None:
        chosen: ModelName = "s" if model == "auto" else model  # type: ignore[assignment]
        require_memory(engine, recipe.name, chosen, store.height, store.width)
        stages = split_steps(recipe, steps)
        return base.model_copy(
            update={
                "model": chosen, "stages": stages, "preview_every": max(1, steps // PREVIEWS),
                "checkpoint_every": min(CHECKPOINT_STEPS, max(1, steps // 10)),
            }
        )  # fmt: skip
    assert seconds_left is not None
    deadline = started + seconds_left
    short = seconds_left < 600 * recipe.patience
    fitting = [
        each for each in get_args(ModelName) if fits(engine, recipe.name, each, store.height, store.width)
    ]
    first: ModelName = "s" if model == "auto" and (short or base.model not in fitting) else base.model
    require_memory(engine, recipe.name, first, store.height, store.width)
    timing = time_model(engine, recipe, first, store, windows, base, seed)
    if model == "auto":
        left = (deadline - time.monotonic()) * RESERVE
        steps_of = {each: timing.scaled(each).steps(recipe, left / recipe.patience) for each in fitting}
        best = largest_model(lambda model: steps_of.get(model, 0))
        if best != first:
            timing = time_model(engine, recipe, best, store, windows, base, seed)
    stages = plan_stages(recipe.stages, timing, deadline - time.monotonic())
    total = sum(stage.steps for stage in stages)
    mean_step = seconds_left / total
    return base.model_copy(
        update={
            "model": timing.model, "stages": stages, "seconds_per_step": timing.seconds,
            "preview_every": max(1, total // PREVIEWS),
            "checkpoint_every": max(1, int(CHECKPOINT_SECONDS / mean_step)),
        }
    )  # fmt: skip


def replan(plan: Plan, step: int, seconds_needed: float, seconds_left: float) -> tuple[StagePlan, ...] | None:
    """Stages with the steps still to come scaled to the time left; None when it holds within 4 %."""
    if seconds_needed <= 0 or abs(seconds_left / seconds_needed - 1) < 0.04:
        return None
    factor = max(0.1, seconds_left / seconds_needed)
    stages, begin = [], 0
    for stage in plan.stages:
        done = min(max(0, step - begin), stage.steps)
        begin += stage.steps
        to_come = stage.steps - done
        rest = max(1, round(to_come * factor)) if to_come else 0
        stages.append(stage.model_copy(update={"steps": done + rest}))
    return tuple(stages)

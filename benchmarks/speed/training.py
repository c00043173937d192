"""Training steps of each stage of a recipe: seconds, frames per second, FLOPs, and how much of the machine they use.

A turn is one step that is not timed and then four, at four places of the stage: some work is done every fourth step
only. FLOPs are counted over the same four, and the share of the peak is of the run's own precision and threads.
"""

import time
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.speed import machine
from benchmarks.speed.bench import Bench
from benchmarks.speed.flops import flops_of
from benchmarks.speed.footage import STAGE_STEPS, timing_plan
from benchmarks.speed.tables import Table, interleaved
from reroll.config import ModelName
from reroll.footage import Windows
from reroll.recipes import RECIPES, Recipe
from reroll.training.budget import TIMED_AT, model_config
from reroll.training.engine import Engine
from reroll.training.trainer import Trainer


@dataclass(frozen=True)
class Stage:
    """A stage of a recipe with a trainer that is in it."""

    trainer: Trainer
    index: int

    @classmethod
    def enter(cls, engine: Engine, recipe: Recipe, index: int, model: ModelName, windows: Windows) -> "Stage":
        """The stage of new networks, with blank latents where it trains on latents."""
        plan, config = timing_plan(recipe, model, windows), model_config(model, recipe, windows.store)
        trainer = Trainer(engine, recipe, config, windows, plan, 0)
        trainer.enter_stage(index, timing=True)
        return cls(trainer, index)

    def step(self, place: float) -> None:
        """One step so far into the stage."""
        self.trainer.train_step(self.index * STAGE_STEPS + round(STAGE_STEPS * place))

    def turn(self) -> float:
        """Seconds a step."""
        self.step(0.5)
        began = time.perf_counter()
        for place in TIMED_AT:
            self.step(place)
        self.trainer.engine.synchronize()
        return (time.perf_counter() - began) / len(TIMED_AT)

    def frames(self) -> float:
        """Frames of footage, or their latents, in the last step."""
        return float(self.trainer.frames_in_step)

    def flops(self) -> float:
        """FLOPs of a step, the optimizers' share in it."""
        return sum(flops_of(lambda place=place: self.step(place)) for place in TIMED_AT) / len(TIMED_AT)

    def optimizer_flops(self) -> float:
        """FLOPs of the optimizers' part of the step before."""
        return float(sum(flops_of(optimizer.step) for optimizer in self.trainer.optimizers.values()))


def tables(bench: Bench) -> list[Table]:
    """One row for each size, model, recipe and stage."""
    engine = bench.engine
    stages = {
        (size, model, recipe, spec.name): Stage.enter(
            engine, RECIPES[recipe], index, model, bench.footage.windows(size)
        )
        for size in bench.sizes or (64,) for model in bench.models or ("m",) for recipe in bench.all_recipes
        for index, spec in enumerate(RECIPES[recipe].stages)
    }  # fmt: skip
    peak = machine.peak(machine.rates(bench), engine.precision, engine.threads)
    seconds = interleaved({case: stage.turn for case, stage in stages.items()}, bench.rounds)
    rows: list[dict[str, Any]] = []
    for case, stage in stages.items():
        size, model, recipe, name = case
        typical, flops = median(seconds[case]), stage.flops()
        rate = flops / typical / 1e9
        rows.append(
            {
                "size": bench.shape(size), "model": model, "recipe": recipe, "stage": name,
                "seconds a step": typical, "frames a second": stage.frames() / typical,
                "GFLOPs a step": flops / 1e9, "of these optimizer": stage.optimizer_flops() / flops,
                "GFLOP/s": rate, "share of peak": rate / peak, "rounds": seconds[case],
            }
        )  # fmt: skip
    note = f"Peak: {peak:,.0f} GFLOP/s in {engine.precision} on {engine.threads} threads."
    return [Table("Training", rows, note)]

"""How long a training step takes at each size, and so what size is reachable in how many minutes.

Steps are timed as `reroll train` times them when it plans, and what other work costs is not counted.
"""

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from benchmarks.speed.bench import Bench
from benchmarks.speed.footage import timing_plan
from benchmarks.speed.tables import Table, interleaved
from reroll.config import ModelName
from reroll.recipes import RECIPES, Recipe
from reroll.training.budget import Timing, time_model

SIZES = (32, 64, 96, 128)
MINUTES = (20, 60, 480)


def tables(bench: Bench) -> list[Table]:
    """One for each recipe."""
    return [_table(bench, RECIPES[name]) for name in bench.recipes or ("vaegan",)]


def _table(bench: Bench, recipe: Recipe) -> Table:
    """One row for each size and model."""

    def timing(size: int, model: ModelName) -> Callable[[], Timing]:
        windows = bench.footage.windows(size)
        plan = timing_plan(recipe, model, windows)
        return lambda: time_model(bench.engine, recipe, model, windows.store, windows, plan, 0)

    models: Sequence[ModelName] = bench.models or ("s", "m")
    cases = {(size, model): timing(size, model) for size in bench.sizes or SIZES for model in models}
    rows: list[dict[str, Any]] = []
    for (size, model), timings in interleaved(cases, bench.rounds).items():
        seconds = {s.name: median(timing.seconds[s.name] for timing in timings) for s in recipe.stages}
        typical = Timing(model, seconds)
        rows.append(
            {"size": bench.shape(size), "model": model}
            | {f"{name} s": value for name, value in seconds.items()}
            | {f"steps in {minutes} min": typical.steps(recipe, minutes * 60) for minutes in MINUTES}
        )
    return Table(f"Sizes, {recipe.name}", rows)

"""How many times faster a step of ours is than the plain loop's, same networks and batches: `vae`, stage by stage.

Ours runs here, the plain loop in a process of its own, by turns. The whole is a training with as many steps of each as
ours fits into its time: the mean of the stages' ratios, weighed by their share of the time.
"""

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from benchmarks.speed.bench import Bench
from benchmarks.speed.children import in_child
from benchmarks.speed.tables import Table, interleaved
from benchmarks.speed.training import Stage
from reroll.config import ModelName
from reroll.recipes import RECIPES

Seconds = dict[str, float]


def measures(bench: Bench, size: int, model: ModelName) -> dict[str, Callable[[], Seconds]]:
    """Seconds a step of each stage, ours and the plain loop's."""
    engine, recipe, windows = bench.engine, RECIPES["vae"], bench.footage.windows(size)
    stages = {
        spec.name: Stage.enter(engine, recipe, index, model, windows)
        for index, spec in enumerate(recipe.stages)
    }
    store = windows.store.path
    return {
        "ours": lambda: {name: stage.turn() for name, stage in stages.items()},
        "plain": lambda: in_child("plain", store=store, model=model, threads=engine.threads),
    }


def tables(bench: Bench) -> list[Table]:
    """Two stages and the whole for each size and model."""
    rows: list[dict[str, Any]] = []
    models: Sequence[ModelName] = bench.models or ("m",)
    for size in bench.sizes or (64,):
        for model in models:
            found = interleaved(measures(bench, size, model), bench.rounds)
            named = {"size": bench.shape(size), "model": model}
            rows += [named | row for row in compared(found["ours"], found["plain"])]
    engine = bench.engine
    note = f"Ours in {engine.precision}, both on {engine.threads} threads; `vae` without what comes once."
    return [Table("Against a plain PyTorch loop", rows, note)]


def compared(ours: Sequence[Seconds], plain: Sequence[Seconds]) -> list[dict[str, Any]]:
    """A row for each stage and one for the whole, from what each round gave."""
    rows: list[dict[str, Any]] = []
    for spec in RECIPES["vae"].stages:
        rounds = [[each[spec.name] for each in seconds] for seconds in (ours, plain)]
        mine, theirs = map(median, rounds)
        rows.append(
            {
                "stage": spec.name, "share of our time": spec.share, "ours, seconds a step": mine,
                "plain, seconds a step": theirs, "times as fast": theirs / mine, "ours rounds": rounds[0],
                "plain rounds": rounds[1],
            }
        )  # fmt: skip
    whole = sum(row["share of our time"] * row["times as fast"] for row in rows)
    blank: dict[str, Any] = dict.fromkeys(rows[0])
    return [*rows, blank | {"stage": "whole", "share of our time": 1.0, "times as fast": whole}]

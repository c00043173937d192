"""How long a training step takes at each size, and so what size is reachable in how many minutes.

    python -m benchmarks.speed --clip take.mp4 --sizes 32 64 96 128 --recipe vaegan

Every size and model is timed three times, interleaved, and the median is taken; the machine should do nothing else.
"""

import argparse
import tempfile
from pathlib import Path
from statistics import median
from typing import cast

from reroll.config import ModelName, Plan, StagePlan
from reroll.footage import Windows, find_footage, ingest, split
from reroll.recipes import RECIPES
from reroll.training.budget import WINDOW_FRAMES, Timing, choose_strides, time_model
from reroll.training.engine import Engine

ROUNDS = 3
MINUTES = (20, 60, 480)


def main() -> None:
    """Time and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clip", type=Path, required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 64, 96, 128])
    parser.add_argument("--models", nargs="+", default=["s", "m"], choices=["s", "m", "l"])
    parser.add_argument("--recipe", default="vaegan", choices=sorted(RECIPES))
    asked = parser.parse_args()
    engine, recipe = Engine.start(), RECIPES[asked.recipe]
    cases = [(size, model) for size in asked.sizes for model in asked.models]
    found: dict[tuple[int, str], list[Timing]] = {case: [] for case in cases}
    with tempfile.TemporaryDirectory() as cache:
        files, _ = find_footage([asked.clip])
        stores = {size: ingest(files, short_side=size, cache_dir=Path(cache)) for size in asked.sizes}
        for _ in range(ROUNDS):
            for size, model in cases:
                store = stores[size]
                windows = Windows(store, split(store, WINDOW_FRAMES).train, seed=0, mirror=False)
                plan = Plan(
                    model=cast(ModelName, model), stages=(StagePlan(name="any", steps=1),), preview_every=1,
                    strides=choose_strides(windows.spans, store.files[0].fps), checkpoint_every=1,
                )  # fmt: skip
                found[size, model].append(
                    time_model(engine, recipe, cast(ModelName, model), store, windows, plan, 0)
                )
        print(f"{asked.recipe} on {engine.describe()}")
        print("size | model | " + " | ".join(f"{s.name} s" for s in recipe.stages) + " | steps in "
              + ", ".join(map(str, MINUTES)) + " min")  # fmt: skip
        for (size, model), timings in found.items():
            seconds = {
                stage.name: median(timing.seconds[stage.name] for timing in timings)
                for stage in recipe.stages
            }
            typical = Timing(cast(ModelName, model), seconds)
            steps = ", ".join(str(typical.steps(recipe, minutes * 60)) for minutes in MINUTES)
            shape = f"{stores[size].width}×{stores[size].height}"
            print(
                f"{size} ({shape}) | {model} | "
                + " | ".join(f"{s:.2f}" for s in seconds.values())
                + f" | {steps}"
            )


if __name__ == "__main__":
    main()

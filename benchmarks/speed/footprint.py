"""Peak memory of short trainings against what `reroll.training.footprint` says before they begin."""

import tempfile
from pathlib import Path

from benchmarks.speed.bench import Bench
from benchmarks.speed.children import in_child
from benchmarks.speed.footage import make_clip
from benchmarks.speed.tables import Table
from reroll.config import ModelName
from reroll.training.footprint import needed_bytes

MODELS: tuple[ModelName, ...] = ("s", "m", "l")
SIZES = (64, 128)
STEPS, SECONDS = 8, 8.0


def tables(bench: Bench) -> list[Table]:
    """One row for each recipe, model and size."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        clip = make_clip(Path(folder) / "made.mp4", SECONDS)
        cases = [
            (r, m, s) for r in bench.all_recipes for m in bench.models or MODELS for s in bench.sizes or SIZES
        ]
        for recipe, model, size in cases:
            found = in_child(
                "memory", kind="trained", clip=clip, run=Path(folder) / f"{recipe}-{model}-{size}", recipe=recipe,
                size=size, model=model, threads=bench.engine.threads, steps=STEPS,
                precision=bench.engine.precision,
            )  # fmt: skip
            told = needed_bytes(recipe, model, found["height"], found["width"], bench.engine.precision)
            rows.append(
                {
                    "recipe": recipe, "model": model, "frame": f"{found['width']}×{found['height']}",
                    "peak MB": found["peak_bytes"] / 1e6, "told MB": told / 1e6,
                    "told over peak": told / found["peak_bytes"],
                }
            )  # fmt: skip
    return [
        Table("Memory of a training, told and measured", rows, f"In {bench.engine.precision}; once each.")
    ]

"""The memory that a training will need, told before any of it is taken.

What it needs grows with the pixels of a frame and the width of the networks; how much was measured for each recipe and
model (`python -m benchmarks.speed --what footprint`, which holds the estimate against peaks; docs/log.md).
"""

from reroll.config import ModelName
from reroll.errors import SpaceError
from reroll.training.engine import Engine

BASE_BYTES: dict[ModelName, float] = {"s": 0.7e9, "m": 0.9e9, "l": 2.0e9}
"""Whatever the frames: Python, torch, the networks and their optimizers."""
BYTES_PER_PIXEL: dict[ModelName, float] = {"s": 112e3, "m": 138e3, "l": 290e3}
"""For each pixel of a frame beyond that, in fp32, of `vaegan`."""
RECIPE_SHARES = {"vaegan": (1.0, 1.0), "vae": (0.85, 0.45), "gan": (1.0, 0.85)}
"""What a recipe needs of either."""
BF16_SHARE = 0.67
"""What bf16 needs of the latter."""
CERTAIN = 0.85
"""Share of an estimate that is needed for certain: a training is refused only where that is not there."""


def needed_bytes(recipe: str, model: ModelName, height: int, width: int, precision: str) -> float:
    """Peak memory of a training on frames of this size, about."""
    base, share = RECIPE_SHARES[recipe]
    each = share * BYTES_PER_PIXEL[model] * (BF16_SHARE if precision == "bf16" else 1.0)
    return base * BASE_BYTES[model] + each * height * width


def fits(engine: Engine, recipe: str, model: ModelName, height: int, width: int) -> bool:
    """Whether there is so much memory as a training will need."""
    needed = needed_bytes(recipe, model, height, width, engine.precision)
    return CERTAIN * needed <= engine.available_memory_bytes()


def require_memory(engine: Engine, recipe: str, model: ModelName, height: int, width: int) -> None:
    """SpaceError unless there is so much memory as a training will need."""
    if not fits(engine, recipe, model, height, width):
        needed = needed_bytes(recipe, model, height, width, engine.precision)
        raise SpaceError(
            f"training {recipe} at {width}x{height} with --model {model} needs about {needed / 1e9:.1f} GB of memory"
            f" and {engine.available_memory_bytes() / 1e9:.1f} GB are free; give a smaller --size or --model, or end"
            " other programs."
        )

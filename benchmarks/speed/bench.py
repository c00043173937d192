"""What is measured and on what: every file that makes a table takes a `Bench`.

Recipes, sizes and models hold for all tables; where none are given each table has its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.speed.footage import Footage
from reroll.config import ModelName
from reroll.training.engine import Engine


@dataclass(frozen=True)
class Bench:
    """A started engine, footage, and what was asked for."""

    engine: Engine
    footage: Footage
    recipes: Sequence[str] = ()
    sizes: Sequence[int] = ()
    models: Sequence[ModelName] = ()
    rounds: int = 3
    products: Sequence[int] = (2048, 4096)
    """Sides of the matrices that are multiplied."""
    seconds: float = 4.0
    """Length of the samples that are timed."""
    lengths: Sequence[float] = (10.0, 60.0)
    """Lengths of samples whose peak memory is measured, in seconds."""
    footage_lengths: Sequence[float] = (30.0, 120.0)
    """Lengths of footage whose training's peak memory is measured, in seconds."""
    minutes: float = 5.0
    """Of our training, where the quality is compared."""
    budgets: Sequence[float] = (1.0, 1.3, 2.0, 4.0)
    """How many times these minutes the plain loop is given, one after the other."""

    @property
    def size(self) -> int:
        """The size of tables that have one."""
        return self.sizes[0] if self.sizes else 64

    @property
    def model(self) -> ModelName:
        """The model of tables that have one: `m` is what is planned for 20 minutes at this size on two cores."""
        return self.models[0] if self.models else "m"

    @property
    def all_recipes(self) -> Sequence[str]:
        """Those asked for, or all."""
        return self.recipes or ("vae", "vaegan", "gan")

    def shape(self, size: int) -> str:
        """A size as tables show it."""
        store = self.footage.store(size)
        return f"{size} ({store.width}×{store.height})"

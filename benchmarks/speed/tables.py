"""What is measured, as tables: medians of interleaved rounds, each table with the command that gives it again.

A row is a dictionary of column → value; a value that is a list (what each round gave) is in the JSON only.
"""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from benchmarks.markdown import table

Case = TypeVar("Case", bound=Hashable)
Result = TypeVar("Result")


@dataclass(frozen=True)
class Table:
    """A title, rows with the same columns, what a reader has to know of them, the command that makes them."""

    title: str
    rows: list[dict[str, Any]]
    note: str = ""
    command: str = ""

    def markdown(self) -> str:
        """For the terminal and `docs/log.md`."""
        shown = [
            {name: figure(value) for name, value in row.items() if not isinstance(value, list)}
            for row in self.rows
        ]
        lines = [
            f"**{self.title}** (`{self.command}`)",
            *([self.note] if self.note else []),
            "",
            table(shown),
        ]
        return "\n".join(lines) + "\n"


def figure(value: object) -> str:
    """A number with three figures, or whole where it has more before the point; anything else as it is."""
    if value is None:
        return ""
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def interleaved(measures: Mapping[Case, Callable[[], Result]], rounds: int) -> dict[Case, list[Result]]:
    """Each measured once a round, one after the other: a machine that slows down meanwhile slows all of them."""
    found: dict[Case, list[Result]] = {case: [] for case in measures}
    for _ in range(rounds):
        for case, measure in measures.items():
            found[case].append(measure())
    return found

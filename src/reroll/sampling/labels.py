"""Labels of a clip: one, a mixture, or changes over time, as they are written after `--label`.

walk                      one
walk:0.5,run:0.5          a mixture
walk@0,run@3s             a change
walk:0.7+run:0.3@0,run@3  a mixture that changes
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reroll.errors import UsageError

Mixture = tuple[tuple[int, float], ...]
"""Labels' numbers and their shares, which add up to 1; empty: no label."""


@dataclass(frozen=True)
class Labels:
    """What a clip is asked to show, and when."""

    text: str | None = None
    """As it was written."""
    changes: tuple[tuple[float, Mixture], ...] = ((0.0, ()),)
    """From when (seconds) which mixture holds, in order; the first from 0 on."""

    @classmethod
    def parse(cls, text: str | None, known: Sequence[str]) -> "Labels":
        """UsageError names the word that makes no sense."""
        if text is None:
            return cls()
        if text in known:
            return cls(text, ((0.0, ((known.index(text), 1.0),)),))
        if "@" not in text:
            return cls(text, ((0.0, _mixture(text, ",", known)),))
        changes = []
        for part in text.split(","):
            names, at, when = part.strip().rpartition("@")
            try:
                seconds = float(when.strip().removesuffix("s"))
            except ValueError:
                seconds = -1.0
            if not at or not 0 <= seconds < math.inf:
                raise UsageError(f"--label {part.strip()}: say from when each holds, such as walk@0,run@3s.")
            changes.append((seconds, _mixture(names, "+", known)))
        changes.sort(key=lambda change: change[0])
        changes[0] = 0.0, changes[0][1]
        return cls(text, tuple(changes))

    def at(self, seconds: float) -> Mixture:
        """What holds at a time."""
        return next(
            mixture for begin, mixture in reversed(self.changes) if begin <= seconds + 1e-6 or begin == 0
        )

    def next_change(self, seconds: float) -> float:
        """When something else begins to hold; infinity if nothing does."""
        return next((begin for begin, _ in self.changes if begin > seconds + 1e-6), math.inf)

    def held(self, seconds: float) -> "Labels":
        """What holds at a time, for ever."""
        return Labels(self.text, ((0.0, self.at(seconds)),))


def _mixture(text: str, separator: str, known: Sequence[str]) -> Mixture:
    """`walk:0.5,run:0.5`, or names without shares, which are alike."""
    shares: dict[int, float] = {}
    for part in text.split(separator):
        name, colon, share = part.strip().rpartition(":")
        if part.strip() in known or not colon:
            name, share = part.strip(), "1"
        if name not in known:
            names = ", ".join(known) if known else "none: the footage had no labelled subfolders"
            raise UsageError(f"--label {name or part.strip()}: not a label of this run ({names}).")
        try:
            value = float(share)
        except ValueError:
            value = -1.0
        if not 0 < value < math.inf:
            raise UsageError(f"--label {part.strip()}: give a share above 0, such as {name}:0.5.")
        shares[known.index(name)] = shares.get(known.index(name), 0.0) + value
    whole = sum(shares.values())
    return tuple((label, share / whole) for label, share in sorted(shares.items()))


def weights(mixture: Mixture, count: int) -> Tensor:
    """The share of no label, then of each of so many: `count + 1`."""
    found = torch.zeros(count + 1)
    for label, share in mixture:
        found[label + 1] = share
    if not mixture:
        found[0] = 1.0
    return found

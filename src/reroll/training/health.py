"""Whether a training is well, in words: a pure function from recent metrics to findings.

Rows are what `Monitor.log` was given, oldest first, one a step, a missing or non-finite value being None.
The sign of the discriminator's logits is the cheapest sign of a GAN's health (a habit of R3GAN's trainer);
for a relativistic loss it is the sign of the difference between a real and a generated logit.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from statistics import fmean, median
from typing import Any, Literal

Row = Mapping[str, Any]

SHORT_STEPS, LONG_STEPS = 25, 100
"""Over how many steps a fault has to last: those that hurt soon, and those that take time to be sure of."""

CHANCE = 0.68
"""A discriminator's loss above which it knows nothing (log 2 = 0.693): its signs are those of one verdict only."""

EXPLODED = 4.0
"""How many times its best a loss has to be for the run not to get over it by itself."""

ACTIONS = {
    "non-finite": "going back to the last good state, skipping this batch and halving the rate",
    "explosion": "going back to the last good state, skipping this batch and halving the rate",
    "posterior collapse": "nothing is done; a new run with a larger --model may help",
    "discriminator too strong": "augmentation rises with its lead; if it lasts, more footage helps",
    "discriminator at chance": "it goes on learning",
    "frozen motion": "training goes on; if it stays so at the end, --add-minutes",
    "restless motion": "training goes on; if it lasts, --add-minutes, or sample with a lower --temperature",
    "divergence": "the rate falls to the stage's end and samples come from the averaged weights, which follow slowly",
}
"""What the training loop does about each fault, or what the user can."""


@dataclass(frozen=True)
class Health:
    """One thing that is wrong. `fail` cannot go on as it is, `warn` will not give good samples."""

    level: Literal["warn", "fail"]
    kind: str
    words: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.words}; {self.remedy}"


def health(metrics: Sequence[Row]) -> list[Health]:
    """What is wrong, worst first; an empty list means nothing is known to be.

    Of `metrics`, recent rows with the oldest first, only those of the newest row's stage count.
    """
    if not metrics:
        return []
    stage = metrics[-1].get("stage")
    rows = list(takewhile(lambda row: row.get("stage") == stage, reversed(metrics)))[::-1]
    found = [finding for check in _CHECKS if (finding := check(rows))]
    return sorted(
        (replace(finding, remedy=ACTIONS[finding.kind]) for finding in found), key=lambda f: f.level != "fail"
    )


def _non_finite(rows: Sequence[Row]) -> Health | None:
    bad = [name for name, value in rows[-1].items() if _is_number_or_none(value) and not _is_finite(value)]
    if not bad:
        return None
    step = rows[-1].get("step", "?")
    return Health("fail", "non-finite", f"{', '.join(bad)} at step {step}", "")


def _posterior_collapse(rows: Sequence[Row]) -> Health | None:
    kl = _column(rows, "kl")
    if len(kl) < 2 * SHORT_STEPS or fmean(kl[-SHORT_STEPS:]) > 0.01:
        return None
    found = (
        f"the KL is {fmean(kl[-SHORT_STEPS:]):.4f} nats a latent: the decoder hears nothing from the encoder"
    )
    return Health("warn", "posterior collapse", found, "")


def _discriminator(rows: Sequence[Row]) -> Health | None:
    right = [
        0.5 + (row["real_sign"] - row["fake_sign"]) / 4
        for row in rows
        if _is_finite(row.get("real_sign")) and _is_finite(row.get("fake_sign"))
    ]
    if len(right) >= SHORT_STEPS and (share := fmean(right[-SHORT_STEPS:])) > 0.97:
        found = f"it tells real from generated {share:.0%} of the time: its gradients teach little"
        return Health("warn", "discriminator too strong", found, "")
    lost = _column(rows, "discriminator")[-LONG_STEPS:]
    if (
        len(right) >= LONG_STEPS
        and abs(fmean(right[-LONG_STEPS:]) - 0.5) < 0.03
        and fmean(lost or [1.0]) > CHANCE
    ):
        found = (
            f"right {fmean(right[-LONG_STEPS:]):.0%} of the time: it has learnt nothing in {LONG_STEPS} steps"
        )
        return Health("warn", "discriminator at chance", found, "")
    losses = _column(rows, "discriminator")
    if not right and len(losses) >= SHORT_STEPS and max(map(abs, losses[-SHORT_STEPS:])) < 0.01:
        return Health("warn", "discriminator too strong", "its loss is nil: its gradients teach little", "")
    return None


def _motion(rows: Sequence[Row]) -> Health | None:
    energy = _column(rows, "motion_energy")[-2:]
    if energy and energy[-1] < 0.3 and energy[0] < 0.5:
        found = f"samples move {energy[-1]:.0%} as much as the footage"
        return Health("warn", "frozen motion", found, "")
    if len(energy) == 2 and min(energy) > 2.5:
        found = f"samples move {energy[-1]:.1f} times as much as the footage"
        return Health("warn", "restless motion", found, "")
    return None


def _divergence(rows: Sequence[Row]) -> Health | None:
    """The loss's median over the last steps against the least such median before, in this stage."""
    name = next((n for n in ("reconstruction", "flow", "loss") if _column(rows[-1:], n)), None)
    values = _column(rows, name) if name else []
    blocks = [values[end - SHORT_STEPS : end] for end in range(len(values), SHORT_STEPS - 1, -SHORT_STEPS)]
    if len(blocks) < 3:
        return None
    now, best_block = median(blocks[0]), min(blocks[1:], key=median)
    best = median(best_block)
    spread = median(abs(value - best) for value in best_block)
    if now <= best + max(0.6 * abs(best), 4 * spread):
        return None
    words = f"{name} is {now:.3g} and was {best:.3g} at its best"
    if now > EXPLODED * best:
        return Health("fail", "explosion", words, "")
    return Health("warn", "divergence", words, "")


_CHECKS: tuple[Callable[[Sequence[Row]], Health | None], ...] = (
    _non_finite,
    _posterior_collapse,
    _discriminator,
    _motion,
    _divergence,
)


def _column(rows: Sequence[Row], name: str) -> list[float]:
    return [row[name] for row in rows if _is_finite(row.get(name))]


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _is_number_or_none(value: object) -> bool:
    return value is None or isinstance(value, int | float)

"""Four ways in which generators fail that a distance may not show: they freeze, spring back, collapse, drift.

In: samples and footage, uint8 RGB. Out: one Alarm each, whose limit is taken from the footage itself: what the footage
reaches in one of twenty draws of as many windows, and a margin. So clean footage raises an alarm in at most one case of
twenty (a test holds that), however still, regular or uniform it is by nature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reroll.evaluation.motion import Drift, freeze, grey
from reroll.evaluation.originality import apart, variety

Frames = NDArray[np.uint8]

DRAWS = 200
TURN = 3, 7  # fewest and most frames on either side of a turning point
SMALL = 16  # pixels on the short side: turning points are looked for in what is coarse
FREEZE_MARGIN, SPRING_MARGIN = 0.1, 0.1
COLLAPSE_FACTOR = 0.8
DRIFT_LEVELS, DRIFT_FACTOR = 12.0, 1.4
"""What may differ between the ends of a clip whatever the footage: levels of colour, and a ratio either way."""


@dataclass(frozen=True)
class Alarm:
    """`raised` if `value` lies beyond `limit`; `words` say what was measured."""

    name: str
    value: float
    limit: float
    raised: bool
    words: str


def springiness(window: Frames) -> float:
    """How much a window `T H W 3` runs back on itself: 1 where it plays backwards from some frame on, near 0 for
    texture that never comes back, below 0 for motion that goes on.

    Around a turning point, a frame or the middle between two, frames as far before as after are alike, although both
    differ from it.
    """
    frames = grey(window, SMALL).astype(np.float32).reshape(len(window), -1)
    gaps = np.abs(frames[:, None] - frames).mean(-1)
    best = -1.0
    for twice in range(2 * TURN[0], 2 * (len(frames) - TURN[0]) - 1):
        early, late = twice // 2, (twice + 1) // 2  # one frame, or the two around the middle
        reach = np.arange(1, min(TURN[1], early, len(frames) - 1 - late) + 1)
        across = gaps[late + reach, early - reach].mean()
        along = (gaps[late + reach, early] + gaps[early - reach, late]).mean() / 2
        best = max(best, float(1 - (across + 0.05) / (along + 0.05)))
    return best


def _bootstrap(values: Sequence[float], count: int, quantile: float) -> float:
    """A quantile of the mean of `count` values drawn with replacement."""
    drawn = np.random.default_rng(0).choice(np.asarray(values, float), (DRAWS, count))
    return float(np.quantile(drawn.mean(1), quantile))


def freeze_alarm(samples: Frames, footage: Frames, limit: float) -> Alarm:
    """Samples `N T H W 3` stand still more than footage `M T H W 3` does; `limit` is the footage's `still_limit`."""
    mine, theirs = ([freeze(window, limit).share for window in windows] for windows in (samples, footage))
    most = _bootstrap(theirs, len(mine), 0.95) + FREEZE_MARGIN
    value = float(np.mean(mine))
    return Alarm("freeze", value, most, value > most, "share of steps in which nothing moves")


def spring_alarm(samples: Frames, footage: Frames) -> Alarm:
    """Samples run back and forth more than the footage does."""
    mine, theirs = ([springiness(window) for window in windows] for windows in (samples, footage))
    most = min(1.0, _bootstrap(theirs, len(mine), 0.95) + SPRING_MARGIN)
    value = float(np.mean(mine))
    return Alarm(
        "spring", value, most, value > most, "how much windows run back on themselves (0: not, 1: wholly)"
    )


def collapse_alarm(samples: Frames, footage: Frames) -> Alarm:
    """Samples, one window `N>=2 T H W 3` of each, are more alike than as many windows of footage."""
    random = np.random.default_rng(0)
    count, distances = min(len(samples), len(footage)), apart(footage)
    picks = [random.permutation(len(footage))[:count] for _ in range(DRAWS)]
    least = COLLAPSE_FACTOR * float(np.quantile([variety(distances[np.ix_(p, p)]) for p in picks], 0.05))
    value = variety(apart(samples))
    return Alarm("collapse", value, least, value < least, "levels by which samples differ from each other")


def drift_alarm(drifts: Sequence[Drift], footage: Sequence[Drift]) -> Alarm:
    """The last two seconds of samples differ from their first in colour, sharpness or motion by more than what passes
    anyway (1), and by more than two parts of a shot of the footage do."""

    def worst(some: Sequence[Drift]) -> float:
        """The largest of the three means, in multiples of what passes."""
        return max(
            float(np.mean([d.colour_levels for d in some])) / DRIFT_LEVELS,
            float(np.mean([abs(np.log(d.sharpness_ratio)) for d in some])) / float(np.log(DRIFT_FACTOR)),
            float(np.mean([abs(np.log(d.motion_ratio)) for d in some])) / float(np.log(DRIFT_FACTOR)),
        )

    limit = max([1.0, *([float(np.quantile([worst([d]) for d in footage], 0.95))] if footage else [])])
    value, seconds = worst(drifts), max(d.seconds for d in drifts)
    words = f"the last two of {seconds:.0f} seconds against the first, in multiples of what passes"
    return Alarm(f"drift over {seconds:.0f} s", value, limit, value > limit, words)

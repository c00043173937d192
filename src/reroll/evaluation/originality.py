"""Is a sample new, or a copy of the footage it was trained on?

In: windows of uint8 RGB frames `N T H W 3`. Out: for each window of a sample the nearest stretch of training
footage (`nearest.py` searches all of it, at every starting frame, and flipped too where training flipped it), and,
where it can be known, the share of windows that are copies.

A window is called a copy when it is nearer to the training footage than 95 in 100 windows of footage the
model never saw. Stills and mush are far from everything without being original, so the verdict is withheld
unless the samples move about as much as the footage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reroll.evaluation.motion import MOTION_RANGE, moves_alike
from reroll.evaluation.nearest import Nearest, Place, TrainingFootage, low_passed, nearest_footage

Frames = NDArray[np.uint8]

COPY_PERCENTILE = 5
FEWEST_WINDOWS = 8  # unseen windows needed to know how near unseen footage comes


@dataclass(frozen=True, eq=False)
class Originality:
    """Nearest footage of each sample window, and the copy rate, or why there is none.

    `threshold` is in levels; `basis` says in words what it was taken from. `footage_step` is how far one
    frame of footage is from the next by the same measure, for scale where there is no threshold.
    """

    nearest: Nearest
    footage_step: float
    threshold: float | None
    basis: str
    copy_rate: float | None
    reason: str


def check_originality(
    samples: Frames,
    train: Frames,
    heldout: Frames,
    *,
    motion_ratio: float,
    places: Sequence[Place] | None = None,
    window_seconds: float = 0.0,
    searched: TrainingFootage | None = None,
) -> Originality:
    """Copy check of sample windows `N T H W 3` against all that was trained on.

    `searched` is that footage, without it the training windows `M T H W 3` themselves. The threshold comes from
    held-out windows when there are at least eight, else from training windows against footage of another file or at
    least a window's length away in time (`places`, one a training window).
    """
    footage = searched or TrainingFootage.of_windows(train, places)
    nearest, step = nearest_footage(samples, footage), _step(train)
    distances, basis = _unseen_distances(train, heldout, footage, places, window_seconds)
    if distances is None:
        return Originality(nearest, step, None, basis, None, basis)
    threshold = float(np.percentile(distances, COPY_PERCENTILE))
    if not moves_alike(motion_ratio):
        low, high = MOTION_RANGE
        reason = (
            f"The samples' motion is {motion_ratio:.2f} times the footage's. Outside {low} to {high} "
            "being far from the footage does not mean being original, so no copy rate is given."
        )
        return Originality(nearest, step, threshold, basis, None, reason)
    copies = float((nearest.distance < threshold).mean())
    return Originality(nearest, step, threshold, basis, copies, "")


def _step(windows: Frames) -> float:
    """Mean distance from one low-passed frame of `M T H W 3` to the next, in levels."""
    steps = [np.sqrt(np.square(np.diff(low_passed(w), axis=0)).mean((1, 2, 3))).mean() for w in windows]
    return float(np.mean(steps))


def _unseen_distances(
    train: Frames,
    heldout: Frames,
    footage: TrainingFootage,
    places: Sequence[Place] | None,
    window_seconds: float,
) -> tuple[NDArray[np.float64] | None, str]:
    """How near footage comes that is not a copy, and in words where that was measured."""
    if len(heldout) >= FEWEST_WINDOWS:
        basis = f"{len(heldout)} held-out windows against the training footage"
        return nearest_footage(heldout, footage).distance, basis
    if places is not None and len(train) >= FEWEST_WINDOWS:
        distances = nearest_footage(train, footage, places, 2 * window_seconds).distance
        if np.isfinite(distances).sum() >= FEWEST_WINDOWS:
            basis = f"{len(train)} training windows against footage at least a window's length away"
            return distances[np.isfinite(distances)], basis
    few = f"fewer than {FEWEST_WINDOWS} separate windows of footage"
    return (
        None,
        f"There are {few}, so how near unseen footage comes, and thus a copy rate, cannot be measured.",
    )


def diversity(samples: Frames, footage: Frames) -> float | None:
    """Mean distance between samples `N T H W 3` over that between footage windows `M T H W 3`; None for one.

    Near 0 all samples are the same clip; 1 is as varied as the footage.
    """
    if min(len(samples), len(footage)) < 2:
        return None
    return (variety(apart(samples)) + 1e-3) / (variety(apart(footage)) + 1e-3)


def apart(windows: Frames) -> NDArray[np.float64]:
    """Distances, in levels, between windows `N T H W 3`: `N N`."""
    flat = np.stack([low_passed(window).ravel() for window in windows]).astype(np.float64)
    squared = np.square(flat).sum(1)
    gaps = squared[:, None] + squared - 2 * flat @ flat.T
    return np.sqrt(np.maximum(gaps, 0) / flat.shape[1])


def variety(distances: NDArray[np.float64]) -> float:
    """Mean of distances `N N` between different windows, N >= 2."""
    return float(distances[np.triu_indices(len(distances), 1)].mean())

"""Everything that can be said about a run's samples, measured at once.

In: samples `N T H W 3`, windows of training and held-out footage `M T' H W 3`, all uint8 RGB at one size and
frame rate. Out: a Judgement, which holds the numbers, what they were taken from, and what could not be
measured and why. Samples are cut into windows as long as the footage's. With at least eight held-out windows
these are the reference and the training windows the clean null beside it; with fewer the reference is the
training footage, it is marked so, and there are no multiples of a null. With `halves` the reference is the training
windows and the null one half of them against the other: nobody can know the rest. Ratios of motion, detail and variety
are to the training windows then, else to all the footage, because a held-out stretch may happen to be quiet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from reroll.errors import UsageError
from reroll.evaluation import networks
from reroll.evaluation.alarms import Alarm, collapse_alarm, drift_alarm, freeze_alarm, spring_alarm
from reroll.evaluation.detail import DetailShare, Reconstruction, detail_share, reconstruction
from reroll.evaluation.distances import (
    DRAWS,
    FEWEST_WINDOWS,
    PLANTED,
    Distance,
    FeatureSpaces,
    compare,
    plant,
)
from reroll.evaluation.motion import (
    Drift,
    Freeze,
    Seam,
    continuity,
    drift,
    freeze,
    leap_limits,
    leap_share,
    motion_ratio,
    seam_error,
    sharpness,
    still_limit,
)
from reroll.evaluation.nearest import Place, TrainingFootage
from reroll.evaluation.originality import Originality, check_originality, diversity

Frames = NDArray[np.uint8]

FEWEST_HELDOUT = 8
FEWEST_FRAMES = 5  # in a window, for accelerations and lags
FEWEST_SPRING = 7  # in a window, for a turning point
MOST_WINDOWS = 64  # of each kind in the distances, evenly chosen
PLANTED_DRAWS = 20
SEEN_FACTOR = 1.5  # a distance sees a planted fault that is this much farther than the clean null
MIRRORED = (
    "Distances to mirrored footage: half of what was trained on was flipped left and right. Copies are looked for in"
    " it too; the distances are to footage as it is."
)


@dataclass(frozen=True)
class Continuities:
    """Means over windows of the samples and of the footage."""

    warp_error: float
    footage_warp_error: float
    flicker: float
    footage_flicker: float
    acceleration: float
    footage_acceleration: float


@dataclass(frozen=True, eq=False)
class Judgement:
    """What was measured. Ratios are samples over footage; None is explained in `missing`."""

    basis: str
    on_training_footage: bool
    sample_count: int
    sample_windows: int
    reference_windows: int
    window_frames: int
    motion_ratio: float
    sharpness_ratio: float
    detail: DetailShare
    continuity: Continuities | None
    freezes: list[Freeze]
    footage_still_share: float
    leap_share: float
    drifts: list[Drift]
    alarms: list[Alarm]
    distances: list[Distance]
    planted: dict[str, dict[str, float]]
    blind: dict[str, list[str]]
    originality: Originality
    diversity: float | None
    seam: Seam | None
    reconstruction: Reconstruction | None
    reconstruction_of: str
    missing: list[str] = field(default_factory=list)


def cut(samples: Frames, frames: int) -> Frames:
    """Samples `N T H W 3` as disjoint windows `N*(T//frames) frames H W 3`, in order; a rest is not used."""
    count = samples.shape[1] // frames
    return samples[:, : count * frames].reshape(-1, frames, *samples.shape[2:])


def evenly(windows: Frames, most: int) -> Frames:
    """At most `most` of the windows, evenly chosen."""
    if len(windows) <= most:
        return windows
    return windows[np.linspace(0, len(windows) - 1, most).round().astype(int)]


def judge(
    samples: Frames,
    train: Frames,
    heldout: Frames,
    *,
    fps: float,
    loop: Frames | None = None,
    rebuilt: tuple[Frames, Frames] | None = None,
    rebuilt_of: str = "",
    places: Sequence[Place] | None = None,
    searched: TrainingFootage | None = None,
    long: Frames | None = None,
    footage_drifts: Sequence[Drift] = (),
    halves: bool = False,
    i3d: torch.jit.ScriptModule | None = None,
) -> Judgement:
    """Measure samples against footage; the module's first lines give the shapes and the choice of reference.

    `rebuilt` is (original, reconstructed) windows, `rebuilt_of` what they are ("held-out footage"), `places`
    where each training window was taken from, `searched` all the footage that was trained on (without it, copies are
    looked for in the training windows). `long` is one sample `T H W 3` of a minute or so, whose end is held against its
    beginning; `footage_drifts` say how much two parts of a shot differ anyway. `halves` (see above) are drawn
    anew each time. `i3d` is the user's own network, for FVD.
    """
    _check(samples, train, heldout)
    frames = min(samples.shape[1], train.shape[1])
    train, heldout = train[:, :frames], heldout[:, :frames]
    windows = cut(samples, frames)
    unseen = len(heldout) >= FEWEST_HELDOUT and not halves
    reference, clean = (heldout, train) if unseen else (train, None)
    mine, theirs = evenly(windows, MOST_WINDOWS), evenly(reference, MOST_WINDOWS * (1 + halves))
    whole = evenly(train if halves else np.concatenate([train, heldout]), MOST_WINDOWS)
    ratio, still, limits = motion_ratio(mine, whole), still_limit(whole), leap_limits(whole)
    others = None if clean is None else evenly(clean, MOST_WINDOWS)
    distances, planted, missing = _distances(mine, theirs, others, halves=halves, i3d=i3d)
    drifts = _drifts(samples, fps)
    long_drifts = [] if long is None else _drifts([long], fps)
    original = check_originality(
        windows, train, heldout, motion_ratio=ratio, places=places, window_seconds=frames / fps, searched=searched
    )  # fmt: skip
    firsts = evenly(windows[:: max(1, samples.shape[1] // frames)], MOST_WINDOWS)
    alarms = [freeze_alarm(mine, whole, still), spring_alarm(mine, whole)] if frames >= FEWEST_SPRING else []
    if min(len(firsts), len(whole)) > 1:
        alarms.append(collapse_alarm(firsts, whole))
    alarms += [drift_alarm(some, footage_drifts) for some in (drifts, long_drifts) if some]
    return Judgement(
        basis=_basis(samples, fps, windows=len(theirs), whole=len(whole), unseen=unseen, halves=halves),
        on_training_footage=not unseen and not halves,
        sample_count=len(samples),
        sample_windows=len(mine),
        reference_windows=len(theirs),
        window_frames=frames,
        motion_ratio=ratio,
        sharpness_ratio=_sharpness_ratio(mine, whole),
        detail=detail_share(mine, whole),
        continuity=_continuities(mine, whole) if frames >= FEWEST_FRAMES else None,
        freezes=[freeze(sample, still) for sample in samples],
        footage_still_share=float(np.mean([freeze(window, still).share for window in whole])),
        leap_share=leap_share(samples, limits[0]),
        drifts=drifts + long_drifts,
        alarms=alarms,
        distances=distances,
        planted=planted,
        blind=_blind(distances, planted),
        originality=original,
        diversity=diversity(firsts, whole),
        seam=None if loop is None else seam_error(loop, whole, limits),
        reconstruction=None if rebuilt is None else reconstruction(*rebuilt),
        reconstruction_of=rebuilt_of,
        missing=missing
        + _not_measured(frames, drifts + long_drifts, loop is None, rebuilt is None, original.reason)
        + ([MIRRORED] if searched and searched.mirrored and distances else []),
    )


def _drifts(clips: Sequence[Frames] | Frames, fps: float) -> list[Drift]:
    """Of those that are long enough."""
    return [found for found in (drift(clip, fps) for clip in clips) if found is not None]


def _not_measured(
    frames: int, drifts: list[Drift], no_loop: bool, no_rebuilt: bool, copies_reason: str
) -> list[str]:
    """A line for each measurement that could not be made."""
    reasons = {
        "Drift needs samples of at least 4 seconds.": not drifts,
        "No loop was made for this report, so there is no seam to judge.": no_loop,
        "There are no reconstructions: this recipe has no encoder, or none were given.": no_rebuilt,
        f"Windows of {frames} frames are too short for warp error and flicker.": frames < FEWEST_FRAMES,
        f"Windows of {frames} frames are too short for the alarms of freeze and spring.": frames
        < FEWEST_SPRING,
        networks.MISSING: not networks.available(),
        copies_reason: bool(copies_reason),
    }
    return [reason for reason, holds in reasons.items() if holds]


def _check(samples: Frames, train: Frames, heldout: Frames) -> None:
    for name, value in (("samples", samples), ("training windows", train)):
        if value.ndim != 5 or value.dtype != np.uint8 or not len(value) or value.shape[1] < 3:
            given = f"{value.dtype} {value.shape}"
            raise UsageError(f"{name} must be uint8 N T H W 3 of 3 frames or more, not {given}")
    sizes = {x.shape[2:] for x in (samples, train, heldout) if len(x)}
    if len(sizes) > 1:
        raise UsageError(f"samples and footage must be of one size to be compared, not {sorted(sizes)}")


def _basis(samples: Frames, fps: float, *, windows: int, whole: int, unseen: bool, halves: bool) -> str:
    made = f"{len(samples)} samples of {samples.shape[1] / fps:.1f} s"
    if halves:
        return f"{made} against {windows} windows of the footage given, halves of which are the null"
    if not unseen:
        return f"{made} against {windows} windows of the training footage itself"
    seen = f"motion and detail against {whole} windows of all the footage"
    return f"{made}: distances against {windows} held-out windows, which the model never saw, {seen}"


def _sharpness_ratio(samples: Frames, footage: Frames) -> float:
    mine = np.mean([sharpness(window[::4]) for window in samples])
    return float((mine + 1e-3) / (np.mean([sharpness(window[::4]) for window in footage]) + 1e-3))


def _continuities(samples: Frames, footage: Frames) -> Continuities:
    mine, theirs = ([continuity(w) for w in evenly(windows, 16)] for windows in (samples, footage))
    return Continuities(
        warp_error=float(np.mean([c.warp_error for c in mine])),
        footage_warp_error=float(np.mean([c.warp_error for c in theirs])),
        flicker=float(np.mean([c.flicker for c in mine])),
        footage_flicker=float(np.mean([c.flicker for c in theirs])),
        acceleration=float(np.mean([c.acceleration for c in mine])),
        footage_acceleration=float(np.mean([c.acceleration for c in theirs])),
    )


def _distances(
    samples: Frames,
    reference: Frames,
    clean: Frames | None,
    *,
    halves: bool,
    i3d: torch.jit.ScriptModule | None,
) -> tuple[list[Distance], dict[str, dict[str, float]], list[str]]:
    """Distances of the samples, median Fréchet distances of planted faults for scale, and what is missing."""
    if samples.shape[1] < FEWEST_FRAMES:
        few = f"Distances need windows of {FEWEST_FRAMES} frames or more; these have {samples.shape[1]}."
        return [], {}, [few]
    if min(len(samples), len(reference)) < FEWEST_WINDOWS:
        few = f"{len(samples)} of samples and {len(reference)} of footage"
        return [], {}, [f"Distances need {FEWEST_WINDOWS} windows on either side; there are {few}."]
    spaces = FeatureSpaces.fit(reference if clean is None else clean, i3d)
    features, theirs = spaces.features(samples), spaces.features(reference)
    others = None if clean is None else spaces.features(clean)
    found = [
        compare(s, features[s], theirs[s], None if others is None else others[s], draws=DRAWS, halves=halves)
        for s in features
    ]
    source = reference if clean is None else clean
    source = evenly(source, min(len(samples), len(reference), len(source)))
    planted = {}
    for fault in PLANTED:
        harmed = spaces.features(plant(fault, source))
        planted[fault] = {
            s: compare(s, harmed[s], theirs[s], None, draws=PLANTED_DRAWS).frechet.median for s in features
        }
    return found, planted, []


def _blind(distances: list[Distance], planted: dict[str, dict[str, float]]) -> dict[str, list[str]]:
    """For each space with a null, the planted faults it cannot tell from clean footage here."""
    return {
        d.space: [f for f, at in planted.items() if at[d.space] < SEEN_FACTOR * d.frechet_null.high]
        for d in distances
        if d.frechet_null is not None
    }

"""How it moves: classical measurements of motion, for judging samples beside their footage.

In: windows of uint8 RGB frames `N T H W 3` (or one, `T H W 3`) at one frame rate. Out: feature vectors for
the distances, and single numbers with a meaning: motion energy, freeze, drift, warp error, flicker, loop
seam. Nothing here is learnt. Optical flow is DIS (Kroeger et al. 2016, "Fast optical flow using dense
inverse search") on grey frames whose short side is 64 pixels; it is given in percent of the short side per
frame, so that it means the same at every size. Differences of frames are in grey levels (0 to 255).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]
Floats = NDArray[np.float32]

FLOW_SHORT_SIDE = 64  # pixels; DIS needs some room and gains nothing from more
LOW_PASS_SHORT_SIDE = 32  # pixels; averaging down to this is the low-pass against noise and codec grain
GRID = 4  # cells a side in which magnitudes are kept apart
DIRECTIONS = 8
QUIET_FLOW = 0.05  # percent of the short side per frame: below this nothing moves
QUIET_CHANGE = 0.25  # grey levels
MOTION_RANGE = (0.7, 1.4)  # samples' motion energy over the footage's, inside which other verdicts count
LEAP = 1.25  # a step that is larger than all but the footage's very largest by this factor shows
STILL_SHARE_OF_MEDIAN = 0.1  # a step that changes less than this share of the footage's median is still


def grey(window: Frames, short_side: int) -> NDArray[np.uint8]:
    """`T H W 3` to grey `T h w` uint8 with min(h, w) = short_side, by area averaging."""
    height, width = window.shape[1:3]
    scale = short_side / min(height, width)
    size = (max(short_side, round(width * scale)), max(short_side, round(height * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.stack(
        [cv2.resize(cv2.cvtColor(f, cv2.COLOR_RGB2GRAY), size, interpolation=how) for f in window]
    )


def flow(window: Frames) -> Floats:
    """Optical flow between neighbouring frames: `T-1 h w 2` (x, y), percent of the short side per frame."""
    frames = grey(window, FLOW_SHORT_SIDE)
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    room = np.zeros((*frames.shape[1:], 2), np.float32)
    fields = [dis.calc(a, b, room.copy()) for a, b in pairwise(frames)]
    return np.stack(fields).astype(np.float32) * np.float32(100 / FLOW_SHORT_SIDE)


def _cells(maps: Floats, grid: int) -> Floats:
    """Mean of `T h w` over time and within each of grid x grid cells: `grid*grid`."""
    return cv2.resize(maps.mean(0), (grid, grid), interpolation=cv2.INTER_AREA).ravel()


def flow_features(field: Floats) -> Floats:
    """The `flow` of one window, `T>=2 h w 2`, to 30 numbers: log magnitudes by place, by direction, and of
    acceleration."""
    magnitude = np.linalg.norm(field, axis=-1)
    acceleration = np.linalg.norm(np.diff(field, axis=0), axis=-1)
    angle = np.arctan2(field[..., 1], field[..., 0])
    sector = np.round(angle / (2 * np.pi / DIRECTIONS)).astype(int) % DIRECTIONS
    by_direction = np.bincount(sector.ravel(), magnitude.ravel(), DIRECTIONS) / magnitude.size
    values = np.concatenate(
        [
            _cells(magnitude, GRID),
            by_direction,
            _cells(acceleration, 2),
            [np.quantile(magnitude, 0.95), magnitude.mean((1, 2)).std()],
        ]
    )
    return np.log(values + QUIET_FLOW).astype(np.float32)


def difference_features(window: Frames) -> Floats:
    """One window `T>=5 H W 3` to 24 numbers: logs of frame differences by place, order and lag."""
    frames = grey(window, LOW_PASS_SHORT_SIDE).astype(np.float32)
    first = np.abs(np.diff(frames, axis=0))
    second = np.abs(np.diff(frames, n=2, axis=0))
    at_lag = [np.abs(frames[lag:] - frames[:-lag]).mean() for lag in (2, min(4, len(frames) - 1))]
    values = np.concatenate(
        [_cells(first, GRID), _cells(second, 2), at_lag, [first.mean((1, 2)).std(), np.quantile(first, 0.95)]]
    )
    return np.log(values + QUIET_CHANGE).astype(np.float32)


def direction_features(window: Frames, field: Floats) -> Floats:
    """One window `T>=5 H W 3` and its `flow` to 18 numbers that change their sign when it is played backwards.

    Where things go and where they spread, by place, and whether they brighten, start and build up more suddenly than
    they fade, stop and decay (third moments of differences, as in tests for the reversibility of time series: Ramsey &
    Rothman 1996). All are near zero for motion that looks the same both ways.
    """
    frames = grey(window, LOW_PASS_SHORT_SIDE).astype(np.float32)
    spreading = np.gradient(field[..., 0], axis=2) + np.gradient(field[..., 1], axis=1)
    skewed = [_skewness(frames[lag:] - frames[:-lag]) for lag in (1, 2, 4)]
    centred = frames - frames.mean(0)
    cubed = np.power(np.abs(centred), 3).mean() + QUIET_CHANGE
    lagged = [
        (centred[:-lag] ** 2 * centred[lag:] - centred[:-lag] * centred[lag:] ** 2).mean() / cubed
        for lag in (1, 3)
    ]
    speeds = np.abs(np.diff(frames, axis=0)).mean((1, 2))
    where = [_cells(maps, 2) for maps in (field[..., 0], field[..., 1], spreading)]
    return np.concatenate([*where, skewed, lagged, [_skewness(np.diff(speeds))]]).astype(np.float32)


def _skewness(values: Floats) -> float:
    """Third moment over the third absolute moment: -1 to 1."""
    return float(np.power(values, 3).mean() / (np.power(np.abs(values), 3).mean() + 1e-6))


def changes(frames: Frames) -> Floats:
    """Mean absolute change of each low-passed frame to the next, in grey levels: `T-1`."""
    return np.abs(np.diff(grey(frames, LOW_PASS_SHORT_SIDE).astype(np.float32), axis=0)).mean((1, 2))


def motion_energy(windows: Frames) -> float:
    """Mean absolute frame-to-frame change of low-passed grey over windows `N T H W 3`, in grey levels."""
    return float(np.mean([changes(window).mean() for window in windows]))


def motion_ratio(samples: Frames, footage: Frames) -> float:
    """Motion energy of samples `N T H W 3` over that of footage `M T H W 3`; 1 for two stills."""
    return (motion_energy(samples) + 1e-3) / (motion_energy(footage) + 1e-3)


def moves_alike(ratio: float) -> bool:
    """Whether a motion ratio lies in the range in which copies and seams can be judged at all."""
    return MOTION_RANGE[0] <= ratio <= MOTION_RANGE[1]


@dataclass(frozen=True)
class Freeze:
    """How still a sample stands. `share` of its steps that are still, `longest_frames` of them in a row."""

    share: float
    longest_frames: int


def still_limit(footage: Frames) -> float:
    """The change below which a step counts as still: a tenth of the median step of footage `M T H W 3`."""
    return STILL_SHARE_OF_MEDIAN * float(np.median(np.concatenate([changes(w) for w in footage])))


def freeze(sample: Frames, limit: float) -> Freeze:
    """Still steps of a sample `T H W 3`; `limit` is the footage's `still_limit`."""
    still = changes(sample) <= limit
    longest = run = 0
    for step in still:
        run = run + 1 if step else 0
        longest = max(longest, run)
    return Freeze(float(still.mean()), longest)


def leap_limits(footage: Frames) -> tuple[float, float]:
    """The mean absolute first and second difference, in levels, above which a step counts as a leap and a jolt: 1.25
    times the 99.5th percentile of those of footage `M T>=3 H W 3`."""
    steps, jumps = (np.concatenate(x) for x in zip(*map(_changes, footage), strict=True))
    return LEAP * float(np.quantile(steps, 0.995)), LEAP * float(np.quantile(jumps, 0.995))


def leap_share(samples: Frames, limit: float) -> float:
    """Share of the steps of samples `N T>=3 H W 3` that are leaps; `limit` is the first of `leap_limits`."""
    return float(np.mean([_changes(sample)[0] > limit for sample in samples]))


@dataclass(frozen=True)
class Drift:
    """The end of a sample against its beginning: colour in levels (0 to 255), the others as ratios."""

    colour_levels: float
    sharpness_ratio: float
    motion_ratio: float
    seconds: float


def sharpness(frames: Frames) -> float:
    """Mean magnitude of the grey gradient of `T H W 3`, in levels per pixel at its own size."""
    images = [cv2.cvtColor(f, cv2.COLOR_RGB2GRAY).astype(np.float32) for f in frames]
    return float(np.mean([np.hypot(*np.gradient(image)).mean() for image in images]))


def drift(sample: Frames, fps: float, part_seconds: float = 2.0) -> Drift | None:
    """First against last `part_seconds` of a sample `T H W 3`; None when it is too short for both."""
    count = round(part_seconds * fps)
    if count < 2 or len(sample) < 2 * count:
        return None
    first, last = sample[:count], sample[-count:]
    return Drift(
        colour_levels=float(np.abs(first.mean((0, 1, 2)) - last.mean((0, 1, 2))).max()),
        sharpness_ratio=(sharpness(last) + 1e-3) / (sharpness(first) + 1e-3),
        motion_ratio=motion_ratio(last[None], first[None]),
        seconds=len(sample) / fps,
    )


@dataclass(frozen=True)
class Continuity:
    """`warp_error`: levels left after motion compensation; `flicker`: second over first differences; `acceleration`:
    change of the flow over the flow."""

    warp_error: float
    flicker: float
    acceleration: float


def continuity(window: Frames) -> Continuity:
    """How well each frame of `T>=3 H W 3` follows from the one before.

    The warp error is the mean absolute difference of a frame and its predecessor moved along the flow (Lai et
    al. 2018, "Learning blind video temporal consistency", without the occlusion mask). Flicker is near 0 for
    steady motion, 1 for a random walk, 2 for a frame-by-frame alternation.
    """
    frames = grey(window, FLOW_SHORT_SIDE).astype(np.float32)
    field = flow(window[::-1])[::-1]
    backward = field * np.float32(FLOW_SHORT_SIDE / 100)
    rows, columns = np.mgrid[0 : frames.shape[1], 0 : frames.shape[2]].astype(np.float32)
    errors = [
        np.abs(
            cv2.remap(a, columns + v[..., 0], rows + v[..., 1], cv2.INTER_LINEAR, None, cv2.BORDER_REPLICATE)
            - b
        )
        for a, b, v in zip(frames[:-1], frames[1:], backward, strict=True)
    ]
    first, second = np.abs(np.diff(frames, axis=0)).mean(), np.abs(np.diff(frames, n=2, axis=0)).mean()
    speed, change = (np.linalg.norm(x, axis=-1).mean() for x in (field, np.diff(field, axis=0)))
    return Continuity(
        float(np.mean(errors)), float(second / (first + 1e-3)), float(change / (speed + QUIET_FLOW))
    )


@dataclass(frozen=True)
class Seam:
    """Whether a loop shows where it closes, which may be anywhere in the ring. In levels (0 to 255).

    `leap` and `jolt`, the largest change from frame to frame and the largest second difference in all of the ring, must
    not exceed their limits, 1.25 times the 99.5th percentile of the footage's own. `measurable` is False when the loop
    moves so much less or more than the footage that passing would mean nothing.
    """

    leap: float
    leap_limit: float
    jolt: float
    jolt_limit: float
    motion_ratio: float
    measurable: bool
    hidden: bool

    @property
    def worst(self) -> float:
        """The larger of both in multiples of its limit."""
        return max(self.leap / (self.leap_limit + 1e-6), self.jolt / (self.jolt_limit + 1e-6))


def seam_error(loop: Frames, footage: Frames, limits: tuple[float, float] | None = None) -> Seam:
    """Judge a loop `T>=3 H W 3`, from its last frame to its first too, against footage `M T>=3 H W 3` of its size and
    rate, whose `leap_limits` may be known."""
    steps, jumps = _changes(np.concatenate([loop, loop[:2]]))
    most_leap, most_jolt = limits or leap_limits(footage)
    ratio = motion_ratio(loop[None], footage)
    seam = Seam(
        float(steps.max()), most_leap, float(jumps.max()), most_jolt, ratio, moves_alike(ratio), hidden=False
    )
    return replace(seam, hidden=seam.measurable and seam.worst <= 1)


def _changes(frames: Frames) -> tuple[Floats, Floats]:
    """Mean absolute first and second differences of frames `T H W 3`: `T-1` and `T-2`."""
    first = np.stack([two.astype(np.float32) - one for one, two in pairwise(frames)])
    second = np.abs(np.diff(first, axis=0)).mean((1, 2, 3))
    return np.abs(first).mean((1, 2, 3)), second

"""How footage moves, and whether mirroring it is safe.

In: consecutive frames. Out: a `Movement`: strength, dominant direction, and how much of the picture is a
fixed scene. Flow is DIS (Kroeger et al. 2016) on small grey frames. Mirrored windows double the footage, but
they reverse motion to the side, turn writing round and put a fixed scene the wrong way round; then they do
harm, and are switched off.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

FLOW_PIXELS = 96
"""Short side of the frames flow is measured on."""

PAIR_SECONDS = 0.2
"""Time between the two frames of a pair, so that slow motion can be told from rest."""

MOVING_PIXELS = 0.15
"""Flow of fewer pixels than this, between the frames of a pair, counts as rest."""

DOMINANT = 0.2
"""Dominance from which footage has a direction."""

SIDEWAYS_LIMIT = 0.2
"""Net motion to one side, as a share of all motion, above which mirroring would reverse it."""

FIXED_LIMIT = 0.5
"""Share of the footage that its mean frame explains, above which the scene counts as fixed."""

SYMMETRIC = 0.9
"""A mean frame that correlates so much with its mirror image is symmetric."""


@dataclass(frozen=True)
class Movement:
    """Motion of some footage, and the decision about mirroring.

    `strength` is the mean flow in short sides a frame (0.01: a hundredth of the frame's short side from frame
    to frame), `direction_degrees` where it goes on the whole (0 right, 90 up), None without motion;
    `dominance` from 0 (all ways alike) to 1 (all one way).
    """

    strength: float
    direction_degrees: float | None
    dominance: float
    mirror: bool
    mirror_reason: str


class MovementMeter:
    """Adds up flow over pairs of frames and scenes over single frames; `summary` may be asked at any time."""

    def __init__(self) -> None:
        self._flow: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._flow.setFinestScale(1)
        self._pairs = 0
        self._net = np.zeros(2)
        self._path = 0.0
        self._scene_sum = np.zeros((32, 32))
        self._scene_squares = 0.0
        self._scenes = 0

    def pair(self, first: np.ndarray, second: np.ndarray, frames_apart: int = 1) -> None:
        """Measure two frames (uint8 H W 3) of one shot, the second so many frames after the first."""
        before, after = _small_grey(first), _small_grey(second)
        if min(before.shape) < 16 or before.shape != after.shape:
            return
        flow = self._flow.calc(before, after, None)
        length = np.hypot(flow[..., 0], flow[..., 1])
        moving = length > MOVING_PIXELS
        unit = length.size * min(before.shape) * frames_apart
        self._net += flow[moving].sum(0) / unit
        self._path += float(length[moving].sum()) / unit
        self._pairs += 1

    def merge(self, other: MovementMeter) -> None:
        """Add what another meter measured."""
        self._pairs += other._pairs
        self._net += other._net
        self._path += other._path
        self._scene_sum += other._scene_sum
        self._scene_squares += other._scene_squares
        self._scenes += other._scenes

    def scene(self, image: np.ndarray) -> None:
        """Add one frame to the picture of the scene."""
        grey = cv2.cvtColor(cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
        centred = grey.astype(np.float64) - grey.mean()
        self._scene_sum += centred
        self._scene_squares += float((centred**2).sum())
        self._scenes += 1

    def summary(self, *, overlays: int = 0) -> Movement:
        """What has been measured; `overlays` is how many static overlays (logos, writing) were seen."""
        dominance = float(np.hypot(*self._net)) / self._path if self._path > 0 else 0.0
        strength = self._path / max(1, self._pairs)
        moves = strength > 1e-5
        direction = float(np.degrees(np.arctan2(-self._net[1], self._net[0]))) % 360 if moves else None
        mirror, reason = self._mirror(moves, overlays)
        return Movement(strength, direction, dominance, mirror, reason)

    def _mirror(self, moves: bool, overlays: int) -> tuple[bool, str]:
        sideways = self._net[0] / self._path if moves else 0.0
        if abs(sideways) > SIDEWAYS_LIMIT:
            side = "right" if sideways > 0 else "left"
            return False, f"motion is not mirrored: it is to the {side} on the whole and would be reversed"
        if overlays:
            return (
                False,
                "motion is not mirrored: there are static overlays, and writing would be turned round",
            )
        fixed, symmetry = self.fixed_scene()
        if fixed > FIXED_LIMIT and symmetry < SYMMETRIC:
            return (
                False,
                "motion is not mirrored: the scene is fixed and not symmetric, mirrored it would be another place",
            )
        return True, "motion is mirrored half the time: no motion to one side on the whole, no fixed scene"

    def fixed_scene(self) -> tuple[float, float]:
        """How much of all frames their mean explains, 0 to 1, and how the mean correlates with its mirror
        image.
        """
        if not self._scenes or self._scene_squares <= 0:
            return 1.0, 1.0
        mean = self._scene_sum / self._scenes
        energy = float((mean**2).sum())
        fixed = energy * self._scenes / self._scene_squares
        return fixed, float((mean * mean[:, ::-1]).sum()) / energy if energy > 0 else 1.0


def _small_grey(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    scale = FLOW_PIXELS / min(height, width)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    if scale >= 1:
        return grey
    size = (round(width * scale), round(height * scale))
    return cv2.resize(grey, size, interpolation=cv2.INTER_AREA)


def frames_apart(gap_seconds: float) -> int:
    """How many frames lie `PAIR_SECONDS` apart, 1 to 12, when `gap_seconds` is the time from frame to
    frame.
    """
    return int(np.clip(round(PAIR_SECONDS / gap_seconds), 1, 12)) if gap_seconds > 0 else 1

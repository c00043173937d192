"""Morph: the frames between two, moved along their optical flow; a cross-fade would show both of them at once.

Flow is DIS (Kroeger et al. 2016), there and back. The flow to a time between is put together from both, and the two
frames, warped by it, are blended as in Super SloMo (Jiang et al. 2018, section 3.1), without its networks.
"""

from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np

FLOW_SHORT_SIDE = 128  # pixels; DIS works at half of it


def morph(one: np.ndarray, other: np.ndarray, steps: int) -> np.ndarray:
    """From one uint8 frame `H W 3` to another in so many steps: the frames between, `steps-1 H W 3`."""
    return morph_at(one, other, [step / steps for step in range(1, steps)])


def morph_at(one: np.ndarray, other: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """The frames that lie at `shares` (0 to 1) of the way from one uint8 frame `H W 3` to another: `N H W 3`."""
    there, back = flow(one, other), flow(other, one)
    between = np.empty((len(shares), *one.shape), np.uint8)
    for number, share in enumerate(shares):
        of_one = warp(one, share**2 * back - (1 - share) * share * there)
        of_other = warp(other, (1 - share) ** 2 * there - share * (1 - share) * back)
        between[number] = ((1 - share) * of_one + share * of_other).clip(0, 255).round()
    return between


def carried(frame: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """A uint8 frame `H W 3` that moves as frames `T H W 3` of the same size do, from their first on: `T H W 3`. Their
    flow is added up from frame to frame."""
    field = np.zeros((*frame.shape[:2], 2), np.float32)
    frames = [frame]
    for before, now in pairwise(motion):
        step = flow(now, before)
        field = step + warp(field, step)
        frames.append(warp(frame, field).clip(0, 255).round().astype(np.uint8))
    return np.stack(frames)


def flow(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Where each pixel of one frame lies in the other, from its own place: `H W 2` (x, y), pixels."""
    height, width = one.shape[:2]
    scale = FLOW_SHORT_SIDE / min(height, width)
    size = round(width * scale), round(height * scale)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    before, after = (
        cv2.resize(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), size, interpolation=how) for frame in (one, other)
    )
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    field = dis.calc(before, after, np.zeros((*before.shape, 2), np.float32))
    return cv2.resize(field, (width, height), interpolation=cv2.INTER_AREA) / np.float32(scale)


def warp(frame: np.ndarray, field: np.ndarray) -> np.ndarray:
    """The float32 frame `H W C` each pixel of which is what lies at `field` (`H W 2`) from its place."""
    height, width = frame.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return cv2.remap(
        frame.astype(np.float32), x + field[..., 0], y + field[..., 1], cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip

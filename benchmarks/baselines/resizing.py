"""Clips at the size a network works at, and back."""

import cv2
import numpy as np

from benchmarks.baselines import Frames


def resized(clip: Frames, height: int, width: int) -> Frames:
    """`T H W 3` at another size, squeezed where its aspect is another."""
    if clip.shape[1:3] == (height, width):
        return clip
    shrinks = height * width < clip.shape[1] * clip.shape[2]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.stack([cv2.resize(frame, (width, height), interpolation=how) for frame in clip])

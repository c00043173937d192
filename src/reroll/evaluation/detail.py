"""How much detail is left: sharpness of what moves, and how exactly footage is reconstructed.

In: windows of uint8 RGB frames `N T H W 3`. Out: single numbers. The mean frame of a window is taken away
first, because an autoencoder that keeps a still background sharp can smooth everything that moves and still
look fine by its L1. Spectral energy (of the cosine transform, which
sees no edge where the picture ends) is counted in squared grey levels, radially: the upper half of the
spatial band is everything above half the Nyquist frequency.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

Frames = NDArray[np.uint8]
GREY = np.array([0.2126, 0.7152, 0.0722], np.float32)  # BT.709 luma


@dataclass(frozen=True)
class MovingDetail:
    """Energies of what moves, in squared grey levels per pixel: fine in space, and from frame to frame."""

    fine_energy: float
    fine_share: float
    frame_energy: float


def moving_detail(windows: Frames) -> MovingDetail:
    """Mean over windows `N T H W 3` (H, W even), each frame minus its window's mean frame.

    `fine_energy` is the spectral energy above half the Nyquist frequency, `fine_share` its part of the whole,
    `frame_energy` the mean squared change from frame to frame.
    """
    height, width = windows.shape[2:4]
    fine_band = np.hypot(np.arange(height)[:, None] / (2 * height), np.arange(width) / (2 * width)) >= 0.25
    fine, whole, change = [], [], []
    for window in windows:
        luma = window.astype(np.float32) @ GREY
        power = np.mean([np.square(cv2.dct(frame)) for frame in luma - luma.mean(0)], axis=0) / luma[0].size
        fine.append(power[fine_band].sum())
        whole.append(power.sum())
        change.append(np.square(np.diff(luma, axis=0)).mean())
    total = float(np.mean(whole))
    fine_energy = float(np.mean(fine))
    return MovingDetail(fine_energy, fine_energy / (total + 1e-9), float(np.mean(change)))


@dataclass(frozen=True)
class DetailShare:
    """Samples' detail over the footage's: 1 is as detailed, 0.2 is smoothed away, above 1.4 is noise."""

    space: float
    time: float


def detail_share(samples: Frames, footage: Frames) -> DetailShare:
    """Share of the footage's (`M T H W 3`) moving detail that samples `N T H W 3` of the same length have."""
    mine, theirs = moving_detail(samples), moving_detail(footage)
    return DetailShare(
        (mine.fine_energy + 1e-3) / (theirs.fine_energy + 1e-3),
        (mine.frame_energy + 1e-3) / (theirs.frame_energy + 1e-3),
    )


@dataclass(frozen=True)
class Reconstruction:
    """Exactness of rebuilt footage: PSNR in decibels, SSIM in [-1, 1], L1 for pixels in [-1, 1]."""

    psnr_db: float
    ssim: float
    l1: float
    frames: int


def reconstruction(originals: Frames, rebuilt: Frames) -> Reconstruction:
    """Compare windows `N T H W 3` with their reconstructions of the same shape, over all frames."""
    shape = originals.shape
    pair = [
        torch.from_numpy(np.ascontiguousarray(x)).reshape(-1, *shape[-3:]).permute(0, 3, 1, 2).float() / 255
        for x in (originals, rebuilt)
    ]
    psnr = peak_signal_noise_ratio(pair[1], pair[0], data_range=1.0)
    ssim = structural_similarity_index_measure(pair[1], pair[0], data_range=1.0)
    l1 = 2 * (pair[1] - pair[0]).abs().mean()
    assert isinstance(ssim, torch.Tensor)  # a tuple only when asked for more
    return Reconstruction(float(psnr), float(ssim), float(l1), pair[0].shape[0])

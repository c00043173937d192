"""Detail and reconstruction against values that can be worked out."""

import cv2
import numpy as np
import pytest

from reroll.evaluation.detail import detail_share, moving_detail, reconstruction


def test_energy_is_parsevals():
    windows = np.random.default_rng(0).integers(0, 255, (2, 6, 24, 32, 3), dtype=np.uint8)
    luma = windows @ np.array([0.2126, 0.7152, 0.0722])
    expected = np.square(luma - luma.mean(1, keepdims=True)).mean()
    measured = moving_detail(windows)
    assert measured.fine_energy / measured.fine_share == pytest.approx(expected, rel=1e-4)
    white = 1 - (np.pi / 4) * 0.25**2 / 0.5**2  # the share of the band's area beyond half the Nyquist
    assert measured.fine_share == pytest.approx(white, abs=0.05)


def test_a_sharp_still_background_does_not_count():
    still = np.random.default_rng(0).integers(0, 255, (1, 1, 48, 64, 3), dtype=np.uint8)
    assert moving_detail(np.repeat(still, 8, axis=1)).fine_energy < 1e-6


def test_blur_lowers_detail_in_space_and_stills_lower_it_in_time(moving_textures):
    footage = moving_textures(4)
    blurred = np.stack([[cv2.GaussianBlur(f, (0, 0), 1.5) for f in w] for w in footage])
    same = detail_share(footage, footage)
    assert (same.space, same.time) == pytest.approx((1, 1))
    assert detail_share(blurred, footage).space < 0.1
    assert detail_share(np.repeat(footage[:, :1], 12, axis=1), footage).time < 0.01


def test_reconstruction_of_a_constant_offset():
    originals = np.full((2, 3, 32, 32, 3), 100, np.uint8)
    measured = reconstruction(originals, originals + np.uint8(10))
    assert measured.psnr_db == pytest.approx(20 * np.log10(255 / 10), abs=0.01)
    assert measured.l1 == pytest.approx(20 / 255, abs=1e-5)
    assert measured.frames == 6
    assert reconstruction(originals, originals).ssim == pytest.approx(1)

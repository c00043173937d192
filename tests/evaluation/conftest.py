"""Synthetic footage for tests: smooth moving textures, different in every window."""

import cv2
import numpy as np
import pytest


def moving_textures(count, frames=12, height=48, width=64, *, seed=0, speed=1.0):
    """`N T H W 3` uint8: coloured noise textures that drift with a slowly turning velocity."""
    random = np.random.default_rng(seed)
    windows = []
    for _ in range(count):
        noise = random.normal(0, 1, (height * 2, width * 2, 3)).astype(np.float32)
        texture = cv2.GaussianBlur(noise, (0, 0), 6) * 9 + cv2.GaussianBlur(noise, (0, 0), 1.2) * 1.2
        picture = np.clip(128 + 45 * texture, 0, 255)
        angle, turn = random.uniform(-0.5, 0.5), random.uniform(-0.05, 0.05)
        position = np.array([height / 2, width / 2])
        window = []
        for _ in range(frames):
            shift = np.float32([[1, 0, -position[1]], [0, 1, -position[0]]])
            window.append(cv2.warpAffine(picture, shift, (width, height), borderMode=cv2.BORDER_WRAP))
            position = position + speed * np.array([np.sin(angle), np.cos(angle)])
            angle += turn
        windows.append(window)
    return np.clip(np.array(windows), 0, 255).round().astype(np.uint8)


@pytest.fixture(scope="module")
def few_draws():
    """Fewer random draws than a report takes, for tests that do not look at the intervals."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reroll.evaluation.judge.DRAWS", 15)
        patch.setattr("reroll.evaluation.judge.PLANTED_DRAWS", 5)
        yield


@pytest.fixture(name="moving_textures", scope="session")
def _moving_textures():
    return moving_textures

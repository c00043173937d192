"""The judge is judged: identities of the distances, and every planted fault seen by at least one of them."""

import numpy as np
import pytest

from reroll.evaluation.distances import (
    CLASSICAL,
    FAULTS,
    FeatureSpaces,
    compare,
    frechet,
    mmd,
    plant,
    precision_recall,
)


def gaussians(count, mean, scale, seed):
    return mean + scale * np.random.default_rng(seed).normal(size=(count, 5))


def test_frechet_of_known_gaussians():
    a, b = gaussians(4000, 0, 1, 0), gaussians(4000, 2, 3, 1)
    assert frechet(a, b) == pytest.approx(5 * 2**2 + 5 * (3 - 1) ** 2, rel=0.05)
    assert frechet(a, a) == pytest.approx(0, abs=1e-8)
    assert frechet(a, b) == pytest.approx(frechet(b, a), rel=1e-8)


def test_frechet_survives_fewer_windows_than_features():
    values = frechet(gaussians(3, 0, 1, 0), gaussians(3, 4, 1, 1))
    assert np.isfinite(values)
    assert values > 5 * 3**2


def test_mmd_is_unbiased_near_zero_and_grows():
    same = [mmd(gaussians(20, 0, 1, s), gaussians(20, 0, 1, 100 + s)) for s in range(60)]
    assert abs(np.mean(same)) < 3 * np.std(same) / np.sqrt(60)
    assert mmd(gaussians(20, 0, 1, 0), gaussians(20, 1, 1, 1)) > np.max(same)


def test_precision_and_recall_of_known_sets():
    wide, narrow = gaussians(60, 0, 1, 0), gaussians(60, 0, 0.3, 1)
    precision, recall = precision_recall(narrow, wide)
    assert precision > 0.9
    assert recall < 0.5
    assert precision_recall(gaussians(20, 50, 1, 2), wide) == (0, 0)
    assert precision_recall(wide, wide) == (1, 1)


def test_distance_of_more_features_than_windows_is_that_of_all_features():
    random = np.random.default_rng(0)
    a, b = random.normal(0, 1, (6, 40)), random.normal(0.3, 1, (7, 40))
    rotated = np.linalg.qr(random.normal(size=(40, 40)))[0]
    padded = [np.concatenate([x, np.zeros((len(x), 5))], 1) for x in (a @ rotated, b @ rotated)]
    gap, covariances = np.square(a.mean(0) - b.mean(0)).sum(), [np.cov(x.T) for x in (a, b)]
    root = np.sqrt(np.linalg.eigvals(covariances[0] @ covariances[1]).astype(complex)).real.sum()
    expected = gap + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * root
    assert frechet(a, b) == pytest.approx(expected, rel=1e-3)
    assert frechet(*padded) == pytest.approx(expected, rel=1e-3)


@pytest.fixture(scope="module")
def judged(real_windows):
    """Distances of clean and of spoilt windows of real footage, in every space, each with a clean null."""
    clean, other = real_windows
    half = clean[:, :16]
    spaces = FeatureSpaces.fit(half)
    spoilt = {fault: plant(fault, clean if fault == "doubled" else half) for fault in FAULTS}
    spoilt |= {"unharmed": half, "other footage": other}
    features = spaces.features(half)
    table = {}
    for name, windows in spoilt.items():
        mine = spaces.features(windows[::2])
        table[name] = {
            s: compare(s, mine[s], features[s][1::2], features[s][::2], draws=40) for s in CLASSICAL
        }
    return table


@pytest.mark.parametrize("fault", [*FAULTS, "other footage"])
def test_every_fault_is_ranked_worse_than_clean(judged, fault):
    seen = [
        space
        for space in CLASSICAL
        if judged[fault][space].frechet.low > judged["unharmed"][space].frechet.high
        and judged[fault][space].multiple > 1.5 * judged["unharmed"][space].multiple
        and judged[fault][space].mmd.low > judged[fault][space].mmd_chance.high
    ]
    assert seen, {space: judged[fault][space].multiple for space in CLASSICAL}


def test_each_space_sees_what_it_is_for(judged):
    assert judged["blurred"]["texture"].multiple > 3
    assert judged["noisy"]["texture"].multiple > 2
    assert judged["reversed"]["direction"].multiple > 2
    assert judged["reversed"]["texture"].multiple < 1.5
    for space in ("flow", "differences"):
        assert judged["frozen"][space].multiple > 3
        assert judged["shuffled"][space].multiple > 3


def test_clean_footage_is_about_one_null_away(judged):
    for distance in judged["unharmed"].values():
        assert 0.5 < distance.multiple < 2
        assert distance.mmd.median < distance.mmd_chance.high


def test_halves_of_a_reference_are_its_null():
    distance = compare("flow", gaussians(40, 0, 1, 0), gaussians(80, 0, 1, 1), None, halves=True)
    assert distance.windows == 40
    assert 0.6 < distance.multiple < 1.7
    assert compare("flow", gaussians(40, 2, 1, 0), gaussians(80, 0, 1, 1), None, halves=True).multiple > 5


def test_without_a_clean_null_there_are_no_multiples():
    distance = compare("flow", gaussians(10, 0, 1, 0), gaussians(12, 0, 1, 1), None)
    assert distance.multiple is None
    assert distance.frechet_null is None
    assert distance.windows == 7


def test_comparison_is_repeatable():
    sets = [gaussians(10, 0, 1, s) for s in range(3)]
    assert compare("flow", *sets) == compare("flow", *sets)


def test_an_unknown_fault_is_refused(moving_textures):
    with pytest.raises(ValueError, match="melted"):
        plant("melted", moving_textures(1))

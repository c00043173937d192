"""The judge is judged: identities of the distances, and every planted fault seen by at least one of them."""

import numpy as np
import pytest

from reroll.evaluation.distances import PLANTED, SPACES, FeatureSpaces, compare, frechet, mmd, plant


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


@pytest.fixture(scope="module")
def judged(moving_textures):
    """Distances of clean and of faulty windows, in every space, each with a clean null."""
    reference, clean, fresh = (moving_textures(16, seed=s) for s in (1, 2, 3))
    spaces = FeatureSpaces.fit(reference)
    features = {"reference": spaces.features(reference), "clean": spaces.features(clean)}
    candidates = {"unharmed": fresh, **{fault: plant(fault, fresh) for fault in PLANTED}}
    table = {}
    for name, windows in candidates.items():
        mine = spaces.features(windows)
        table[name] = {s: compare(s, mine[s], features["reference"][s], features["clean"][s]) for s in SPACES}
    return table


@pytest.mark.parametrize("fault", PLANTED)
def test_every_planted_fault_is_ranked_worse_than_clean(judged, fault):
    seen = [
        space
        for space in SPACES
        if judged[fault][space].frechet.low > judged["unharmed"][space].frechet.high
        and judged[fault][space].multiple > 1.5 * judged["unharmed"][space].multiple
        and judged[fault][space].mmd.low > judged[fault][space].mmd_chance.high
    ]
    assert seen, judged[fault]


def test_each_space_sees_what_it_is_for(judged):
    assert judged["blurred"]["appearance"].multiple > 3
    assert judged["noisy"]["appearance"].multiple > 2
    for space in ("flow", "differences"):
        assert judged["frozen"][space].multiple > 3
        assert judged["shuffled"][space].multiple > 3


def test_clean_footage_is_about_one_null_away(judged):
    for distance in judged["unharmed"].values():
        assert 0.5 < distance.multiple < 2
        assert distance.mmd.median < distance.mmd_chance.high


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

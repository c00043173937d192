"""Copies are found, wherever they start; strangers, stills and single clips are not accused or cleared."""

import numpy as np
import pytest

from reroll.evaluation.nearest import Place, TrainingFootage
from reroll.evaluation.originality import check_originality, diversity


@pytest.fixture(scope="module")
def footage(moving_textures):
    return moving_textures(10, frames=16, seed=5)


def test_copies_are_counted_against_held_out_windows(footage, moving_textures):
    heldout, fresh = moving_textures(8, frames=16, seed=7), moving_textures(6, frames=16, seed=8)
    samples = np.concatenate([footage[:2], fresh])
    found = check_originality(samples, footage, heldout, motion_ratio=1.0)
    assert found.copy_rate == pytest.approx(2 / 8, abs=0.13)
    assert (found.nearest.distance[:2] < found.threshold).all()
    assert "8 held-out windows" in found.basis


def test_a_slightly_changed_copy_is_still_a_copy(footage, moving_textures):
    noise = np.random.default_rng(0).normal(0, 8, footage.shape)
    changed = np.clip(footage + noise + 2, 0, 255).astype(np.uint8)
    heldout = moving_textures(8, frames=16, seed=7)
    assert check_originality(changed, footage, heldout, motion_ratio=1.0).copy_rate == 1


def test_without_held_out_windows_the_footage_itself_is_the_measure(footage):
    places = [Place("a.mp4", i * 0.64) for i in range(10)]
    found = check_originality(
        footage[:2], footage, footage[:0], motion_ratio=1.0, places=places, window_seconds=0.64
    )
    assert found.copy_rate == 1
    assert "training windows against footage" in found.basis


def test_a_mirrored_copy_is_a_copy_where_training_was_mirrored(footage, moving_textures):
    heldout, flipped = moving_textures(8, frames=16, seed=7), footage[:4, :, :, ::-1]
    plain, mirrored = (
        check_originality(
            flipped,
            footage,
            heldout,
            motion_ratio=1.0,
            searched=TrainingFootage.of_windows(footage, mirrored=m),
        )
        for m in (False, True)
    )
    assert plain.nearest.distance.min() > 20
    assert plain.copy_rate < 1
    assert mirrored.nearest.distance.max() < 0.2
    assert mirrored.copy_rate == 1
    assert mirrored.threshold <= plain.threshold


def test_copies_of_footage_beyond_the_windows_are_found(footage, moving_textures):
    heldout, unsampled = moving_textures(8, frames=16, seed=7), footage[6:]
    searched = TrainingFootage.of_windows(footage)
    found = check_originality(unsampled, footage[:6], heldout, motion_ratio=1.0, searched=searched)
    assert found.copy_rate == 1
    assert check_originality(unsampled, footage[:6], heldout, motion_ratio=1.0).copy_rate < 0.5


@pytest.mark.parametrize("ratio", [0.3, 2.0])
def test_no_verdict_when_the_samples_move_otherwise(footage, moving_textures, ratio):
    heldout = moving_textures(8, frames=16, seed=7)
    found = check_originality(footage[:2], footage, heldout, motion_ratio=ratio)
    assert found.copy_rate is None
    assert "does not mean being original" in found.reason


def test_no_verdict_on_too_little_footage(footage):
    found = check_originality(footage[:2], footage[:5], footage[:0], motion_ratio=1.0)
    assert found.copy_rate is None
    assert "fewer than 8" in found.reason
    assert [place.file for place in found.nearest.places] == ["training window 1", "training window 2"]


def test_diversity_is_nothing_for_one_clip_twice_and_one_for_the_footage(footage, moving_textures):
    assert diversity(np.repeat(footage[:1], 4, axis=0), footage) < 0.01
    assert diversity(moving_textures(6, frames=16, seed=9), footage) == pytest.approx(1, abs=0.2)
    assert diversity(footage[:1], footage) is None

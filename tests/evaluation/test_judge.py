"""The judgement as a whole: what it is measured on, what it refuses, and what it says in words."""

import cv2
import numpy as np
import pytest

from reroll.errors import UsageError
from reroll.evaluation.judge import cut, evenly, judge
from reroll.evaluation.verdict import answers, two_sentences

pytestmark = pytest.mark.usefixtures("few_draws")


@pytest.fixture(scope="module")
def footage(moving_textures):
    return moving_textures(12, seed=1), moving_textures(8, seed=2)


@pytest.fixture(scope="module")
def samples(moving_textures):
    """Three samples of 24 frames, as good as footage and new."""
    return moving_textures(3, frames=24, seed=3)


def lights(judgement):
    return {answer.question: answer.light for answer in answers(judgement)}


def test_windows_are_cut_in_order(samples):
    windows = cut(samples, 10)
    assert windows.shape == (6, 10, 48, 64, 3)
    assert np.array_equal(windows[3], samples[1, 10:20])
    assert len(evenly(windows, 4)) == 4


def test_good_new_samples_are_called_so(samples, footage):
    judgement = judge(samples, *footage, fps=12)
    assert not judgement.on_training_footage
    assert "held-out windows, which the model never saw" in judgement.basis
    assert all(0.3 < d.multiple < 2.5 for d in judgement.distances)
    said = lights(judgement)
    assert said["Does it move right?"] == said["Is it sharp?"] == said["Do the samples differ?"] == "good"
    assert said["Is it new?"] in ("good", "fair")
    verdict = two_sentences(judgement)
    assert verdict.count(". ") == 1
    assert verdict.endswith(".")
    assert "move about as much as the footage" in verdict


def test_planted_faults_stand_beside_the_samples_and_blindness_is_said(samples, footage):
    judgement = judge(samples, *footage, fps=12)
    assert set(judgement.planted) == {"frozen", "shuffled", "reversed", "blurred", "noisy"}
    assert judgement.planted["frozen"]["flow"] > 3 * judgement.distances[0].frechet.median
    assert "frozen" in judgement.blind["texture"]
    assert "frozen" not in judgement.blind["flow"]


def test_each_fault_gets_its_light(samples, footage):
    blurred = np.stack([[cv2.GaussianBlur(f, (0, 0), 2) for f in s] for s in samples])
    assert lights(judge(blurred, *footage, fps=12))["Is it sharp?"] == "poor"
    frozen = lights(judge(np.repeat(samples[:, :1], 24, axis=1), *footage, fps=12))
    assert frozen["Does it move right?"] == "poor"
    assert frozen["Is it sharp?"] == frozen["Is it new?"] == "unknown"
    same = lights(judge(np.repeat(samples[:1], 3, axis=0), *footage, fps=12))
    assert same["Do the samples differ?"] == "poor"
    copies = judge(footage[0][:4], *footage, fps=12)
    assert lights(copies)["Is it new?"] == "poor"
    assert "100% of their windows copy the training footage" in two_sentences(copies)


def test_too_little_held_out_is_marked_and_gives_no_multiples(samples, footage):
    judgement = judge(samples, footage[0], footage[1][:7], fps=12)
    assert judgement.on_training_footage
    assert "the training footage itself" in judgement.basis
    assert judgement.distances
    assert all(d.multiple is None and d.frechet_null is None for d in judgement.distances)
    assert judgement.blind == {}


def test_what_cannot_be_measured_is_said(samples, footage):
    judgement = judge(samples[:1, :12], footage[0][:2], footage[1][:0], fps=12)
    assert judgement.distances == []
    assert judgement.diversity is None
    told = " ".join(judgement.missing)
    for reason in ("Distances need 4 windows", "Drift needs", "no loop", "no reconstructions", "copy rate"):
        assert reason.lower() in told.lower()
    assert "cannot be said here" in two_sentences(judgement)


def test_very_short_windows_are_judged_without_distances(samples, footage):
    judgement = judge(samples[:, :3], *footage, fps=12)
    assert judgement.continuity is None
    assert any("too short" in line for line in judgement.missing)


def test_a_long_sample_that_fades_is_drift(moving_textures, footage):
    long = moving_textures(2, frames=60, seed=4)
    faded = (long * np.linspace(1, 0.4, 60)[None, :, None, None, None]).astype(np.uint8)
    question = "Does it hold up to the end?"
    assert lights(judge(faded, *footage, fps=12))[question] == "poor"
    assert question not in lights(judge(long[:, :24], *footage, fps=12))


def test_a_loop_with_a_cut_is_poor_and_a_still_one_is_no_proof(moving_textures, footage):
    question = "Does the loop close?"
    cut_off = moving_textures(1, frames=24, seed=6)[0]
    assert lights(judge(cut_off[None], *footage, fps=12, loop=cut_off))[question] == "poor"
    still = np.repeat(cut_off[:1], 24, axis=0)
    assert lights(judge(cut_off[None], *footage, fps=12, loop=still))[question] == "unknown"


def test_samples_that_jump_do_not_move_right(moving_textures, footage):
    steady = moving_textures(4, frames=24, seed=4)
    jumping = np.concatenate([steady[:2], steady[2:]], axis=1)
    for samples, jumps in ((steady, False), (jumping, True)):
        motion = answers(judge(samples, *footage, fps=12))[0]
        assert ("jump in 2.1% of steps" in motion.words) == jumps
        assert (motion.light != "good") == jumps


def test_sizes_that_differ_are_refused(samples, footage):
    with pytest.raises(UsageError, match="one size"):
        judge(samples[:, :, :32], *footage, fps=12)
    with pytest.raises(UsageError, match="samples must be uint8"):
        judge(samples.astype(np.float32), *footage, fps=12)

"""Labels mean something: a classifier that was trained on footage tells the labels of samples."""

import cv2
import numpy as np
import pytest
import toy
from footage_maker import write_clip
from test_learns import FRAMES, LEARNER, windows
from toy import FPS, HEIGHT, QUICK, WIDTH

import reroll
from reroll.recipes import RECIPES

ACTIONS = "bounce", "pulse", "turn"
COLOURS = {"bounce": (230, 220, 40), "pulse": (60, 205, 225), "turn": (250, 115, 125)}  # equally bright
STEPS = {"vae": 800, "vaegan": 800, "gan": 1230}  # 800 of which are adversarial
SEEDS = range(5)


def acting(action, frames=100, seed=0):
    """T H W 3 uint8: a bright shape of a colour of its own that bounces, pulses or turns, from any phase."""
    clip = np.full((frames, HEIGHT, WIDTH, 3), (40, 50, 70), np.uint8)
    pace, phase = 0.3, np.random.default_rng(seed).uniform(0, 6)
    x, y = WIDTH / 2, HEIGHT / 2
    for number, image in enumerate(clip):
        swing = np.sin(phase + pace * number)
        if action == "bounce":
            box = ((x, y + 8 * swing), (14, 14), 0)
        elif action == "pulse":
            box = ((x, y), (15 + 9 * swing, 15 + 9 * swing), 0)
        else:
            box = ((x, y), (30, 8), np.degrees(phase + pace / 2 * number))
        cv2.fillConvexPoly(
            image, np.round(16 * cv2.boxPoints(box)).astype(int), COLOURS[action], cv2.LINE_AA, 4
        )
    return clip


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Immediate subfolders are labels."""
    folder = tmp_path_factory.mktemp("actions")
    for action in ACTIONS:
        (folder / action).mkdir()
        for seed in range(2):
            write_clip(folder / action / f"{seed}.mp4", acting(action, seed=seed), fps=FPS)
    return folder


class Classifier:
    """Ridge regression to labels, from where windows `N T H W 3` are bright and where they change: means and spreads
    over time; with `colour` from their colours instead."""

    def __init__(self, clips_of, *, colour):
        self.colour = colour
        found = [np.concatenate([windows(clip) for clip in clips]) for clips in clips_of.values()]
        labels = np.repeat(np.arange(len(found)), [len(each) for each in found])
        features = self._features(np.concatenate(found))
        self.mean, self.scale = features.mean(0), features.std(0) + 1
        given = self._given(features)
        ridge = 0.1 * len(given) * np.eye(given.shape[1])
        self.weights = np.linalg.solve(given.T @ given + ridge, given.T @ np.eye(len(found))[labels])

    def _features(self, found):
        found = found.astype(np.float32)
        if self.colour:  # how the mean colour differs from that of the corners, whatever the shape's size
            apart = found.mean((1, 2, 3)) - found[:, :, :4, :4].mean((1, 2, 3))
            return 100 * apart / np.linalg.norm(apart, axis=1, keepdims=True)
        grey = found.mean(-1).reshape(*found.shape[:2], HEIGHT // 4, 4, WIDTH // 4, 4).mean((3, 5))
        return np.concatenate([grey.mean(1), grey.std(1)], 1).reshape(len(found), -1)

    def _given(self, features):
        return np.pad((features - self.mean) / self.scale, ((0, 0), (0, 1)), constant_values=1.0)

    def __call__(self, clip):
        """The label of each window."""
        return (self._given(self._features(windows(clip))) @ self.weights).argmax(1)


@pytest.fixture(scope="module", params=sorted(RECIPES))
def learnt(request, clips, tmp_path_factory):
    """A generator, and a classifier trained on clips that no run saw. So few steps of `gan` give shapes that are told
    by their colour only; of the others, by where they are and how they move."""
    told = Classifier(
        {action: [acting(action, seed=seed) for seed in range(100, 110)] for action in ACTIONS},
        colour=request.param == "gan",
    )
    for number, action in enumerate(ACTIONS):
        fresh = np.concatenate([told(acting(action, seed=seed)) for seed in range(200, 204)])
        assert (fresh == number).mean() > 0.9, "it can tell footage"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reroll.config.PRESETS", {})
        patch.setattr("reroll.training.budget.PRESETS", {"s": LEARNER})
        options = QUICK | toy.silent() | {"steps": STEPS[request.param]}
        run = tmp_path_factory.mktemp("labelled") / request.param
        reroll.train(clips, run, recipe=request.param, **options)
    return reroll.load(run), told


@pytest.mark.timeout(600)
def test_a_classifier_tells_the_labels_of_samples(learnt):
    generator, told = learnt
    right = []
    for number, action in enumerate(ACTIONS):
        clips = [generator.sample(1.5, seed=seed, label=action, denoise_steps=12).frames for seed in SEEDS]
        right.append((np.concatenate([told(clip) for clip in clips]) == number).mean())
    assert np.mean(right) >= 0.8, dict(zip(ACTIONS, right, strict=True))


@pytest.mark.timeout(600)
def test_and_of_clips_whose_label_changes(learnt):
    """`bounce` for two seconds, then `pulse`: told in the first second and in the last."""
    generator, told = learnt
    second, change = 2 * FRAMES, "bounce@0,pulse@2s"
    clips = [generator.sample(5, seed=seed, label=change, denoise_steps=12).frames for seed in SEEDS]
    before = np.concatenate([told(clip[:second]) for clip in clips])
    after = np.concatenate([told(clip[-second:]) for clip in clips])
    assert (before == ACTIONS.index("bounce")).mean() >= 0.8
    assert (after == ACTIONS.index("pulse")).mean() >= 0.8

"""What starts from footage, over every recipe that can: given frames are kept, new ones are as many as asked."""

import numpy as np
import pytest
from footage_maker import shaking, write_clip, write_picture
from toy import FPS, HEIGHT, WIDTH

import reroll
from reroll.errors import CheckpointError, FootageError, UsageError
from reroll.footage import read_clip
from reroll.recipes import RECIPES

WITH_ENCODER = sorted(name for name, recipe in RECIPES.items() if recipe.has_encoder)
QUICK = {"denoise_steps": 2}


@pytest.fixture(params=WITH_ENCODER)
def generator(request, runs):
    return reroll.load(runs(request.param))


@pytest.fixture(scope="session")
def second(tmp_path_factory):
    """Another take."""
    frames = shaking(20, HEIGHT, WIDTH, seed=1)
    return write_clip(tmp_path_factory.mktemp("take") / "second.mp4", frames, fps=FPS)


@pytest.fixture(scope="session")
def picture(tmp_path_factory):
    return write_picture(tmp_path_factory.mktemp("take") / "still.png", shaking(1, HEIGHT, WIDTH)[0])


def frames_of(take):
    return read_clip(take, HEIGHT, WIDTH)[0]


LENGTHS = [
    (0.04, None, 1),
    (0.2, None, 5),
    (0.6, None, 15),
    (1.5, 12, 18),
    (6.0, None, 150),
    (2.0, 4, 8),
    (0.3, 60, 18),
]


@pytest.mark.parametrize(("seconds", "fps", "new"), LENGTHS)
def test_a_take_that_begins_earlier_ends_with_the_take(generator, take, seconds, fps, new):
    clip = generator.extend(take, seconds, fps=fps, backwards=True, **QUICK)
    given = len(clip.frames) - new
    assert given == pytest.approx(30 * (fps or FPS) / FPS, abs=1.5)
    if fps is None:
        assert np.array_equal(clip.frames[new:], frames_of(take))
    assert not np.array_equal(clip.frames[:new], np.repeat(clip.frames[:1], new, 0)) or new == 1


@pytest.mark.parametrize(("seconds", "fps", "new"), LENGTHS)
def test_what_lies_between_two_takes_leaves_both_as_they_are(generator, take, second, seconds, fps, new):
    clip = generator.inbetween(take, second, seconds, fps=fps, **QUICK)
    if fps is None:
        assert len(clip.frames) == 30 + new + 20
        assert np.array_equal(clip.frames[:30], frames_of(take))
        assert np.array_equal(clip.frames[30 + new :], frames_of(second))
    else:
        assert len(clip.frames) - new == pytest.approx(50 * fps / FPS, abs=3)


def test_pictures_have_something_between_them_too(generator, picture, take):
    clip = generator.inbetween(picture, picture, 0.4, **QUICK)
    assert len(clip.frames) == 12
    assert clip.fps == pytest.approx(FPS)
    assert np.array_equal(clip.frames[0], clip.frames[-1])
    assert len(generator.inbetween(picture, take, 0.4, **QUICK).frames) == 1 + 10 + 30


@pytest.mark.parametrize("seconds", [0.04, 0.4, 3.0])
def test_a_take_is_closed_and_kept(generator, take, seconds):
    clip = generator.loop(take, seconds, **QUICK)
    assert len(clip.frames) == 30 + round(seconds * FPS)
    assert np.array_equal(clip.frames[:30], frames_of(take))


def test_a_picture_is_not_closed_and_the_line_says_what_to_do(generator, picture):
    with pytest.raises(UsageError, match="use extend, or sample --loop"):
        generator.loop(picture)


TASKS = {
    "extend": lambda generator, take, second, **options: generator.extend(take, 0.4, **options),
    "backwards": lambda generator, take, second, **options: generator.extend(
        take, 0.4, backwards=True, **options
    ),
    "inbetween": lambda generator, take, second, **options: generator.inbetween(take, second, 0.6, **options),
    "loop": lambda generator, take, second, **options: generator.loop(take, 0.6, **options),
}


@pytest.mark.parametrize("task", TASKS)
def test_the_same_seed_gives_the_same_and_another_something_else(generator, take, second, task):
    make = TASKS[task]
    one = make(generator, take, second, seed=3, **QUICK).frames
    generator.sample(0.2, **QUICK)
    assert np.array_equal(one, make(generator, take, second, seed=3, **QUICK).frames)
    assert not np.array_equal(one, make(generator, take, second, seed=4, **QUICK).frames)


@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_made_again_from_its_file(generator, take, second, task, tmp_path):
    clip = TASKS[task](generator, take, second, seed=3, temperature=0.9, **QUICK)
    once_more = reroll.again(clip.save(tmp_path / "made.mp4"))
    assert once_more.record == clip.record
    assert np.array_equal(once_more.frames, clip.frames)


@pytest.mark.parametrize("task", TASKS)
def test_gan_cannot_and_says_who_can(runs, take, second, task):
    with pytest.raises(
        UsageError, match="a `gan` run has no encoder; train with --recipe vaegan or vae"
    ) as caught:
        TASKS[task](reroll.load(runs("gan")), take, second)
    assert "\n" not in str(caught.value)


def test_a_take_that_has_changed_or_a_run_that_has_is_said(runs, take, tmp_path):
    copy = tmp_path / "take.mp4"
    copy.write_bytes(take.read_bytes())
    made = reroll.load(runs("vae")).extend(copy, 0.2, **QUICK).save(tmp_path / "made.mp4")
    with pytest.raises(CheckpointError, match="not the weights"):
        reroll.again(made, run=runs("vaegan"))
    write_clip(copy, shaking(8, HEIGHT, WIDTH), fps=FPS)
    with pytest.raises(FootageError, match=r"take\.mp4: not the take"):
        reroll.again(made)
    assert len(reroll.again(made, takes=[take]).frames) == 35


def test_a_record_that_someone_made_up_does_nothing(runs, tmp_path):
    clip = reroll.load(runs("gan")).sample(0.2)
    for change in (
        {"task": "settings"},
        {"task": "__init__"},
        {"options": {"sceonds": 3}},
        {"takes": ["a"]},
        {"run": 3},
    ):
        clip.record = clip.record | change
        made = clip.save(tmp_path / "made.mp4")
        with pytest.raises(UsageError, match=r"made\.mp4: (holds no record|its record cannot be understood)"):
            reroll.again(made)

"""What starts from footage, over every recipe that can: given frames are kept, new ones are as many as asked."""

import cv2
import numpy as np
import pytest
from footage_maker import shaking, write_clip, write_picture
from toy import FPS, HEIGHT, WIDTH

import reroll
from reroll.errors import CheckpointError, FootageError, UsageError
from reroll.export.media import VideoWriter
from reroll.footage import probe, read_clip
from reroll.footage.guard import read_sound
from reroll.recipes import RECIPES
from reroll.sampling.morph import carried

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


def test_a_variation_is_farther_from_the_take_the_stronger_it_is(generator, take):
    begun = frames_of(take).astype(float)
    strengths = [0.0, 0.15, 0.3, 0.45, 0.6, 0.8, 1.0]
    apart = [
        np.mean(
            [
                np.abs(generator.vary(take, strength, seed=seed, **QUICK).frames - begun).mean()
                for seed in (0, 1)
            ]
        )
        for strength in strengths
    ]
    assert apart[0] < 0.5
    assert np.diff(apart).min() > 0, apart


@pytest.mark.parametrize(("count", "fps"), [(1, 25), (2, 25), (9, 25), (70, 25), (40, 120), (20, 5)])
def test_a_variation_is_as_long_as_its_take(generator, tmp_path, count, fps):
    take = write_clip(tmp_path / "take.mp4", shaking(count, HEIGHT, WIDTH), fps=fps)
    clip = generator.vary(take, 0.5, **QUICK)
    assert clip.fps == pytest.approx(fps)
    assert len(clip.frames) == count


@pytest.fixture(scope="session")
def large(tmp_path_factory):
    """A take of another shape than the runs', and odd."""
    return write_clip(
        tmp_path_factory.mktemp("take") / "large.mkv", shaking(24, 81, 97), fps=FPS, pix_fmt="yuv444p"
    )


def masked(path, height, width, *, moving=False):
    """A mask, white in a rectangle of the middle; and where it is."""
    frames = np.zeros((6 if moving else 1, height, width, 3), np.uint8)
    inside = np.zeros(frames.shape[:3], bool)
    for number in range(len(frames)):
        left = width // 3 + 3 * number
        inside[number, height // 3 : 2 * height // 3, left : left + width // 3] = True
    frames[inside] = 255
    if moving:
        return write_clip(path.with_suffix(".mkv"), frames, fps=FPS, pix_fmt="yuv444p"), inside
    return write_picture(path.with_suffix(".png"), frames[0]), inside


@pytest.mark.parametrize("moving", [False, True])
def test_outside_of_the_mask_nothing_changes(generator, large, tmp_path, moving):
    mask, inside = masked(tmp_path / "mask", 81, 97, moving=moving)
    clip = generator.repaint(large, mask, seed=1, **QUICK)
    before = read_clip(large, 81, 97)[0][:, :80, :96]
    assert clip.frames.shape == before.shape == (24, 80, 96, 3)
    for number, (new, old) in enumerate(zip(clip.frames, before, strict=True)):
        where = inside[min(number, len(inside) - 1), :80, :96]
        assert np.array_equal(new[~where], old[~where])
        assert np.abs(new[where].astype(int) - old[where]).mean() > 1


def test_a_mask_that_makes_no_sense_is_one_line(generator, take, tmp_path):
    black = write_picture(tmp_path / "black.png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    with pytest.raises(UsageError, match=r"black\.png: nothing is white in it"):
        _ = generator.repaint(take, black, **QUICK).frames
    wide, _ = masked(tmp_path / "wide", HEIGHT, 3 * WIDTH)
    with pytest.raises(UsageError, match=r"wide\.png is 132x32, .*take\.mp4 44x32; give a mask of its shape"):
        generator.repaint(take, wide)


@pytest.mark.parametrize(
    ("fps", "slow", "count"),
    [
        (None, 1.0, 24),
        (50, 1.0, 47),
        (None, 4.0, 93),
        (12.5, 1.0, 12),
        (60, 1.0, 56),
        (30, 2.5, 70),
        (None, 0.5, 12),
    ],
)
def test_a_take_is_retimed_at_its_own_size(generator, large, fps, slow, count):
    clip = generator.retime(large, fps=fps, slow=slow)
    before = read_clip(large, 81, 97)[0][:, :80, :96]
    assert clip.frames.shape == (count, 80, 96, 3)
    assert clip.fps == pytest.approx(fps or FPS)
    places = np.arange(count) * FPS / (clip.fps * slow)
    for frame, place in zip(clip.frames, places, strict=True):
        if abs(place - round(place)) < 1e-6:
            assert np.array_equal(frame, before[round(place)])


def test_slow_motion_is_even(generator, tmp_path):
    """A picture that drifts by four pixels a frame drifts by one in each of four."""
    wide = np.random.default_rng(0).integers(30, 225, (16, 40, 3), dtype=np.uint8)
    wide = cv2.resize(wide, (320, 64), interpolation=cv2.INTER_CUBIC)
    frames = np.stack([wide[:, 4 * number : 4 * number + 64] for number in range(16)])
    take = write_clip(tmp_path / "drift.mkv", frames, fps=FPS, pix_fmt="yuv444p")
    slow = generator.retime(take, slow=4).frames
    true = np.stack([wide[:, number : number + 64] for number in range(len(slow))]).astype(float)
    inner = (slice(4, -4), slice(8, -8), slice(8, -8))
    assert np.abs(slow[inner] - true[inner]).mean() < 4
    changes = np.abs(np.diff(slow[inner].astype(float), axis=0)).mean((1, 2, 3))
    assert changes.max() < 1.6 * changes.min()


def test_a_swap_is_as_long_as_the_motion_and_has_the_look(generator, take, second):
    """Not made again it is a frame of the one, carried along the other's motion."""
    clip = generator.swap(take, second, 0.0, **QUICK)
    assert len(clip.frames) == 20
    coder, every = generator.sampler, [carried(frame, frames_of(second)) for frame in frames_of(take)]
    rebuilt = [np.concatenate(list(coder.decode(coder.encode(frames)))) for frames in every]
    assert min(np.abs(clip.frames.astype(int) - frames).max() for frames in rebuilt) <= 1
    look, motion = (frames_of(each).astype(float) for each in (take, second))
    mean = clip.frames.astype(float).mean(0)
    assert np.abs(mean - look.mean(0)).mean() < np.abs(mean - motion.mean(0)).mean()


def test_a_swap_shows_what_the_look_shows_even_if_it_leaves_it(generator, second, tmp_path):
    """An empty frame may be most like the other's first; there would be nothing to move."""
    shown = frames_of(second)
    empty = np.full_like(shown, 128)
    look = write_clip(tmp_path / "look.mp4", np.concatenate([shown, empty[:10]]), fps=FPS)
    motion = write_clip(tmp_path / "motion.mp4", empty, fps=FPS)
    made = generator.swap(look, motion, 0.0, **QUICK).frames.astype(int)
    coder, moving = generator.sampler, frames_of(motion)
    every = [carried(frame, moving) for frame in frames_of(look)[: len(shown)]]
    rebuilt = [np.concatenate(list(coder.decode(coder.encode(frames)))) for frames in every]
    assert min(np.abs(made - frames).max() for frames in rebuilt) <= 1


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_a_walk_begins_with_its_first_seed_and_has_no_leap(runs, recipe):
    generator = reroll.load(runs(recipe))
    clip = generator.explore([3, 8, 5], 6.0, **(QUICK if recipe != "gan" else {}))
    assert len(clip.frames) == 150
    assert clip.record["options"]["seeds"] == [3, 8, 5]
    first = generator.sample(0.2, seed=3, **(QUICK if recipe != "gan" else {})).frames
    assert np.abs(clip.frames[0].astype(int) - first[0]).mean() < 3
    steps = np.abs(np.diff(clip.frames.astype(float), axis=0)).mean((1, 2, 3))
    assert steps.max() < 8 * np.median(steps) + 1
    if recipe == "gan":
        last = generator.sample(6.0, seed=5).frames[-1]
        assert np.abs(clip.frames[-1].astype(int) - last).mean() < 2


def test_a_walk_needs_two_seeds(runs):
    with pytest.raises(UsageError, match="--seeds: give two"):
        reroll.load(runs("gan")).explore([1])


@pytest.fixture(scope="session")
def loud(tmp_path_factory):
    """A take whose sound begins with its second half."""
    path = tmp_path_factory.mktemp("take") / "loud.mp4"
    wave = 0.3 * np.sin(np.arange(2 * 48_000) * 0.1).astype(np.float32)
    wave[:48_000] = 0
    with VideoWriter(path, FPS, HEIGHT, WIDTH, sound=iter([np.stack([wave, wave])])) as writer:
        writer.write(shaking(50, HEIGHT, WIDTH))
    return path


def loudness(path, count):
    """Of a file's sound in so many equal parts of its length."""
    samples = np.concatenate(list(read_sound(path)), 1)
    return [float(np.sqrt(np.mean(part**2))) for part in np.array_split(samples, count, 1)]


@pytest.mark.parametrize("ending", [".mp4", ".webm", ".mov"])
def test_a_takes_sound_is_kept_where_its_frames_are(generator, loud, tmp_path, ending):
    longer = generator.extend(loud, 1.0, **QUICK).save(tmp_path / f"longer{ending}")
    assert loudness(longer, 2) == pytest.approx([0, 0.21], abs=0.02)  # it ends with the take
    earlier = generator.extend(loud, 2.0, backwards=True, **QUICK).save(tmp_path / f"earlier{ending}")
    assert loudness(earlier, 4) == pytest.approx([0, 0, 0, 0.21], abs=0.02)


def test_what_cannot_have_its_sound_is_silent_and_says_so(generator, loud, tmp_path, capsys):
    made = generator.loop(loud, 0.4, **QUICK).save(tmp_path / "loop.mp4")
    assert "note: loop is silent: the sound of loud.mp4" in capsys.readouterr().err
    assert not probe(made).has_audio
    generator.extend(loud, 0.2, **QUICK).save(tmp_path / "longer.gif")
    assert "sound" in capsys.readouterr().err


TASKS = {
    "extend": lambda generator, take, second, **options: generator.extend(take, 0.4, **options),
    "backwards": lambda generator, take, second, **options: generator.extend(
        take, 0.4, backwards=True, **options
    ),
    "inbetween": lambda generator, take, second, **options: generator.inbetween(take, second, 0.6, **options),
    "loop": lambda generator, take, second, **options: generator.loop(take, 0.6, **options),
    "vary": lambda generator, take, second, **options: generator.vary(take, 0.7, **options),
    "repaint": lambda generator, take, second, **options: generator.repaint(take, second, **options),
    "swap": lambda generator, take, second, **options: generator.swap(take, second, **options),
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


@pytest.mark.parametrize("task", [name for name in TASKS if name not in ("repaint", "retime")])
def test_every_task_is_framed_anew(generator, take, second, task):
    plain = TASKS[task](generator, take, second, seed=3, **QUICK).frames
    wide = TASKS[task](generator, take, second, seed=3, size="60x40", **QUICK).frames
    assert wide.shape == (len(plain), 40, 60, 3)
    assert np.array_equal(wide[:, 4:36, 8:52], plain)
    assert TASKS[task](generator, take, second, tile="x", **QUICK).frames.shape == (len(plain), HEIGHT, 32, 3)


@pytest.mark.parametrize("options", [{"size": "60x40"}, {"tile": "x"}])
def test_what_keeps_the_takes_own_size_says_so(generator, take, picture, options):
    with pytest.raises(UsageError, match="own size"):
        generator.repaint(take, picture, **options)


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
        {"threads": 10**9},
    ):
        clip.record = clip.record | change
        made = clip.save(tmp_path / "made.mp4")
        with pytest.raises(UsageError, match=r"made\.mp4: (holds no record|its record cannot be understood)"):
            reroll.again(made)

"""Canvases: the middle of a frame, what is mirrored around it, edges that meet."""

import numpy as np
import pytest
from footage_maker import shaking

from reroll.config import ModelConfig
from reroll.errors import UsageError
from reroll.sampling.canvas import LOOKED_AT, Canvas

HEIGHT, WIDTH = 64, 86
CONFIG = ModelConfig(
    height=HEIGHT, width=WIDTH, latent_channels=4, decoder_widths=(8, 8, 8), discriminator_widths=(8, 8, 8),
    prior_width=32, prior_depth=1, prior_heads=2,
)  # fmt: skip


def texture(frames=20, height=HEIGHT, width=WIDTH, seed=0):
    """Soft blots that move, over a slope from dark to light that no two edges agree in."""
    chance = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    made = np.zeros((frames, height, width, 3))
    for _ in range(60):
        y, x, down, right = chance.uniform((0, 0, -1, -1), (height, width, 1, 1))
        colour = chance.uniform(-60, 60, 3)
        for at in range(frames):
            near = np.exp(-((rows - y - down * at) ** 2 + (columns - x - right * at) ** 2) / 30)
            made[at] += near[..., None] * colour
    slope = 40 * columns / width + 40 * rows / height
    return (made + 90 + slope[..., None]).clip(0, 255).astype(np.uint8)


def fitted(frames, size=None, tile=None, chunk=16):
    canvas = Canvas.of(CONFIG, size, tile)
    return np.concatenate(list(canvas.fitted(frames[at : at + chunk] for at in range(0, len(frames), chunk))))


def jump(frames, axis):
    """The step over the edge, in those between neighbours: mean, and largest of any frame and place."""
    steps = np.abs(np.diff(frames.astype(float), axis=axis)).mean(-1)
    over = np.abs(frames.take(0, axis).astype(float) - frames.take(-1, axis)).mean(-1)
    return over.mean() / steps.mean(), over.max() / steps.max()


@pytest.mark.parametrize(("tile", "axes"), [("x", [2]), ("y", [1]), ("xy", [1, 2])])
@pytest.mark.parametrize("seed", range(3))
def test_edges_meet(tile, axes, seed):
    frames = texture(seed=seed)
    closed = fitted(frames, tile=tile)
    assert closed.shape[1:3] == (48 if "y" in tile else HEIGHT, 64 if "x" in tile else WIDTH)
    for axis in axes:
        mean, most = jump(closed, axis)
        assert mean < 1.5
        assert most < 1.7
        cropped = frames[:, : closed.shape[1], : closed.shape[2]]
        assert jump(cropped, axis)[0] > 2, "only cropped they do not meet"


@pytest.mark.parametrize(("tile", "axes"), [("x", [2]), ("y", [1]), ("xy", [1, 2])])
def test_where_the_ends_are_laid_over_each_other_nothing_leaps(tile, axes):
    """Turned by half, so that the edge lies in the middle: no step there is above those of the frames themselves."""
    frames = texture(seed=5)
    closed = fitted(frames, tile=tile)
    for axis in axes:
        turned = np.roll(closed, closed.shape[axis] // 2, axis).astype(float)
        own = np.abs(np.diff(frames.astype(float), axis=axis)).max()
        assert np.abs(np.diff(turned, axis=axis)).max() <= 1.3 * own


def test_it_keeps_what_is_sharp():
    """Cut, not faded: the band is as sharp as the rest."""
    grain = np.random.default_rng(0).normal(128, 30, (20, HEIGHT, WIDTH, 3)).clip(0, 255).astype(np.uint8)
    closed = fitted(grain, tile="x").astype(float)
    band = WIDTH - closed.shape[2]
    spread = closed.std((0, 1, 3))
    assert spread[:band].mean() > 0.9 * spread[band:].mean()
    faded = np.linspace(0, 1, band)[:, None]
    mixed = faded * grain[:, :, :band] + (1 - faded) * grain[:, :, -band:]
    assert mixed.std() < 0.85 * spread[band:].mean(), "faded it would not be"


def test_the_cut_stays_where_it_is_and_does_not_hang_on_the_chunks():
    frames = texture(LOOKED_AT + 20)
    assert np.array_equal(fitted(frames, tile="xy", chunk=16), fitted(frames, tile="xy", chunk=7))
    still = np.repeat(texture(1), 80, 0)
    assert (fitted(still, tile="xy") == fitted(still, tile="xy")[:1]).all()


def test_what_is_smaller_is_the_middle():
    frames = texture()
    assert np.array_equal(fitted(frames, "40x32"), frames[:, 16:48, 23:63])


def test_what_is_larger_goes_on_mirrored():
    frames = texture()
    wide = fitted(frames, "128x72")
    assert np.array_equal(wide[:, 4:68, 21:107], frames)
    assert np.array_equal(wide[:, 4:68, :21], frames[:, :, 20::-1])
    assert np.array_equal(wide[:, 4:68, 107:], frames[:, :, : -21 - 1 : -1])
    assert np.array_equal(wide[:, :4], wide[:, 7:3:-1])


def test_one_side_may_close_and_the_other_be_larger():
    closed = fitted(texture(), "64x96", tile="x")
    assert closed.shape[1:3] == (96, 64)
    assert jump(closed, 2)[0] < 1.5


def test_a_small_side_that_closes_is_of_the_middle():
    frames = texture()
    closed = fitted(frames, "30x24", tile="xy")
    assert closed.shape[1:3] == (24, 30)
    assert np.array_equal(closed[:, 8:, 10:], frames[:, 16 + 8 : 16 + 24, 23 + 10 : 23 + 30])
    assert jump(closed, 1)[0] < 1.5
    assert jump(closed, 2)[0] < 1.5


def test_frames_are_made_as_they_are_asked_for():
    made = []

    def chunks():
        for _ in range(100):
            made.append(1)
            yield texture(16)

    next(Canvas.of(CONFIG, None, "xy").fitted(chunks()))
    assert 16 * len(made) == LOOKED_AT


def test_a_run_too_small_for_a_tile_says_so():
    small = CONFIG.model_copy(update={"height": 16, "width": 22})
    with pytest.raises(UsageError, match="--tile xy: a run of 22x16 is too small"):
        Canvas.of(small, None, "xy")


def test_few_frames_will_do():
    assert fitted(shaking(1, HEIGHT, WIDTH), tile="xy").shape == (1, 48, 64, 3)


@pytest.mark.parametrize(
    ("size", "tile"),
    [("128", None), ("128x", None), ("axb", None), ("127x72", None), ("8x8", None), ("128x9000", None),
     ("174x64", None), ("86x64", "x"), ("64x60", "y"), (None, "z"), ("9999999x72", None)],
)  # fmt: skip
def test_sizes_that_make_no_sense_are_one_line(size, tile):
    with pytest.raises(UsageError, match=r"--size|--tile") as caught:
        Canvas.of(CONFIG, size, tile)
    assert "\n" not in str(caught.value)


def test_without_either_there_is_no_canvas():
    assert Canvas.of(CONFIG, None, None) is None
    assert Canvas.of(CONFIG, None, "x") == Canvas(64, 64, False, True)

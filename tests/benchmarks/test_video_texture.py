"""Video textures: what may follow what, foresight, loops of an exact length."""

import numpy as np
import pytest

from benchmarks.baselines import video_texture

FPS, PERIOD = 25.0, 30


def dot(x: float, y: float, side: int = 32) -> np.ndarray:
    """A frame with a soft dot at x, y in -1 to 1."""
    rows, columns = np.mgrid[:side, :side] / (side - 1) * 3 - 1.5
    shine = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 0.1)
    return np.repeat((40 + 200 * shine)[..., None], 3, 2).astype(np.uint8)


def circling(frames: int, start: int = 0) -> np.ndarray:
    """A dot that goes round once in PERIOD frames."""
    turns = np.arange(start, start + frames) * 2 * np.pi / PERIOD
    return np.stack([dot(np.cos(turn), np.sin(turn)) for turn in turns])


def swinging(frames: int) -> np.ndarray:
    """A dot that goes from side to side and back in PERIOD frames."""
    return np.stack([dot(np.cos(2 * np.pi * t / PERIOD), 0) for t in range(frames)])


def changes(clip: np.ndarray) -> np.ndarray:
    """Mean change from each frame to the next."""
    return np.abs(np.diff(clip.astype(float), axis=0)).mean((1, 2, 3))


def train(*clips: np.ndarray) -> video_texture.VideoTexture:
    return video_texture.train(clips, FPS, 10.0, 0)


def test_plays_as_long_as_asked_without_a_jerk():
    clip = circling(100)
    texture = train(clip)
    played = texture.sample(400, seed=1)
    assert played.shape == (400, 32, 32, 3)
    assert played.dtype == np.uint8
    assert changes(played).max() < 1.3 * changes(clip).max()
    assert changes(played).min() > 0.5 * changes(clip).min()
    assert texture.steps == 0
    assert texture.rebuild(clip) is None


def test_a_seed_gives_its_own_frames():
    texture = train(circling(100))
    assert np.array_equal(texture.sample(90, seed=3), texture.sample(90, seed=3))
    assert not np.array_equal(texture.sample(90, seed=3), texture.sample(90, seed=4))


def test_the_way_things_move_is_kept():
    """A swing passes the middle both ways with the same frame; only frames around it tell which way."""
    played = train(swinging(5 * PERIOD)).sample(400, seed=0)
    mass = played[..., 0].astype(float) - 40
    middles = (mass * np.arange(32)).sum((1, 2)) / mass.sum((1, 2))
    turns = middles[1:-1][np.diff(np.sign(np.diff(middles))) != 0]
    assert np.abs(turns - 15.5).min() > 6


def test_dead_ends_are_seen_coming():
    """After the round a dot walks off; from there every way back is dear, and before that it costs nothing."""
    leaving = np.stack([dot(1 + t / 15, t / 15) for t in range(30)])
    clip = np.concatenate([circling(91), leaving])
    texture = train(clip)
    gone = np.abs(texture.footage[None, 105:].astype(int) - texture.sample(300, seed=0)[150:, None]).max(
        (2, 3, 4)
    )
    assert not (gone == 0).any()


@pytest.mark.parametrize("frames", [30, 47, 200])
def test_loops_are_exactly_as_long_as_asked_and_close(frames):
    clip = circling(100)
    loop = train(clip).loop(frames, seed=2)
    assert loop.shape == (frames, 32, 32, 3)
    assert changes(np.concatenate([loop, loop[:1]])).max() < 2 * changes(clip).max()


def test_no_loop_is_shorter_than_a_jump_and_its_run():
    assert train(circling(100)).loop(video_texture.RUN, seed=0) is None


def test_loops_move_where_footage_also_rests():
    resting = np.repeat(circling(1), 60, 0)
    loop = train(np.concatenate([resting, circling(120)])).loop(60, seed=0)
    assert changes(loop).mean() > 0.5 * changes(circling(60)).mean()


def test_plays_from_one_clip_into_another():
    marked, plain = circling(60), circling(60, start=7)
    marked[:, 0, 0] = 100
    corners = train(marked, plain).sample(600, seed=0)[:, 0, 0, 0]
    assert 0.1 < (corners == 100).mean() < 0.9


def test_needs_footage_long_enough_to_jump_into():
    with pytest.raises(ValueError, match="at least 22 frames"):
        train(circling(20))
    assert train(circling(20), circling(90)).sample(50, seed=0).shape == (50, 32, 32, 3)

"""The nearest footage: found wherever it starts, flipped too, whatever the pieces it is searched in."""

import numpy as np
import pytest

from reroll.evaluation.nearest import PIECE_FRAMES, Place, TrainingFootage, nearest_footage


@pytest.fixture(scope="module")
def windows(moving_textures):
    return moving_textures(10, frames=16, seed=5)


@pytest.fixture(scope="module")
def footage(windows):
    return TrainingFootage.of_windows(windows, [Place(f"{number}.mp4", 3.0) for number in range(10)])


def test_the_nearest_run_is_found_at_its_own_start(windows, footage):
    nearest = nearest_footage(windows[7:8, 3:13], footage)
    assert nearest.distance[0] < 0.1
    assert nearest.places == [Place("7.mp4", 3.0)]
    first = 7 * 16 + 3 + nearest.start[0]
    assert nearest.frames[0].tolist() == list(range(first, first + 8))


def test_pieces_do_not_change_the_answer(footage, moving_textures, monkeypatch):
    samples = moving_textures(3, frames=16, seed=6)
    whole = nearest_footage(samples, footage)
    for frames in (8, 11, 40):
        monkeypatch.setattr("reroll.evaluation.nearest.PIECE_FRAMES", frames)
        parts = nearest_footage(samples, footage)
        assert np.allclose(whole.distance, parts.distance, rtol=1e-4)
        assert np.array_equal(whole.frames, parts.frames)


def test_every_frame_of_long_footage_is_searched_and_never_many_at_once(moving_textures):
    clip = moving_textures(1, frames=600, seed=4)[0]
    asked = []

    def read(numbers):
        asked.append(numbers)
        return clip[numbers]

    footage = TrainingFootage([np.arange(600)], read, ["a"], np.zeros(600, int), np.arange(600) / 10)
    starts = (0, 121, 125, 333, 584)
    nearest = nearest_footage(np.stack([clip[start : start + 16] for start in starts]), footage)
    assert nearest.distance.max() < 0.1
    found = nearest.frames[:, 0] - nearest.start
    assert found.tolist() == list(starts)
    assert [place.seconds for place in nearest.places] == pytest.approx(nearest.frames[:, 0] / 10)
    assert max(map(len, asked)) <= PIECE_FRAMES
    assert set(np.concatenate(asked)) == set(range(600))


def test_what_lies_near_in_the_same_file_is_not_compared(windows, footage):
    places = [Place(f"{number}.mp4", 3.0) for number in range(10)]
    nearest = nearest_footage(windows, footage, places, apart_seconds=1.0)
    assert all(place.file != f"{number}.mp4" for number, place in enumerate(nearest.places))
    alone = TrainingFootage.of_windows(windows[:1], places[:1])
    nowhere = nearest_footage(windows[:1], alone, places[:1], apart_seconds=1.0)
    assert np.isinf(nowhere.distance[0])
    assert nowhere.frames[0, 0] == -1
    assert nowhere.places == [None]
    later = nearest_footage(windows[:1], alone, [Place("0.mp4", 5.0)], apart_seconds=1.0)
    assert later.distance[0] < 0.1


def test_flipped_footage_is_searched_where_training_flipped_it(windows):
    asked = np.stack([windows[2, :, :, ::-1], windows[3]])
    plain = nearest_footage(asked, TrainingFootage.of_windows(windows))
    assert not plain.mirrored.any()
    assert plain.distance[0] > 5
    both = nearest_footage(asked, TrainingFootage.of_windows(windows, mirrored=True))
    assert both.distance.max() < 0.2
    assert both.mirrored.tolist() == [True, False]
    assert [place.file for place in both.places] == ["training window 3", "training window 4"]

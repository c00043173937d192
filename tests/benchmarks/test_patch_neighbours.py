"""Patch nearest neighbours: exact search, what carries over between scales, what a sample is made of."""

import cv2
import numpy as np
import pytest
import torch

from benchmarks.baselines import patch_neighbours

FPS, SIDE = 25.0, 32


def crossing(frames: int = 48, width: int = SIDE, seed: int = 0) -> np.ndarray:
    """A bright dot that crosses a fixed, uneven ground to the right, twelve frames each time."""
    rng = np.random.default_rng(seed)
    ground = rng.uniform(30, 90, (SIDE // 4, width // 4, 3)).repeat(4, 0).repeat(4, 1)
    rows, columns = np.mgrid[:SIDE, :width]
    clip = []
    for frame in range(frames):
        middle = (frame % 12) / 12 * width
        shine = np.exp(-((rows - SIDE / 2) ** 2 + (columns - middle) ** 2) / 12)
        clip.append(ground * (1 - shine[..., None]) + 240 * shine[..., None])
    return np.stack(clip).astype(np.uint8)


def train(*clips: np.ndarray) -> patch_neighbours.PatchNeighbours:
    return patch_neighbours.train(clips, FPS, 10.0, 0)


def change(clip: np.ndarray) -> float:
    return float(np.abs(np.diff(clip.astype(float), axis=0)).mean())


@pytest.mark.parametrize("width", [SIDE, 44])
@pytest.mark.parametrize("frames", [10, 101])
def test_shape_and_type_at_any_length_and_width(width, frames):
    made = train(crossing(width=width)).sample(frames, seed=0)
    assert made.shape == (frames, SIDE, width, 3)
    assert made.dtype == np.uint8


def test_a_seed_gives_its_own_frames():
    model = train(crossing())
    assert np.array_equal(model.sample(30, seed=1), model.sample(30, seed=1))
    assert not np.array_equal(model.sample(30, seed=1), model.sample(30, seed=2))
    assert model.steps == 0
    assert model.rebuild(crossing()) is None


def test_a_sample_moves_as_footage_does_and_looks_like_it():
    clip = crossing()
    made = train(clip).sample(60, seed=0)
    assert 0.75 < change(made) / change(clip) < 1.25
    apart = np.abs(made[:, None].astype(float) - clip[None, :12]).mean((2, 3, 4)).min(1)
    still = np.abs(made.astype(float) - clip.mean(0)).mean((1, 2, 3))
    assert np.median(apart) < 0.5 * np.median(still)


def test_without_noise_stretches_of_footage_come_back(monkeypatch):
    monkeypatch.setattr(patch_neighbours, "NOISE", 0.0)
    clip = crossing()
    made = train(clip).sample(48, seed=0)
    apart = np.abs(made[:, None].astype(float) - clip[None, :12]).mean((2, 3, 4)).min(1)
    assert np.median(apart) < 1.5


def test_more_noise_leads_further_from_footage(monkeypatch):
    noise = np.random.default_rng(0).normal(size=(54, SIDE, SIDE, 3)).astype(np.float32)
    smooth = np.stack([cv2.GaussianBlur(frame, (0, 0), 3) for frame in noise])
    smooth = sum(smooth[start : start + 48] for start in range(6))
    clip = (smooth / smooth.std() * 40 + 128).clip(0, 255).astype(np.uint8)
    found = []
    for noise in (0.0, 2.0):
        monkeypatch.setattr(patch_neighbours, "NOISE", noise)
        made = train(clip).sample(24, seed=0)[4:-4]
        found.append(np.abs(made[:, None].astype(float) - clip[None]).mean((2, 3, 4)).min(1).mean())
    assert found[0] < found[1]


def test_a_loop_goes_on_from_its_last_frame_to_its_first():
    clip = crossing()
    loop = train(clip).loop(48, seed=0)
    assert loop.shape == clip.shape
    steps = np.abs(np.diff(clip.astype(float), axis=0)).mean((1, 2, 3))
    seam = np.abs(loop[0].astype(float) - loop[-1]).mean()
    assert seam < 1.5 * steps.max()


def test_neighbours_are_exact_and_completeness_counts(monkeypatch):
    random = torch.Generator().manual_seed(0)
    query = torch.randn(3, 4, 5, patch_neighbours.NUMBERS, generator=random)
    keys = torch.randn(700, patch_neighbours.NUMBERS, generator=random).half()
    distance = torch.cdist(query.flatten(0, 2), keys.float()).square()
    for alpha in (1e6, 0.01):
        monkeypatch.setattr(patch_neighbours, "ALPHA", alpha)
        expected = (distance / (alpha + distance.amin(0))).argmin(1)
        assert torch.equal(patch_neighbours.nearest(query, keys).flatten(), expected)


def test_patchmatch_only_ever_comes_nearer():
    model, random = train(crossing()), torch.Generator().manual_seed(0)
    scale = model.scales[-1]
    patches = patch_neighbours.patches_of(scale.pieces)
    keys = patch_neighbours.describe_all(scale, scale.pieces, patches)
    query = scale.describe(scale.pieces[0], patch_neighbours.STRIDE).float()
    first = torch.randint(len(keys), query.shape[:3], generator=random)
    found = patch_neighbours.search(query, keys, first, scale.size, random)
    before, after = ((keys[each].float() - query).square().sum(3) for each in (first, found))
    assert (after <= before).all()
    assert after.mean() < 0.5 * before.mean()


def test_a_patchs_number_is_its_place():
    scale = train(crossing(), crossing(24, seed=1)).scales[-1]
    patches = patch_neighbours.patches_of(scale.pieces)
    every = torch.arange((46 + 22) * SIDE * SIDE)
    piece, frame, row, column = patches.places(every)
    assert torch.equal(patches.nearest_to(piece, frame, row, column), every)
    assert piece.unique().tolist() == [0, 1]
    assert [int(frame[piece == number].max()) for number in (0, 1)] == [46, 22]


@pytest.mark.parametrize("wrap", [False, True])
def test_votes_for_footage_give_footage(wrap):
    """Where every patch of a clip is its own match, the votes are the clip."""
    scale = train(crossing()).scales[-1]
    clip, patches = scale.pieces[0], patch_neighbours.patches_of(scale.pieces)
    rows, columns = (torch.arange(0, SIDE, patch_neighbours.STRIDE) for _ in range(2))
    frames = torch.arange(1, len(clip) - 1)
    matches = (frames[:, None, None] - 1) * SIDE**2 + rows[:, None] * SIDE + columns
    voted = patch_neighbours.vote(patches, matches, wrap=wrap)
    inner = slice(2, -2)
    expected = clip[1:-1] if wrap else clip
    assert (voted[inner] - expected[inner]).abs().max() < 2e-3


def test_matches_carried_up_keep_their_places():
    model = train(crossing())
    below, above = (patch_neighbours.patches_of(scale.pieces) for scale in model.scales[-2:])
    shapes = [scale.pieces[0].shape for scale in model.scales[-2:]]
    frames, rows, columns = patch_neighbours.middles(shapes[0], wrap=False)
    own = below.nearest_to(torch.zeros(1).long(), frames[:, None, None], rows[:, None], columns)
    piece, frame, row, column = above.places(
        patch_neighbours.carry_up(own, shapes[0], below, shapes[1], above, wrap=False)
    )
    frames, rows, columns = patch_neighbours.middles(shapes[1], wrap=False)
    assert (piece == 0).all()
    assert (frame - frames[:, None, None]).abs().max() <= 1
    assert (row - rows[:, None]).abs().max() <= 1
    assert (column - columns).abs().max() <= 1


def test_footage_may_be_several_clips_but_not_too_short():
    model = train(crossing(24), crossing(8), crossing(36, seed=1))
    assert len(model.scales[-1].pieces) == 2
    with pytest.raises(ValueError, match="at least 12 frames"):
        train(crossing(8))

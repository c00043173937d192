"""Rectified flow: the identities that sampling rests on, and the masks that training meets."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reroll.objectives.flow import (
    Source,
    between_mask,
    denoise,
    draw_levels,
    expand_levels,
    flow_loss,
    given_mask,
    interpolate,
    schedule,
    source_of,
)
from reroll.parts.model import OLDER_SPREAD
from reroll.parts.motion_prior import PATCH

shapes = st.tuples(st.integers(1, 3), st.integers(1, 20), st.integers(1, 4), st.integers(1, 5))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pair(shape, channels=3, seed=0):
    batch, frames, rows, columns = shape
    size = (batch, frames, channels, rows * PATCH, columns * PATCH)
    draw = generator(seed)
    return torch.randn(size, generator=draw), torch.randn(size, generator=draw)


def begun_with(noise):
    """The source where nothing is known."""
    nowhere = torch.zeros(noise.shape[:2] + tuple(side // PATCH for side in noise.shape[-2:]))
    return Source(noise, torch.zeros_like(noise), nowhere + 1, nowhere > 0)


@given(shape=shapes, seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=40)
def test_interpolate_begins_at_the_latents_and_ends_at_the_noise(shape, seed):
    latents, noise = pair(shape, seed=seed)
    assert torch.equal(interpolate(latents, noise, torch.zeros(shape)), latents)
    assert torch.equal(interpolate(latents, noise, torch.ones(shape)), noise)


@given(level=st.floats(0, 1), step=st.floats(-0.5, 0.5))
def test_its_derivative_is_the_velocity(level, step):
    latents, noise = pair((1, 2, 2, 2))
    here, there = (interpolate(latents, noise, torch.full((1, 2, 2, 2), at)) for at in (level, level + step))
    torch.testing.assert_close(there - here, step * (noise - latents), rtol=1e-3, atol=1e-4)


def test_a_level_covers_its_token():
    levels = torch.rand(1, 2, 2, 3)
    latents, _ = pair((1, 2, 2, 3))
    expanded = expand_levels(levels, latents)
    assert expanded.shape == (1, 2, 1, 4, 6)
    assert torch.equal(expanded[0, 1, 0, 2:4, 4:6], levels[0, 1, 1, 2].expand(2, 2))


def test_the_loss_counts_free_tokens_only():
    latents, noise = pair((1, 2, 2, 2))
    levels = torch.full((1, 2, 2, 2), 0.5)
    levels[:, 0] = 0
    velocity, source = noise - latents, begun_with(noise)
    assert flow_loss(velocity, latents, source, levels) == 0
    velocity[:, 0] += 100
    assert flow_loss(velocity, latents, source, levels) == 0
    velocity[:, 1] += 2
    assert flow_loss(velocity, latents, source, levels) == pytest.approx(4, rel=1e-4)
    narrow = source._replace(spread=0.5 * source.spread)
    assert flow_loss(2 * velocity, latents, narrow, levels) == pytest.approx(8, rel=1e-4)
    assert flow_loss(velocity, latents, source, torch.zeros_like(levels)) == 0


@given(shape=shapes, spacing=st.integers(1, 9), seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=120)
def test_levels_are_levels_and_something_is_left_to_learn(shape, spacing, seed):
    levels = draw_levels(shape, [spacing] * shape[0], generator(seed))
    assert levels.shape == shape
    assert levels.min() >= 0
    assert levels.max() <= 1
    assert (levels > 0).flatten(1).any(1).all(), "a window in which every token is given teaches nothing"


@given(
    frames=st.integers(1, 20), rows=st.integers(1, 5), columns=st.integers(1, 5), seed=st.integers(0, 2**31)
)
@settings(deadline=None, max_examples=300)
def test_a_mask_never_gives_everything(frames, rows, columns, seed):
    mask = given_mask(frames, rows, columns, generator(seed))
    assert mask.shape == (frames, rows, columns)
    assert not mask.all()


def test_every_task_is_met():
    """What sampling gives: a beginning, an end, both ends, every k-th frame, a region."""
    masks = [given_mask(8, 2, 3, generator(seed)) for seed in range(400)]
    whole = [mask[:, 0, 0].tolist() for mask in masks if (mask == mask[:, :1, :1]).all()]
    assert [True, False, False, False, False, False, False, False] in whole
    assert any(m[0] and not m[-1] and sum(m) > 2 for m in whole)
    assert any(m[-1] and not m[0] for m in whole)
    assert any(m[0] and m[-1] and not all(m) for m in whole)
    assert any(m[::2] == [True] * 4 and not any(m[1:-1:2]) for m in whole)
    assert any((mask != mask[:, :1, :1]).any() for mask in masks)


@given(frames=st.integers(1, 20), spacing=st.integers(2, 12), seed=st.integers(0, 2**31))
def test_a_mask_between_keyframes_gives_those_and_not_everything(frames, spacing, seed):
    mask = between_mask(frames, spacing, generator(seed))
    assert mask.shape == (frames,)
    assert not mask.all()
    assert frames == 1 or mask.any()


def test_keyframes_and_what_is_between_are_trained_as_they_are_sampled():
    levels = draw_levels((800, 16, 2, 3), [1] * 400 + [4] * 400, generator(1))
    spread = levels.amax((1, 2, 3)) - levels.amin((1, 2, 3))
    free = (spread == 0).float()
    assert 0.8 < free[:400].mean() < 0.9, "keyframes: most windows all free, at one level, as clips begin"
    assert 0.08 < free[400:].mean() < 0.25
    assert ((spread > 0) & (levels.amin((1, 2, 3)) > 0)).any(), "a level for every frame"
    frames_given = (levels == 0).flatten(2).all(2)
    # three fine frames before, then keyframes
    sampled = torch.tensor([True] * 4 + [False, False, False, True] * 3)
    assert (frames_given[400:] == sampled).all(1).any()
    assert not (frames_given[:400] == sampled).all(1).any()


@given(steps=st.integers(1, 200), top=st.floats(1, 8), bottom=st.floats(-6, 0.5))
def test_the_schedule_runs_from_noise_to_nothing(steps, top, bottom):
    levels = schedule(steps, (top, bottom))
    assert len(levels) == steps + 1
    assert levels[0] == 1
    assert levels[-1] == 0
    assert (levels.diff() < 0).all()
    gaps = torch.logit(levels[1:-1].double()).diff()
    torch.testing.assert_close(gaps, torch.full_like(gaps, (bottom - top) / steps), rtol=2e-2, atol=1e-3)


def constant(velocity, seen=None):
    def prior(x, levels, times, labels, content):
        if seen is not None:
            seen.append((x.clone(), levels.clone(), labels.clone()))
        return velocity.expand_as(x)

    return prior


TIMES = torch.arange(5.0)[None] / 25
NONE = torch.tensor([-1])


@pytest.mark.parametrize("steps", [1, 2, 7, 24])
def test_the_true_velocity_leads_to_the_latents(steps):
    latents, noise = pair((1, 5, 2, 2))
    found = denoise(constant(noise - latents), begun_with(noise), TIMES, NONE, steps=steps)
    torch.testing.assert_close(found, latents, rtol=1e-5, atol=1e-5)


@given(seed=st.integers(0, 2**31), steps=st.integers(1, 6))
@settings(deadline=None, max_examples=40)
def test_what_is_given_stays(seed, steps):
    known, noise = pair((1, 5, 2, 2), seed=seed)
    mask = given_mask(5, 2, 2, generator(seed))[None]
    wild, _ = pair((1, 5, 2, 2), seed=seed + 1)
    seen = []
    found = denoise(
        constant(wild, seen),
        begun_with(noise),
        TIMES,
        NONE,
        steps=steps,
        known=known,
        highest=(~mask).float(),
    )
    held = expand_levels(mask.float(), known).bool().expand_as(known)
    assert torch.equal(found[held], known[held])
    torch.testing.assert_close(found[~held], (noise - wild)[~held], rtol=1e-4, atol=1e-4)
    for x, levels, _ in seen:
        assert torch.equal(x[held], known[held])
        assert torch.equal(levels == 0, mask)


@pytest.mark.parametrize("level", [0.1, 0.4, 0.9])
def test_what_begins_below_the_highest_level_changes_as_little(level):
    known, noise = pair((1, 5, 2, 2))
    highest = torch.ones(1, 5, 1, 1)
    highest[:, 2] = level
    seen = []
    found = denoise(
        constant(noise, seen), begun_with(noise), TIMES, NONE, steps=6, known=known, highest=highest
    )
    torch.testing.assert_close(found[:, 2], (1 - level) * known[:, 2], rtol=1e-4, atol=1e-5)
    for _, levels, _ in seen:
        assert float(levels[0, 2]) == pytest.approx(min(level, float(levels[0, 0])))


def test_guidance_pushes_away_from_the_unlabelled():
    _, noise = pair((1, 5, 2, 2))

    def prior(x, levels, times, labels, content):
        return torch.full_like(x, float(labels[0]) + 1)

    label = torch.tensor([1])
    plain = denoise(prior, begun_with(noise), TIMES, label, steps=3)
    pushed = denoise(prior, begun_with(noise), TIMES, label, steps=3, guidance=3.0)
    torch.testing.assert_close(plain, noise - 2, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(pushed, noise - 6, rtol=1e-4, atol=1e-4)


def test_sharpness_pushes_away_from_the_early_prior():
    _, noise = pair((1, 5, 2, 2))

    def constant(value):
        return lambda x, levels, times, labels, content: torch.full_like(x, value)

    def found(**options):
        return denoise(constant(2.0), begun_with(noise), TIMES, torch.tensor([-1]), steps=3, **options)

    torch.testing.assert_close(found(early=constant(1.5)), noise - 2, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found(early=constant(1.5), sharpness=2.0), noise - 3, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found(early=constant(2.0), sharpness=2.0), noise - 2, rtol=1e-4, atol=1e-4)


def test_the_gradient_reaches_the_last_step_only():
    _, noise = pair((1, 5, 2, 2))
    weight = torch.ones((), requires_grad=True)
    calls = []

    def prior(x, levels, times, labels, content):
        calls.append(torch.is_grad_enabled())
        return x * weight

    found = denoise(prior, begun_with(noise), TIMES, NONE, steps=4, gradient_in_last_step=True)
    assert calls == [False, False, False, True]
    assert found.requires_grad
    assert not denoise(prior, begun_with(noise), TIMES, NONE, steps=2).requires_grad


def test_between_given_frames_the_source_is_the_line_with_little_noise():
    known, noise = pair((1, 14, 2, 2))
    levels = torch.ones(1, 14, 2, 2)
    levels[:, [0, 2, 6, 13]] = 0  # 2, 4 and 7 frames from each other
    levels[:, 6, 1, 1] = 0.5  # there only, 2 and 13 are the next ones: too far apart
    times = torch.tensor([[0.0, 3.0, 4.0, *range(5, 16)]])
    source, _, spread, _ = source_of(noise, known, levels, times, torch.tensor([0.2, 0.0, 0.4]))
    assert sorted({round(each, 4) for each in spread.flatten().tolist()}) == [0.2, 1.0]
    assert [i for i in range(14) if spread[0, i, 0, 0] < 1] == [1, 3, 4, 5, *range(7, 13)]
    line = known[:, 0, :, :2, :2].lerp(known[:, 2, :, :2, :2], 0.75)
    torch.testing.assert_close(source[:, 1, :, :2, :2], 0.96**0.5 * line + 0.2 * noise[:, 1, :, :2, :2])
    assert (spread[0, 3:6, 1, 1] == 1).all()
    torch.testing.assert_close(source[:, 3:6, :, 2:, 2:], noise[:, 3:6, :, 2:, 2:])


def test_what_is_told_of_a_content_begins_around_it():
    known, noise = pair((3, 5, 2, 2))
    content = torch.randn(3, 3, 4, 4, generator=generator(7))
    levels, told = torch.ones(3, 5, 2, 2), torch.tensor([True, False, True])
    levels[2, 0] = 0  # something is given: that tells more than a content
    spreads = torch.tensor([0.2, 0.0, 0.4])
    source, _, spread, _ = source_of(noise, known, levels, TIMES.expand(3, -1), spreads, content, told)
    assert (spread[0] == 0.4).all()
    assert (spread[1:] == 1).all()
    torch.testing.assert_close(source[0], 0.84**0.5 * content[:1].expand(5, -1, -1, -1) + 0.4 * noise[0])
    assert torch.equal(source[1:], noise[1:])
    everything = source_of(noise, known, torch.ones(3, 5, 2, 2), TIMES.expand(3, -1), spreads, content)
    assert (everything.spread == 0.4).all()


def test_models_of_older_versions_begin_with_noise():
    known, noise = pair((2, 5, 2, 2))
    levels = torch.ones(2, 5, 2, 2)
    levels[0, ::2] = 0
    source = source_of(noise, known, levels, TIMES.expand(2, -1), OLDER_SPREAD, known[:, 0])
    assert torch.equal(source.latents, noise)
    assert (source.spread == 1).all()


def test_the_true_velocity_leads_from_a_narrow_source_to_the_latents():
    latents, noise = pair((1, 5, 2, 2))
    source = source_of(
        noise, latents, torch.ones(1, 5, 2, 2), TIMES, torch.tensor([0.2, 0.0, 0.4]), latents[:, 0]
    )
    found = denoise(constant((source.latents - latents) / 0.4), source, TIMES, NONE, steps=3)
    torch.testing.assert_close(found, latents, rtol=1e-5, atol=1e-5)


def test_between_given_frames_the_spread_is_wider_where_they_differ():
    known, noise = pair((1, 5, 2, 2))
    known[:, 4] = known[:, 0]
    known[:, 4, :, :2, 2:] += 1.5
    known[:, 4, :, 2:, :2] += 9.0
    levels = torch.ones(1, 5, 2, 2)
    levels[:, [0, 4]] = 0
    source = source_of(noise, known, levels, TIMES, torch.tensor([0.3, 0.2, 1.0]))
    assert (source.spread[:, [0, 4]] == 1).all()
    expected = torch.tensor([[0.3, (0.3**2 + 0.3**2) ** 0.5], [1.0, 0.3]]).expand(3, 2, 2)
    torch.testing.assert_close(source.spread[0, 1:4], expected)


def test_between_given_frames_a_prior_is_shown_how_far_latents_are_from_the_line():
    known, noise = pair((2, 5, 2, 2))
    levels = torch.ones(2, 5, 2, 2)
    levels[0, [0, 4]] = 0
    source = source_of(noise, known, levels, TIMES.expand(2, -1), torch.tensor([0.2, 0.0, 0.4]), known[:, 0])
    seen = source.seen(interpolate(known, source.latents, levels))
    torch.testing.assert_close(seen[0, 1:4], noise[0, 1:4], rtol=1e-4, atol=1e-5)
    assert torch.equal(seen[0, [0, 4]], known[0, [0, 4]]), "given ones as they are"
    assert torch.equal(seen[1], source.latents[1]), "and those around a content"


def test_a_prior_that_knows_the_way_leads_frames_between_given_ones_to_what_they_are():
    known, noise = pair((1, 5, 2, 2))
    highest = torch.ones(1, 5, 2, 2)
    highest[:, [0, 4]] = 0
    source = source_of(noise, known, highest, TIMES, torch.tensor([0.2, 0.3, 1.0]))
    velocity = (source.latents - known) / expand_levels(source.spread, known)
    blank = known * (highest == 0).float()[:, :, None, :1, :1]
    start = source_of(noise, blank, highest, TIMES, torch.tensor([0.2, 0.3, 1.0]))
    found = denoise(constant(velocity), start, TIMES, NONE, steps=3, known=blank, highest=highest)
    torch.testing.assert_close(found, known, rtol=1e-4, atol=1e-5)

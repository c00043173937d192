"""The adversarial losses: antisymmetry, the penalty against a double backward, augmentation."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from reroll.objectives.adversarial import (
    SIGMA,
    augment,
    blur,
    exact_penalty,
    feature_loss,
    gradient_penalty,
    matching_loss,
    relativistic_loss,
)
from reroll.parts.discriminator import Discriminator, Verdict

logits = st.floats(-6, 6)


def verdict(fine, wide):
    return Verdict(torch.full((1, 2, 3, 3), fine), torch.full((1, 2, 1, 1), wide), [])


@given(a=logits, b=logits, c=logits, d=logits)
def test_the_loss_of_one_side_is_the_mirror_of_the_other(a, b, c, d):
    """softplus(x) - softplus(-x) = x: what one gains by a margin the other loses, and both are positive."""
    ours, theirs = verdict(a, b), verdict(c, d)
    here, there = relativistic_loss(ours, theirs), relativistic_loss(theirs, ours)
    assert here > 0
    assert there > 0
    margin = 0.5 * ((a - c) + (b - d))
    torch.testing.assert_close(there - here, torch.tensor(margin), rtol=1e-4, atol=1e-4)


@given(level=logits, shift=logits)
def test_only_the_difference_of_logits_counts(level, shift):
    here = relativistic_loss(verdict(level, 0.0), verdict(0.0, level))
    there = relativistic_loss(verdict(level + shift, shift), verdict(shift, level + shift))
    torch.testing.assert_close(here, there, rtol=1e-4, atol=1e-4)
    assert relativistic_loss(verdict(level, 1.0), verdict(level, 1.0)) == pytest.approx(math.log(2), rel=1e-4)


def test_feature_loss_is_zero_on_equal_features_and_has_no_scale():
    real = Verdict(torch.zeros(1), torch.zeros(1), [torch.rand(2, 4, 3, 3) + 0.1, torch.rand(2, 8) + 0.1])
    made = Verdict(torch.zeros(1), torch.zeros(1), [f * 1.3 for f in real.features])
    assert feature_loss(real, real) == 0
    assert feature_loss(made, real) == pytest.approx(0.3, rel=0.01)
    louder = [Verdict(v.fine, v.wide, [50 * f for f in v.features]) for v in (made, real)]
    torch.testing.assert_close(feature_loss(*louder), feature_loss(made, real), rtol=1e-2, atol=1e-4)


def test_matching_compares_averages_over_the_batch_at_each_place():
    features = [torch.rand(4, 5, 3, 3) + 0.1]
    real = Verdict(torch.zeros(1), torch.zeros(1), features)
    shuffled = real._replace(features=[features[0][torch.tensor([2, 0, 3, 1])]])
    assert matching_loss(shuffled, real) < 1e-6, "which window is which does not count"
    elsewhere = real._replace(features=[features[0].flip(-1)])
    assert matching_loss(elsewhere, real) > 0.01, "where things are does"


@pytest.mark.parametrize("sigma", [0.7, 2.0, 9.0])
def test_blur_keeps_even_frames_and_spreads_a_point_by_sigma(sigma):
    flat = torch.full((1, 2, 3, 12, 20), 0.3)
    torch.testing.assert_close(blur(flat, sigma), flat)
    point = torch.zeros(1, 1, 3, 81, 81)
    point[..., 40, 40] = 1
    row = blur(point, sigma)[0, 0, 0].sum(0)
    places = torch.arange(81) - 40.0
    assert row.sum() == pytest.approx(1, abs=1e-4)
    assert (row * places.square()).sum().sqrt() == pytest.approx(sigma, rel=0.06)


@pytest.mark.parametrize("sigma", [0.8, 3.0, 6.0])
def test_the_gradient_of_the_blur_is_the_blur_of_the_gradient(sigma):
    """`gan` goes back through the blur in this way; the frames are smaller than the widest kernel."""
    a, b = torch.randn(2, 1, 2, 3, 11, 14, generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close((blur(a, sigma) * b).sum(), (a * blur(b, sigma)).sum(), rtol=1e-5, atol=1e-5)


def test_no_blur_is_the_frames_themselves():
    frames = torch.rand(1, 1, 3, 8, 8)
    assert blur(frames, 0.1) is frames


class Smooth(nn.Module):
    """A small discriminator without kinks."""

    def __init__(self):
        super().__init__()
        self.first, self.fine, self.wide = (
            nn.Conv2d(3, 6, 3),
            nn.Conv2d(6, 1, 1),
            nn.Conv2d(6, 1, 3, stride=3),
        )

    def forward(self, frames, times):
        x = torch.tanh(self.first(frames.flatten(0, 1)))
        shape = frames.shape[:2]
        return Verdict(self.fine(x).unflatten(0, shape), self.wide(x).unflatten(0, shape), [x])


def double_backward(discriminator, frames, times):
    """E‖∇ mean logit‖² of each verdict, by autograd."""
    total = torch.zeros(())
    for side in ("fine", "wide"):
        pixels = frames.clone().requires_grad_()
        means = getattr(discriminator(pixels, times), side).flatten(1).mean(1)
        gradient = torch.autograd.grad(means.sum(), pixels, create_graph=True)[0]
        total = total + gradient.square().sum((1, 2, 3, 4)).mean()
    return total


@pytest.mark.parametrize("make", [Smooth, lambda: Discriminator((8, 12, 16))], ids=["smooth", "ours"])
def test_the_penalty_agrees_with_the_double_backward(make):
    torch.manual_seed(0)
    discriminator = make()
    with torch.no_grad():
        for parameter in discriminator.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    windows = 1800
    frames = (torch.rand(3, 2, 3, 32, 32) * 2 - 1).repeat(windows // 3, 1, 1, 1, 1)
    times = torch.tensor([[0.0, 0.04]]).expand(windows, -1)
    exact = double_backward(discriminator, frames[:3], times[:3]).item()
    with torch.no_grad():
        found = gradient_penalty(discriminator, frames, times, torch.Generator().manual_seed(0)).item()
    assert exact > 0
    assert found == pytest.approx(exact, rel=0.1)


def test_the_exact_penalty_is_the_squared_gradient_of_both_verdicts():
    torch.manual_seed(0)
    frames, weights = torch.rand(5, 2, 3, 8, 8), torch.randn(2, 3, 8, 8)

    def linear(data):
        """Verdicts whose mean logits have the gradients `weights` and twice that."""
        logits = (data * weights).sum((1, 2, 3, 4))
        return Verdict(logits[:, None, None, None], 2 * logits[:, None, None, None].expand(-1, 2, 3, 3), [])

    torch.testing.assert_close(exact_penalty(linear, frames), 9 * weights.square().sum())


def test_the_exact_penalty_pulls_on_the_discriminator():
    torch.manual_seed(0)
    discriminator, times = Smooth(), torch.zeros(8, 2)
    optimizer = torch.optim.Adam(discriminator.parameters(), 0.02)
    frames = torch.rand(8, 2, 3, 8, 8)
    before = double_backward(discriminator, frames, times).item()
    for _ in range(30):
        optimizer.zero_grad()
        exact_penalty(lambda moved: discriminator(moved, times), frames).backward()
        optimizer.step()
    assert double_backward(discriminator, frames, times).item() < 0.3 * before


def test_the_penalty_pulls_on_the_discriminator():
    torch.manual_seed(0)
    discriminator = Smooth()
    optimizer = torch.optim.Adam(discriminator.parameters(), 0.02)
    frames, times = torch.rand(8, 2, 3, 8, 8), torch.zeros(8, 2)
    before = double_backward(discriminator, frames, times).item()
    for step in range(30):
        optimizer.zero_grad()
        gradient_penalty(discriminator, frames, times, torch.Generator().manual_seed(step)).backward()
        optimizer.step()
    assert double_backward(discriminator, frames, times).item() < 0.3 * before
    assert SIGMA < 0.05


def windows(batch=3, frames=4, height=18, width=22):
    return torch.rand(batch, frames, 3, height, width, generator=torch.Generator().manual_seed(2)) * 2 - 1


def test_augmentation_of_strength_zero_is_the_identity():
    out = augment(windows(), 0.0, torch.Generator().manual_seed(0))
    torch.testing.assert_close(out, windows(), rtol=0, atol=1e-6)


@given(seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=30)
def test_all_frames_of_a_window_are_augmented_alike(seed):
    still = windows(batch=4)[:, :1].expand(-1, 5, -1, -1, -1)
    out = augment(still, 1.0, torch.Generator().manual_seed(seed))
    torch.testing.assert_close(out, out[:, :1].expand_as(out), rtol=0, atol=1e-5)
    assert torch.isfinite(out).all()
    assert out.shape == still.shape


def test_equal_seeds_augment_real_and_generated_alike():
    real = windows()
    made = real.clone()
    once, again = (augment(x, 1.0, torch.Generator().manual_seed(7)) for x in (real, made))
    assert torch.equal(once, again)
    other = augment(real, 1.0, torch.Generator().manual_seed(8))
    assert not torch.allclose(once, other, atol=0.01)


def test_windows_are_changed_as_often_as_asked():
    many = torch.rand(400, 1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    out = augment(many, 0.3, torch.Generator().manual_seed(1))
    changed = ((out - many).abs().amax((1, 2, 3, 4)) > 1e-5).float().mean()
    assert 0.2 < changed < 0.4


def test_augmentation_is_differentiable():
    frames = windows().requires_grad_()
    draw = augment(frames, 1.0, torch.Generator().manual_seed(3))
    gradient = torch.autograd.grad(draw.square().sum(), frames)[0]
    assert torch.isfinite(gradient).all()
    reached = (gradient.abs().amax(2) > 0).float().mean((1, 2, 3))
    assert (reached > 0.4).all(), "cut-out and shift take some of a window, not most of it"


def test_its_gradient_is_right():
    frames = windows(1, 2, 6, 6).double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: augment(x, 1.0, torch.Generator().manual_seed(11)), frames, atol=1e-4
    )

"""Energy distance: nil between alike distributions, positive for every way of missing one, finite where equal."""

import pytest
import torch

from reroll.objectives.energy import energy_distance, energy_loss

SHAPE = (3, 4, 4, 6)  # T Z h w


def windows(count, seed, *, scale=1.0, shift=0.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(count, *SHAPE, generator=generator) + shift


def conditions(count, step=0.1):
    return step * torch.arange(SHAPE[0]).expand(count, -1).float(), torch.full((count,), -1)


def loss(made, real, times=None, labels=None):
    usual = conditions(len(made))
    return energy_loss(
        made, real, usual[0] if times is None else times, usual[1] if labels is None else labels
    )


def test_alike_distributions_are_at_nought_and_others_are_not():
    real = windows(64, 0)
    alike = loss(windows(64, 1), real).item()
    assert abs(alike) < 0.01
    for other in (windows(64, 1, shift=0.5), windows(64, 1, scale=0.3), windows(64, 1, scale=2.0)):
        assert loss(other, real) > max(0.02, 3 * alike)


def test_one_good_window_every_time_costs_as_the_mean_does():
    """What holds samples apart: of real windows, one repeated 64 times and their mean are both far off."""
    real = windows(64, 0)
    alike = loss(windows(64, 1), real).item()
    collapsed = loss(real[:1].expand(64, -1, -1, -1, -1), real)
    mean = loss(real.mean(0, keepdim=True).expand(64, -1, -1, -1, -1), real)
    assert min(collapsed, mean) > alike + 0.3


def test_frozen_windows_are_seen():
    """Each frame distributed as in the footage, but the first frame stands still."""
    real = windows(64, 0)
    frozen = windows(64, 1)[:, :1].expand(-1, SHAPE[0], -1, -1, -1)
    assert loss(frozen, real) > loss(windows(64, 1), real) + 0.08


def test_the_scale_of_the_latents_does_not_matter():
    made, real = windows(8, 1, shift=0.5), windows(8, 0)
    torch.testing.assert_close(loss(10 * made, 10 * real), loss(made, real), rtol=0.01, atol=1e-3)


def test_windows_swapped_between_labels_are_seen():
    count = 64
    labels = torch.arange(count) % 2
    real = windows(count, 0) + 3 * labels[:, None, None, None, None]
    right = windows(count, 1) + 3 * labels[:, None, None, None, None]
    wrong = windows(count, 1) + 3 * (1 - labels)[:, None, None, None, None]
    assert loss(wrong, real, labels=labels) > loss(right, real, labels=labels) + 0.5
    slow, fast = conditions(count)[0], conditions(count, 1.0)[0]
    times = torch.where((labels == 1)[:, None], fast, slow)
    assert loss(wrong, real, times=times) > loss(right, real, times=times) + 0.05


def test_gradients_are_finite_where_windows_coincide_and_the_real_ones_get_none():
    real = windows(4, 0).requires_grad_()
    made = real.detach()[:1].repeat(4, 1, 1, 1, 1).requires_grad_()
    loss(made, real).backward()
    assert torch.isfinite(made.grad).all()
    assert made.grad.abs().sum() > 0
    assert real.grad is None


def test_descent_brings_the_distributions_together():
    real, made = windows(32, 0, scale=0.5, shift=1.0), windows(32, 1).requires_grad_()
    before = loss(made, real).item()
    optimizer = torch.optim.Adam([made], lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        loss(made, real).backward()
        optimizer.step()
    assert loss(made, real).item() < 0.2 * before
    assert made.std().item() == pytest.approx(real.std().item(), rel=0.3)


def test_single_frames_have_no_change_and_single_windows_no_distance():
    real, made = windows(8, 0)[:, :1], windows(8, 1, shift=1.0)[:, :1]
    times, labels = conditions(8)
    assert energy_loss(made, real, times[:, :1], labels) > 0
    with pytest.raises(ValueError, match="two windows"):
        energy_loss(made[:1], real[:1], times[:1, :1], labels[:1])


def test_against_two_points_by_hand():
    """Points 0 and 2 against 1 and 1, one place, one dimension: 2·1 - 2 - 0."""
    x, y = torch.tensor([[[0.0], [2.0]]]), torch.tensor([[[1.0], [1.0]]])
    none, others = torch.zeros(2, 2), 1 - torch.eye(2)
    assert energy_distance(x, y, none, others).item() == pytest.approx(0.0, abs=5e-3)
    assert energy_distance(y - 1, y, none, others).item() == pytest.approx(2.0, abs=5e-3)


def test_pairs_count_as_they_are_weighted():
    """Of the points 0, 1 and 5 against 0, only the pair of the first two counts: 2·0.5 - 1 - 0."""
    x, y = torch.tensor([[[0.0], [1.0], [5.0]]]), torch.zeros(1, 3, 1)
    weights = torch.tensor([[0.0, 1, 0], [1, 0, 0], [0, 0, 0]])
    assert energy_distance(x, y, torch.zeros(3, 3), weights).item() == pytest.approx(0.0, abs=5e-3)
    assert energy_distance(x, y, torch.zeros(3, 3), 1 - torch.eye(3)).item() == pytest.approx(
        4 - 10 / 3, abs=5e-3
    )

"""Muon: directions without scale, problems it must solve, a state that survives a checkpoint."""

import pytest
import torch
from torch import nn

from reroll.training.optimizer import CALM, Muon, orthogonalise
from reroll.training.training_state import load_optimizer_state, optimizer_state


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(16, 16), (8, 72), (72, 8), (64, 100)])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_orthogonalise_brings_singular_values_near_one(shape, scale):
    """The few steps leave them between 0.15 and 1.5 unless they were nearly zero."""
    matrix = drawn(*shape) + 0.5 * torch.eye(*shape)
    values = torch.linalg.svdvals(orthogonalise(scale * matrix[None]))
    assert values.max() < 1.5
    assert 0.8 < values.square().mean().sqrt() < 1.2
    assert values.min() > 0.14


def test_orthogonalise_keeps_the_singular_vectors():
    matrix = drawn(12, 20)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    inside = u.T @ orthogonalise(matrix[None])[0] @ v.T
    off = inside - torch.diag(inside.diag())
    assert off.abs().max() < 1e-2


def test_orthogonalise_of_nothing_is_nothing():
    assert torch.equal(orthogonalise(torch.zeros(1, 8, 9)), torch.zeros(1, 8, 9))


def test_orthogonalise_takes_each_matrix_by_itself():
    matrices = torch.stack([drawn(12, 20), 1e3 * drawn(12, 20, seed=1)])
    together = orthogonalise(matrices)
    for matrix, found in zip(matrices, together, strict=True):
        torch.testing.assert_close(found, orthogonalise(matrix[None])[0], rtol=1e-4, atol=1e-5)


class Quadratic(nn.Module):
    """Matrices, filters and vectors that have to reach given values."""

    def __init__(self):
        super().__init__()
        self.matrix, self.filter = nn.Parameter(torch.zeros(16, 12)), nn.Parameter(torch.zeros(8, 4, 3, 3))
        self.vector, self.thin = nn.Parameter(torch.zeros(10)), nn.Parameter(torch.zeros(2, 30))
        self.goals = [drawn(*p.shape, seed=9) * 0.2 for p in self.parameters()]

    def loss(self):
        pairs = zip(self.parameters(), self.goals, strict=True)
        return torch.stack([(p - goal).square().mean() for p, goal in pairs])


def steps(module, optimizer, count):
    for _ in range(count):
        optimizer.zero_grad()
        module.loss().sum().backward()
        optimizer.step()


@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16])
def test_muon_solves_a_quadratic(compute):
    module = Quadratic()
    optimizer = Muon(module.parameters(), 0.05, compute=compute)
    before = module.loss()
    for rate in (0.05, 0.02, 0.005, 0.001):
        optimizer.param_groups[0]["lr"] = rate
        steps(module, optimizer, 60)
    assert (module.loss() < 0.05 * before).all()


def test_matrices_and_filters_move_by_the_rate():
    module = Quadratic()
    steps(module, Muon(module.parameters(), 0.01), 1)
    for p in (module.matrix, module.filter):
        assert p.detach().square().mean().sqrt() == pytest.approx(0.2 * 0.01, rel=0.3)
    for p in (module.vector, module.thin):
        assert p.detach().square().mean().sqrt() == pytest.approx(0.01, rel=0.05), "Adam's first step"


@pytest.mark.parametrize("matrices", [True, False])
def test_calm_parameters_move_by_a_share_of_the_rate(matrices):
    calm, other = Quadratic(), Quadratic()
    named = [calm.matrix, calm.vector]
    steps(calm, Muon(calm.parameters(), 0.01, matrices=matrices, calm=named), 1)
    steps(other, Muon(other.parameters(), 0.01, matrices=matrices), 1)
    for (name, p), q in zip(calm.named_parameters(), other.parameters(), strict=True):
        share = CALM if name in ("matrix", "vector") else 1.0
        torch.testing.assert_close(p, share * q)


def test_a_parameter_without_gradient_is_left_alone():
    module = Quadratic()
    optimizer = Muon(module.parameters(), 0.05)
    (module.matrix.sum()).backward()
    optimizer.step()
    assert module.vector.abs().sum() == 0
    assert module.matrix.abs().sum() > 0


def test_the_state_goes_through_a_checkpoint():
    one, two = Quadratic(), Quadratic()
    first, second = Muon(one.parameters(), 0.02), Muon(two.parameters(), 0.02)
    steps(one, first, 7)
    two.load_state_dict(one.state_dict())
    tensors, rest = optimizer_state(first)
    load_optimizer_state(second, {name: t.clone() for name, t in tensors.items()}, rest)
    steps(one, first, 5)
    steps(two, second, 5)
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)


def test_channels_last_filters_give_the_same_values():
    one, two = Quadratic(), Quadratic()
    two.filter.data = two.filter.data.contiguous(memory_format=torch.channels_last)
    for module in (one, two):
        steps(module, Muon(module.parameters(), 0.02), 6)
    torch.testing.assert_close(one.filter, two.filter.contiguous(), rtol=1e-4, atol=1e-5)


def gradient_after_double_backward(weight):
    """As a gradient penalty gives it: in strides of its own."""
    x = drawn(4, 8, 8, 8, seed=1).requires_grad_(True)
    y = nn.functional.softplus(nn.functional.conv2d(x, weight, padding=1)).sum()
    (slope,) = torch.autograd.grad(y, x, create_graph=True)
    return torch.autograd.grad(slope.square().sum(), weight)[0]


@pytest.mark.parametrize("matrices", [True, False])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_right_elements_are_updated_whatever_the_strides(matrices, layout):
    """torch 2.13's fused Adam walks parameter and gradient by address, and goes wrong where strides differ."""
    start, after = drawn(16, 8, 3, 3), []
    gradient = gradient_after_double_backward(
        nn.Parameter(start.contiguous(memory_format=torch.contiguous_format))
    )
    for given in (gradient, gradient.contiguous(memory_format=torch.contiguous_format)):
        weight = nn.Parameter(start.clone().contiguous(memory_format=layout))
        weight.grad = given
        optimizer = Muon([weight], 0.1, matrices=matrices)
        optimizer.step()
        optimizer.step()
        after.append(weight.detach())
    assert not torch.equal(after[0], start)
    assert torch.allclose(*after, atol=1e-5)


def test_the_trap_is_still_there():
    """If this fails, torch returns gradients in the parameter's strides again and the note can go."""
    weight = nn.Parameter(drawn(16, 8, 3, 3))
    assert gradient_after_double_backward(weight).stride() != weight.stride()


def test_adam_takes_the_matrices_it_is_given():
    """Adam's first step moves every element by the rate, Muon's none of them by quite the same."""
    plain, matrix = torch.nn.Parameter(torch.zeros(16, 16)), torch.nn.Parameter(torch.zeros(16, 16))
    optimizer = Muon([plain, matrix], 0.01, adam=[plain])
    for weight in (plain, matrix):
        weight.grad = torch.randn(16, 16, generator=torch.Generator().manual_seed(0))
    optimizer.step()
    torch.testing.assert_close(plain.data.abs(), torch.full((16, 16), 0.01))
    assert matrix.data.abs().std() > 1e-4

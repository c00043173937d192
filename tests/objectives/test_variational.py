"""The ELBO's terms: identities of the KL divergence, what the reconstruction loss does and does not see."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reroll.objectives.variational import (
    kl_divergence,
    moving_weight,
    reconstruction_loss,
    reparameterise,
    signal_to_noise,
)

numbers = st.floats(-8, 8)


@given(mean=numbers, log_variance=numbers)
def test_kl_is_never_negative(mean, log_variance):
    assert kl_divergence(torch.tensor(mean), torch.tensor(log_variance)) >= -1e-6


def test_kl_is_zero_at_the_standard_normal_and_only_there():
    zero = torch.zeros(3)
    assert torch.equal(kl_divergence(zero, zero), zero)
    for mean, log_variance in ((0.1, 0.0), (0.0, 0.3), (0.0, -0.3)):
        assert kl_divergence(torch.tensor(mean), torch.tensor(log_variance)) > 1e-3


@given(mean=st.floats(-3, 3), log_variance=st.floats(-3, 2))
def test_kl_agrees_with_torch(mean, log_variance):
    ours = kl_divergence(torch.tensor(mean), torch.tensor(log_variance))
    posterior = torch.distributions.Normal(mean, math.exp(log_variance / 2))
    theirs = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@given(mean=numbers, log_variance=st.floats(-6, 3))
def test_reparameterise_shifts_and_scales(mean, log_variance):
    noise = torch.randn(5, generator=torch.Generator().manual_seed(0))
    sample = reparameterise(torch.full((5,), mean), torch.full((5,), log_variance), noise)
    torch.testing.assert_close((sample - mean) / math.exp(log_variance / 2), noise, rtol=1e-3, atol=1e-3)


def clip(frames=4):
    return torch.rand(2, frames, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("frames", [1, 4])
def test_a_perfect_reconstruction_costs_nothing(frames):
    assert reconstruction_loss(clip(frames), clip(frames)) == 0
    assert signal_to_noise(clip(frames), clip(frames)) == pytest.approx(100)


def test_flicker_costs_more_than_a_constant_offset():
    footage, sign = clip(), torch.tensor([1.0, -1.0, 1.0, -1.0])[None, :, None, None, None]
    constant = reconstruction_loss(footage + 0.1, footage)
    flicker = reconstruction_loss(footage + 0.1 * sign, footage)
    assert constant == pytest.approx(0.1, rel=1e-4)
    assert flicker == pytest.approx(0.2, rel=1e-4)


def test_an_error_costs_more_where_the_footage_moves():
    footage = torch.zeros(1, 3, 3, 32, 32)
    footage[:, 1, :, 4:12, 4:12] = 1.0
    moving, still = footage.clone(), footage.clone()
    moving[..., 4:12, 4:12] += 0.1
    still[..., 20:28, 20:28] += 0.1
    assert reconstruction_loss(moving, footage) > 3 * reconstruction_loss(still, footage)


@pytest.mark.parametrize("frames", [1, 3])
def test_nothing_weighs_more_where_nothing_moves(frames):
    still = clip(1).expand(-1, frames, -1, -1, -1)
    torch.testing.assert_close(moving_weight(still), torch.ones(2, 1, 1, 8, 8))


def test_places_weigh_one_on_average():
    footage = torch.rand(2, 3, 3, 40, 48, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(moving_weight(footage).mean((2, 3, 4)), torch.ones(2, 1), rtol=0.02, atol=0.02)


@given(error=st.floats(0.01, 0.5))
def test_psnr_is_that_of_pixels_from_0_to_1(error):
    footage = torch.zeros(1, 1, 3, 4, 4)
    measured = signal_to_noise(footage + 2 * error, footage)
    assert measured == pytest.approx(-20 * math.log10(min(error, 0.5)), rel=1e-3)

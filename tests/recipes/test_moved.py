"""The autoencoder's windows, moved: alike over a window, within range, and fewer towards the end."""

from types import SimpleNamespace

import pytest
import torch

from reroll.recipes import vae


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_none_moved_are_the_frames_themselves():
    frames = torch.rand(2, 3, 3, 16, 24)
    assert torch.equal(vae.moved(frames, 0.0, generator()), frames)


def test_all_moved_alike_over_a_window_and_in_range():
    frames = torch.rand(6, 1, 3, 16, 24).expand(-1, 3, -1, -1, -1) * 2 - 1
    out = vae.moved(frames, 1.0, generator())
    assert out.shape == frames.shape
    assert out.abs().max() <= 1 + 1e-5
    assert all(not torch.allclose(a, b, atol=0.1) for a, b in zip(out, frames, strict=True))
    torch.testing.assert_close(out, out[:, :1].expand_as(out))


def test_a_share_is_moved():
    frames = torch.rand(200, 1, 3, 8, 8)
    out = vae.moved(frames, 0.5, generator())
    moved = (out - frames).abs().flatten(1).amax(1) > 1e-3
    assert 70 < moved.sum() < 130


def test_what_is_learnt_last_is_the_footage_as_it_is():
    shares = [vae.fewer_moved(SimpleNamespace(progress=p)) for p in (0.0, 0.35, 0.7, 1.0)]
    assert shares == pytest.approx([vae.MOVED, vae.MOVED / 2, 0.0, 0.0])

"""What is between keyframes begins near the line from one to the other."""

import pytest
import torch
from torch import Tensor

from reroll.config import ModelConfig
from reroll.parts.model import VideoModel
from reroll.sampling.bridging import Keyframe
from reroll.sampling.sampler import Sampler
from reroll.sampling.settings import SampleSettings
from reroll.training.engine import Engine

SIZES = {
    "height": 32, "width": 48, "latent_channels": 4, "decoder_widths": (8, 8, 8),
    "discriminator_widths": (8, 8, 8), "prior_width": 32, "prior_depth": 1, "prior_heads": 2,
}  # fmt: skip


def made_by_a_new_prior(spread: float, spacing: int) -> tuple[Tensor, Tensor]:
    """In-betweens of three keyframes by a prior that predicts no velocity yet, and the line."""
    model = VideoModel(ModelConfig(**SIZES)).eval()
    model.source_spread[0] = spread  # alike wherever it is
    sampler = Sampler(model, Engine.start("cpu", "fp32", 1, 0), key_gap_seconds=spacing / 25)
    keys = torch.randn(1, 3, *model.latent_shape, generator=torch.Generator().manual_seed(1))
    frames = [Keyframe(keys[:, i, None], False) for i in range(3)]
    with torch.no_grad():
        made, _ = sampler.between(
            sampler.no_frames(),
            frames,
            spacing,
            SampleSettings(frames=1, fps=25),
            torch.Generator().manual_seed(2),
        )
    parts = [
        keys[:, i, None].lerp(keys[:, i + 1, None], (j + 1) / spacing) for i in (0, 1) for j in range(spacing)
    ]
    return made, torch.cat(parts, 1)


@pytest.mark.parametrize("spacing", [2, 3, 6])
def test_a_prior_that_knows_nothing_gives_the_line_and_its_noise(spacing):
    for noise in (0.02, 0.2):
        made, line = made_by_a_new_prior(noise, spacing)
        between = [i for i in range(2 * spacing) if (i + 1) % spacing]
        assert torch.equal(made[:, spacing - 1 :: spacing], line[:, spacing - 1 :: spacing]), "keyframes stay"
        away = (made - (1 - noise**2) ** 0.5 * line)[:, between]
        assert away.std() == pytest.approx(noise, rel=0.2)


def test_models_of_older_versions_begin_with_noise():
    made, line = made_by_a_new_prior(1.0, 3)
    away = (made - line)[:, [0, 1, 3, 4]]
    assert away.std() > 1
    assert VideoModel(ModelConfig(**SIZES)).source_spread.tolist() == [1, 0, 1]

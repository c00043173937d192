"""Canvases: every place is covered, windows are put together without a seam, edges meet."""

import pytest
import torch

from reroll.config import ModelConfig
from reroll.errors import UsageError
from reroll.sampling.canvas import Canvas, Mosaic, hat, places

CONFIG = ModelConfig(
    height=64, width=86, latent_channels=4, decoder_widths=(8, 8, 8), discriminator_widths=(8, 8, 8),
    prior_width=32, prior_depth=1, prior_heads=2,
)  # fmt: skip


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize(("length", "trained"), [(8, 8), (10, 8), (16, 8), (34, 8), (6, 8), (8, 12)])
def test_windows_cover_every_place_in_whole_tokens(length, trained, closed):
    for seed in range(20):
        found = places(length, trained, closed, torch.Generator().manual_seed(seed))
        assert torch.cat(found).unique().tolist() == list(range(length))
        for window in found:
            assert len(window) == min(length, trained)
            assert window[0] % 2 == 0
            steps = window.diff() % length
            assert (steps == 1).all()


def test_windows_lie_elsewhere_at_each_step():
    starts = {int(places(16, 8, True, torch.Generator().manual_seed(seed))[0][0]) for seed in range(40)}
    assert len(starts) == 8
    assert (hat(8, 3) > 0).all()


@pytest.mark.parametrize("tile", [None, "x", "y", "xy"])
@pytest.mark.parametrize("size", ["96x64", "160x128", "32x32", "256x48"])
def test_a_prior_that_looks_at_single_places_is_itself_on_a_canvas(size, tile):
    canvas = Canvas.of(CONFIG, size, tile)
    latents = torch.randn(2, 3, 4, *canvas.grid)
    levels = torch.rand(2, 3, canvas.grid[0] // 2, canvas.grid[1] // 2)

    def prior(latents, levels, times, labels, content):
        return (
            2 * latents
            + levels.repeat_interleave(2, 2).repeat_interleave(2, 3)[:, :, None]
            + content[:, None]
        )

    content = torch.randn(2, 4, *canvas.grid)
    given = latents, levels, torch.zeros(2, 3), torch.zeros(2), content
    torch.testing.assert_close(Mosaic(prior, canvas, (8, 12))(*given), prior(*given))


def test_what_is_asked_at_one_step_lies_at_the_same_places():
    canvas, seen = Canvas.of(CONFIG, "160x128", "xy"), []

    def prior(latents, levels, times, labels, content):
        seen.append(latents[0, 0, 0, 0, 0].item())
        return latents

    latents = torch.arange(16.0 * 20).view(1, 1, 1, 16, 20)
    mosaic = Mosaic(prior, canvas, (8, 12))
    for level in (0.9, 0.9, 0.4):
        mosaic(latents, torch.full((1, 1, 8, 10), level), torch.zeros(1, 1), torch.zeros(1))
    thirds = [seen[i::3] for i in range(3)]
    per_call = len(seen) // 3
    assert seen[:per_call] == seen[per_call : 2 * per_call] != seen[2 * per_call :], thirds


@pytest.mark.parametrize("tile", ["x", "y", "xy"])
def test_what_is_decoded_of_a_closed_canvas_is_the_same_wherever_it_is_cut(tile):
    """With what lies over the edge, a filter of five places sees no edge."""
    canvas = Canvas.of(CONFIG, "64x64", tile)
    latents = torch.randn(1, 1, 4, 8, 8)
    kernel = torch.randn(3, 4, 5, 5)

    def decode(latents):
        drawn = torch.nn.functional.conv2d(canvas.over_edge(latents)[0], kernel, padding=2)
        return canvas.cropped(drawn.repeat_interleave(8, 2).repeat_interleave(8, 3)[None])

    for axis in [{"x": 4, "y": 3}[letter] for letter in tile]:
        torch.testing.assert_close(decode(latents.roll(3, axis)), decode(latents).roll(24, axis))


def test_the_middle_and_what_is_mirrored_around_it():
    canvas = Canvas.of(CONFIG, "128x64", None)
    content = torch.arange(12.0).expand(1, 1, 8, 12)
    row = canvas.extended(content)[0, 0, 0].tolist()
    assert row == [1, 0, *range(12), 11, 10]
    latents = canvas.extended(content)[:, None]
    assert torch.equal(canvas.middle(latents, (8, 12))[:, 0], content)


@pytest.mark.parametrize(
    ("size", "tile"),
    [("128", None), ("128x", None), ("axb", None), ("127x72", None), ("8x8", None), ("128x9000", None),
     ("128x72", "y"), ("100x64", "x"), (None, "z")],
)  # fmt: skip
def test_sizes_that_make_no_sense_are_one_line(size, tile):
    with pytest.raises(UsageError, match=r"--size|--tile") as caught:
        Canvas.of(CONFIG, size, tile)
    assert "\n" not in str(caught.value)


def test_without_either_there_is_no_canvas():
    assert Canvas.of(CONFIG, None, None) is None
    assert Canvas.of(CONFIG, None, "x") == Canvas(64, 96, False, True)

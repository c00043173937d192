"""The parts: any even size, one frame, chunks, gradients, and positions that are relative."""

import pytest
import torch
from torch import nn

from reroll.config import ModelConfig
from reroll.objectives.adversarial import relativistic_loss
from reroll.parts.decoder import HALO, Decoder
from reroll.parts.discriminator import Discriminator
from reroll.parts.encoder import Encoder
from reroll.parts.latent_discriminator import LatentDiscriminator
from reroll.parts.model import GRID, VideoModel
from reroll.parts.motion_prior import PATCH, MotionPrior, surroundings

WIDTHS = (8, 12, 16)


def config(height=32, width=48, **changes):
    sizes = {
        "height": height, "width": width, "latent_channels": 6, "decoder_widths": WIDTHS,
        "discriminator_widths": WIDTHS, "prior_width": 32, "prior_depth": 2, "prior_heads": 2,
    }  # fmt: skip
    return ModelConfig(**(sizes | changes))


def awake(module, seed=0, size=0.05):
    """The module with noise on every parameter, so that nothing hides behind a zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator))
    return module.eval()


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (32, 48), (34, 58), (50, 18), (64, 114), (30, 16)])
@pytest.mark.parametrize("frames", [1, 3])
def test_any_size_goes_in_and_comes_out(height, width, frames):
    model = VideoModel(config(height, width))
    clip = torch.rand(2, frames, 3, height, width) * 2 - 1
    latents = model.encode(clip)
    channels, rows, columns = model.latent_shape
    assert latents.shape == (2, frames, channels, rows, columns)
    assert rows % PATCH == columns % PATCH == 0
    assert rows * 8 - height in range(GRID)
    assert columns * 8 - width in range(GRID)
    assert model.decode(latents).shape == clip.shape
    levels = torch.rand(2, frames, rows // PATCH, columns // PATCH)
    times = torch.arange(frames).float().expand(2, -1) / 25
    assert model.motion_prior(latents, levels, times, torch.tensor([-1, -1])).shape == latents.shape


def test_padding_repeats_the_edge_and_is_cropped():
    model = VideoModel(config(30, 34))
    clip = torch.rand(1, 1, 3, 30, 34)
    padded = model.pad(clip)
    assert padded.shape == (1, 3, 32, 48)
    assert torch.equal(padded[..., :30, :34], clip[0])
    assert torch.equal(padded[..., :30, 47], clip[0, ..., 33])
    assert torch.equal(padded[..., 31, :34], clip[0, ..., 29, :])


def test_the_encoder_sees_one_frame_at_a_time():
    model = awake(VideoModel(config())).double()
    clip = torch.rand(1, 5, 3, 32, 48).double()
    alone = torch.cat([model.encode(clip[:, i : i + 1]) for i in range(5)], 1)
    torch.testing.assert_close(model.encode(clip), alone, rtol=1e-5, atol=1e-5)


def test_whitening_is_undone_by_decoding():
    model = awake(VideoModel(config()))
    raw = torch.randn(1, 3, 6, 4, 6) * 0.1
    model.latent_mean.copy_(torch.randn(6))
    model.latent_scale.copy_(torch.rand(6) + 0.5)
    torch.testing.assert_close(model.decode(model.whiten(raw)), model.decode_raw(raw), rtol=1e-4, atol=1e-4)


def contents():
    """Windows' mean latents that differ in two directions, one of them weak, and labels."""
    generator = torch.Generator().manual_seed(1)
    directions = torch.randn(2, 6, 4, 6, generator=generator)
    amounts = torch.randn(256, 2, generator=generator) * torch.tensor([2.0, 0.5])
    return 0.7 + torch.einsum("nk,kzhw->nzhw", amounts, directions), torch.arange(256) % 3, torch.zeros(256)


def test_content_is_rebuilt_from_its_code():
    content = VideoModel(config()).content
    windows, labels, shots = contents()
    content.measure(windows, labels, shots)
    codes = content.encode(windows[:, None].expand(-1, 5, -1, -1, -1))
    torch.testing.assert_close(content(codes), windows, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(codes, content.codes)
    spread = codes.std(0)
    assert spread[0] == pytest.approx(1, rel=0.02)
    assert spread[1] < 0.5
    assert spread[2:].max() < 1e-3


def test_content_is_drawn_near_a_training_window_of_the_label():
    content = VideoModel(config()).content
    content.measure(*contents())
    draws = torch.cat(
        [content.draw(seed, [(2, 1.0)], 1.0, torch.Generator().manual_seed(seed)) for seed in range(40)]
    )
    of_label = content.codes[content.labels == 2]
    assert len(torch.cdist(draws, of_label).argmin(1).unique()) > 15, "seeds give different windows"
    exact = content.draw(3, [(2, 1.0)], 0.0, torch.Generator().manual_seed(3))
    assert (exact - of_label).norm(dim=1).min() < 1e-5  # cdist is less exact on some machines
    assert (exact - content.codes[content.labels != 2]).norm(dim=1).min() > 1e-5
    assert torch.equal(exact, content.draw(3, [(2, 1.0)], 0.0, torch.Generator().manual_seed(3)))


def test_content_of_a_mixture_is_of_its_labels_by_their_shares():
    content = VideoModel(config()).content
    content.measure(*contents())
    mixture = [(0, 0.25), (2, 0.75)]
    draws = torch.cat(
        [content.draw(seed, mixture, 0.0, torch.Generator().manual_seed(seed)) for seed in range(80)]
    )
    labels = content.labels[torch.cdist(draws, content.codes).argmin(1)]
    assert set(labels.tolist()) == {0, 2}
    assert 0.6 < (labels == 2).float().mean() < 0.9


@pytest.mark.parametrize("first", [0, 7, 2**62])
def test_seeds_in_a_row_go_round_the_footage(first):
    content = VideoModel(config()).content
    content.measure(*contents())
    drawn = [content.draw(first + k, [], 0.0, torch.Generator().manual_seed(k)) for k in range(16)]
    windows = torch.cdist(torch.cat(drawn), content.codes).argmin(1).sort().values
    gaps = torch.cat([windows, windows[:1] + len(content.codes)]).diff()
    assert gaps.max() < 2.5 * gaps.float().mean(), "no part of the footage is left out"
    assert gaps.min() > 0.3 * gaps.float().mean(), "none is shown twice"


@pytest.mark.parametrize("labels", [[], [(2, 1.0)]])
def test_a_clip_goes_over_to_windows_near_its_first_and_of_its_label(labels):
    content = VideoModel(config()).content
    content.measure(*contents())
    code = content.draw(3, [(2, 1.0)], 0.0, torch.Generator().manual_seed(3))
    near = torch.cat(
        [content.draw_near(code, labels, 0.0, torch.Generator().manual_seed(seed), 24) for seed in range(60)]
    )
    fitting = content.codes if not labels else content.codes[content.labels == 2]
    far = torch.cdist(code, fitting)[0].sort().values
    assert torch.cdist(code, near).max() <= far[23] + 1e-3
    assert len(torch.cdist(near, fitting).argmin(1).unique()) > 8
    assert torch.cdist(near, fitting).min(1).values.max() < 1e-3


def test_a_clip_stays_with_what_its_shot_shows():
    """Four windows of one shot, far from the rest: none of the others is gone over to, however many are asked for."""
    content = VideoModel(config()).content
    windows, labels, shots = contents()
    windows[100:104] += 30
    shots[100:104] = 1
    content.measure(windows, torch.full_like(labels, -1), shots)
    drawn = [
        content.draw_near(content.codes[101:102], [], 0.0, torch.Generator().manual_seed(seed), 256)
        for seed in range(40)
    ]
    chosen = torch.cdist(torch.cat(drawn), content.codes).argmin(1).unique()
    assert chosen.tolist() == [100, 101, 102, 103]


def test_windows_that_are_all_the_same_have_a_content_too():
    content = VideoModel(config()).content
    content.measure(torch.full((256, 6, 4, 6), 0.4), torch.full((256,), -1), torch.zeros(256))
    drawn = content(content.draw(0, [], 1.0, torch.Generator().manual_seed(0)))
    torch.testing.assert_close(drawn, torch.full_like(drawn, 0.4), atol=0.01, rtol=0)


@pytest.mark.parametrize("chunk", [1, 4, 7])
def test_decoding_in_chunks_equals_decoding_whole(chunk):
    decoder = awake(Decoder(WIDTHS, 6)).double()
    latents = torch.randn(1, 17, 6, 4, 4).double()
    whole = decoder(latents)
    pieces = []
    for start in range(0, 17, chunk):
        stop = min(start + chunk, 17)
        before, after = max(0, start - HALO), min(17, stop + HALO)
        pieces.append(decoder(latents[:, before:after])[:, start - before : stop - before])
    torch.testing.assert_close(torch.cat(pieces, 1), whole, rtol=1e-5, atol=1e-5)


def test_the_halo_is_no_larger_than_it_has_to_be():
    decoder = awake(Decoder(WIDTHS, 6))
    latents = torch.randn(1, 2 * HALO + 3, 6, 4, 4)
    changed = latents.clone()
    changed[:, 0] += 1
    moved = (decoder(changed) - decoder(latents)).abs().amax((0, 2, 3, 4)) > 1e-6
    assert moved.tolist() == [True] * (HALO + 1) + [False] * (HALO + 2)


def test_a_new_decoder_does_not_mix_frames():
    """Temporal residuals start at zero: a fresh decoder is strictly per frame."""
    decoder = Decoder(WIDTHS, 6)
    latents = torch.randn(1, 4, 6, 4, 4)
    alone = torch.cat([decoder(latents[:, i : i + 1]) for i in range(4)], 1)
    torch.testing.assert_close(decoder(latents), alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_the_discriminator_judges_every_place(frames):
    verdict = Discriminator(WIDTHS)(torch.rand(2, frames, 3, 32, 64), torch.rand(2, frames))
    assert verdict.fine.shape == (2, frames, 4, 8)
    assert verdict.wide.shape[:2] == (2, frames)
    assert len(verdict.features) >= 2


@pytest.mark.parametrize(("height", "width"), [(34, 58), (36, 50), (46, 32), (16, 28), (30, 18)])
def test_the_discriminator_takes_frames_that_are_not_padded(height, width):
    verdict = Discriminator(WIDTHS)(torch.rand(1, 2, 3, height, width), torch.tensor([[0.0, 0.1]]))
    assert verdict.fine.shape[:2] == verdict.wide.shape[:2] == (1, 2)
    assert verdict.fine.numel() > verdict.wide.numel() > 0
    assert torch.isfinite(verdict.fine).all()
    assert torch.isfinite(verdict.wide).all()


def test_the_discriminator_knows_the_time_step_and_the_order():
    judge = awake(Discriminator(WIDTHS))
    clip, times = torch.rand(1, 4, 3, 32, 32), torch.arange(4.0)[None] / 25
    usual = judge(clip, times).fine
    assert not torch.allclose(usual, judge(clip, 4 * times).fine, atol=1e-4)
    assert not torch.allclose(usual, judge(clip.flip(1), times).fine.flip(1), atol=1e-4)
    torch.testing.assert_close(usual, judge(clip, times + 8).fine, rtol=1e-3, atol=1e-4)


def test_the_discriminator_says_what_it_sees_as_the_decoder_takes_it():
    """Of frames padded to the grid, latents of the encoder's shape, which depend on every frame's own place."""
    judge, frames = awake(Discriminator(WIDTHS, latent_channels=6)), torch.rand(2, 3, 3, 32, 64)
    seen = judge.latents(frames)
    assert seen.shape == (2, 3, 6, 4, 8)
    changed = frames.clone()
    changed[1, 2, :, :8, :8] = 0
    differs = (judge.latents(changed) != seen).flatten(2).any(-1)
    assert differs.tolist() == [[False, False, False], [False, False, True]]
    with pytest.raises(TypeError, match="no latents"):
        Discriminator(WIDTHS).latents(frames)


@pytest.mark.parametrize(("rows", "columns"), [(2, 2), (4, 6), (8, 14)])
def test_the_latent_discriminator_judges_every_place_and_the_whole(rows, columns):
    judge = awake(LatentDiscriminator(6, 16))
    times = torch.tensor([[0.0, 0.1, 0.2], [0.0, 0.3, 0.6]])
    verdict = judge(torch.randn(2, 3, 6, rows, columns), times)
    assert verdict.fine.shape == (2, rows, columns)
    assert verdict.wide.shape == (2, 1)


def test_the_latent_discriminator_knows_the_time_step_the_order_and_the_label():
    judge = awake(LatentDiscriminator(6, 16, labels=2))
    windows, times = torch.randn(1, 3, 6, 4, 4), torch.tensor([[0.0, 0.1, 0.2]])
    usual = judge(windows, times)
    for other in (
        judge(windows, 4 * times),
        judge(windows.flip(1), times),
        judge(windows, times, torch.tensor([1])),
    ):
        assert not torch.allclose(usual.fine, other.fine, atol=1e-4)
        assert not torch.allclose(usual.wide, other.wide, atol=1e-4)
    torch.testing.assert_close(usual, judge(windows, times, torch.tensor([-1])))
    torch.testing.assert_close(usual.fine, judge(windows, times + 8).fine, rtol=1e-3, atol=1e-4)


def encoder_loss():
    encoder, clip = Encoder(WIDTHS, 6), torch.rand(3, 3, 32, 32)
    return encoder, lambda: sum(x.square().mean() for x in encoder(clip))


def decoder_loss():
    decoder, latents = Decoder(WIDTHS, 6), torch.randn(2, 3, 6, 4, 4)
    return decoder, lambda: (decoder(latents) - 0.3).square().mean()


def prior_loss():
    prior, latents = MotionPrior(6, 32, 2, 2, labels=3), torch.randn(4, 3, 6, 4, 4)
    levels, times = torch.rand(4, 3, 2, 2), torch.arange(3.0).expand(4, -1) / 25
    wanted = torch.randn_like(latents)
    return (
        prior,
        lambda: (prior(latents, levels, times, torch.tensor([-1, 0, 1, 2])) - wanted).square().mean(),
    )


def discriminator_loss(latent_channels=0):
    judge, made = Discriminator(WIDTHS, latent_channels=latent_channels), torch.rand(2, 3, 3, 32, 32)
    real, times = torch.rand(2, 3, 3, 32, 32), torch.tensor([[0.0, 0.04, 0.08], [0.0, 0.12, 0.24]])

    def loss():
        seen = judge.latents(real).square().mean() if latent_channels else 0.0
        return relativistic_loss(judge(real, times), judge(made, times)) + seen

    return judge, loss


def redrawing_discriminator_loss():
    return discriminator_loss(latent_channels=6)


def latent_discriminator_loss():
    judge, (real, made) = LatentDiscriminator(6, 16, labels=2), torch.randn(2, 4, 3, 6, 4, 4)
    times, labels = torch.tensor([[0.0, 0.04, 0.08], [0.0, 0.12, 0.24]] * 2), torch.tensor([-1, 0, 1, 1])
    return judge, lambda: relativistic_loss(judge(real, times, labels), judge(made, times, labels))


@pytest.mark.parametrize(
    "part",
    [
        encoder_loss, decoder_loss, prior_loss, discriminator_loss, redrawing_discriminator_loss,
        latent_discriminator_loss,
    ],
)  # fmt: skip
def test_a_gradient_reaches_every_parameter(part):
    """A few steps open the gates that start at zero; then nothing may be left out."""
    module, loss = part()
    optimizer = torch.optim.Adam(module.parameters(), 1e-2)
    for _ in range(4):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    silent = [name for name, p in module.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


def test_a_model_without_encoder_says_so():
    model = VideoModel(config(encoder=False))
    assert model.encoder is None
    with pytest.raises(TypeError, match="no encoder"):
        model.encode(torch.rand(1, 1, 3, 32, 48))


@pytest.fixture(scope="module")
def prior():
    torch.manual_seed(1)
    return awake(MotionPrior(6, 32, 2, 2, labels=2), size=0.2)


def velocity(prior, times, levels=None, labels=(-1, 1), latents=None):
    if latents is None:
        latents = torch.randn(2, 5, 6, 4, 6, generator=torch.Generator().manual_seed(5))
    levels = torch.full((2, 5, 2, 3), 0.7) if levels is None else levels
    with torch.no_grad():
        return prior(latents, levels, times, torch.tensor(labels))


TIMES = torch.tensor([[0.0, 0.1, 0.2, 0.4, 0.5], [0.0, 0.04, 0.08, 0.12, 0.16]])


@pytest.mark.parametrize("shift", [-3.0, 0.77, 41.0])
def test_only_differences_of_time_matter(prior, shift):
    there = velocity(prior, TIMES + shift)
    torch.testing.assert_close(there, velocity(prior, TIMES), rtol=2e-3, atol=2e-3)


def test_times_levels_and_labels_all_matter(prior):
    usual = velocity(prior, TIMES)
    levels = torch.full((2, 5, 2, 3), 0.7)
    levels[:, 0] = 0
    for other in (
        velocity(prior, 2 * TIMES),
        velocity(prior, TIMES, levels=levels),
        velocity(prior, TIMES, labels=(0, 0)),
    ):
        assert (other - usual).abs().max() > 1e-2


def test_frames_are_told_apart_by_their_times_alone(prior):
    """Frames in another order with their times give the same velocities in that order."""
    order = torch.tensor([0, 3, 1, 2, 4])  # the ends stay: they say how long the window is
    latents = torch.randn(2, 5, 6, 4, 6)
    usual = velocity(prior, TIMES, latents=latents)
    turned = velocity(prior, TIMES[:, order], latents=latents[:, order])
    torch.testing.assert_close(turned, usual[:, order], rtol=1e-4, atol=1e-4)


def test_a_new_prior_predicts_nothing():
    fresh = MotionPrior(6, 32, 2, 2)
    assert velocity(fresh, TIMES, labels=(-1, -1)).abs().max() == 0


def test_parts_are_ordinary_modules():
    model = VideoModel(config())
    again = VideoModel(config())
    again.load_state_dict(model.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    assert isinstance(model, nn.Module)


def test_given_frames_are_blended_by_time_and_held_outside():
    tokens = torch.tensor([7.0, 2.0, 9.0, 9.0, 6.0, 9.0]).reshape(1, 6, 1, 1, 1).repeat(1, 1, 1, 2, 1)
    levels = torch.tensor([0.5, 0.0, 0.5, 0.5, 0.0, 0.5]).reshape(1, 6, 1, 1).repeat(1, 1, 1, 2)
    levels[..., 1] = 0.5  # at the second place nothing is given
    shown = surroundings(levels, torch.tensor([[0.0, 1.0, 2.0, 4.0, 5.0, 6.0]])).blend(tokens)
    torch.testing.assert_close(shown[0, :, 0, 0, 0], torch.tensor([2.0, 2.0, 3.0, 5.0, 6.0, 6.0]))
    assert (shown[..., 1, :] == 0).all()


def test_what_is_given_reaches_every_frame_at_once():
    """Without a single block: the given frame's picture is there without attention having to carry it."""
    prior = awake(MotionPrior(6, 32, 0, 2, content=True), size=0.2)
    latents, levels = torch.randn(1, 4, 6, 4, 4), torch.ones(1, 4, 2, 2)
    levels[:, 0] = 0
    times, labels = torch.arange(4.0)[None] / 25, torch.tensor([-1])
    other = latents.clone()
    other[:, 0] += 1
    before, after = (prior(x, levels, times, labels) for x in (latents, other))
    assert (before != after).flatten(2).any(2).all()


def test_only_what_is_between_given_frames_is_told_so():
    """Without a single block: what is made there is in units of its own, and noise alone does not show which."""
    prior = awake(MotionPrior(6, 32, 0, 2, content=True), size=0.2)
    latents, levels = torch.randn(1, 5, 6, 4, 4), torch.ones(1, 5, 2, 2)
    levels[:, 0] = levels[:, 3, 0] = 0  # the last frame goes on, and so does a lower row
    times, labels = torch.arange(5.0)[None] / 25, torch.tensor([-1])
    told = prior(latents, levels, times, labels)
    prior.between.zero_()
    changed = (prior(latents, levels, times, labels) != told).any(2)[0]
    expected = torch.zeros(5, 4, 4, dtype=torch.bool)
    expected[1:3, :PATCH] = True
    assert torch.equal(changed, expected)

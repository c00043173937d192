"""Latents of the training footage: measured where it is trained, kept within bounds, encoded once."""

import signal

import numpy as np
import pytest
import torch
import toy

import reroll
from reroll.config import ModelConfig
from reroll.errors import InterruptedRun
from reroll.footage import Span, Windows, find_footage, ingest
from reroll.parts.model import VideoModel
from reroll.training import checkpoint, latents
from reroll.training.engine import Engine
from reroll.training.latents import LatentCache, fits, take_in
from reroll.training.trainer import NonFiniteError, Trainer

HALF = toy.FRAMES // 2


pytestmark = pytest.mark.usefixtures("small")


@pytest.fixture(scope="module")
def store(footage, tmp_path_factory):
    return ingest(
        find_footage([footage])[0], short_side=toy.HEIGHT, cache_dir=tmp_path_factory.mktemp("store")
    )


@pytest.fixture(scope="module")
def engine():
    return Engine.start(device="cpu", precision="fp32", threads=1)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return VideoModel(ModelConfig(height=toy.HEIGHT, width=toy.WIDTH, **toy.TINY))


def windows(store, *, mirror=False):
    """The first half of the footage; the rest is held out."""
    return Windows(store, [Span(0, HALF)], seed=0, mirror=mirror)


def raw(engine, model, store, start, stop):
    with torch.no_grad():
        return model.posterior(engine.frames(store.frames(start, stop))[None])[0][0]


@pytest.mark.parametrize("keep", [True, False])
def test_statistics_are_of_training_frames_only(engine, model, store, keep, monkeypatch):
    if not keep:
        monkeypatch.setattr(latents, "CACHE_FRAMES", 10)
    assert (take_in(engine, model, windows(store)) is not None) == keep
    trained, everything = (raw(engine, model, store, 0, stop) for stop in (HALF, store.frame_count))
    assert torch.allclose(model.latent_mean, trained.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(model.latent_scale, trained.std((0, 2, 3)), atol=1e-5)
    assert not torch.allclose(model.latent_mean, everything.mean((0, 2, 3)), atol=1e-5)


@pytest.mark.parametrize("mirror", [False, True])
def test_a_drawn_window_is_found_again(engine, model, store, mirror):
    drawing = windows(store, mirror=mirror)
    cache = take_in(engine, model, drawing)
    arguments = {"batch": 6, "frames": 8, "strides": (1, 2)}
    drawn, read = drawing.draw(5, **arguments), drawing.batch(5, **arguments)
    with torch.no_grad():
        encoded = model.encode(engine.frames(read.frames))
    assert torch.allclose(cache.windows(drawn), encoded, atol=1e-4)
    assert drawn.mirrored.any() == mirror


def test_what_is_kept_is_bounded_in_bytes_with_mirrored_copies_counted(model, store, monkeypatch):
    needed = HALF * int(np.prod(model.latent_shape)) * 4
    for limit, plain, mirrored in (
        (needed - 1, False, False),
        (needed, True, False),
        (2 * needed, True, True),
    ):
        monkeypatch.setattr(latents, "CACHE_BYTES", limit)
        assert fits(windows(store), model) == plain
        assert fits(windows(store, mirror=True), model) == mirrored


def test_timing_takes_no_memory_and_draws_as_training_does(model, store):
    drawing = windows(store, mirror=True)
    blank = LatentCache.blank(model, drawing)
    assert sum(each.untyped_storage().nbytes() for each in blank.latents) <= 2 * 4 * int(
        np.prod(model.latent_shape)
    )
    drawn = drawing.draw(0, batch=3, frames=8, strides=(1,))
    assert blank.windows(drawn).shape == (3, 8, *model.latent_shape)


def test_frames_are_encoded_once_for_all_stages_on_latents(footage, tmp_path, monkeypatch):
    encoded, entered = [], []
    original, enter = latents.encode, Trainer.enter_stage

    def encode(engine, model, windows, frames, mirrored, stopped):
        encoded.append((len(frames), mirrored))
        return original(engine, model, windows, frames, mirrored, stopped)

    def enter_stage(self, stage, **options):
        enter(self, stage, **options)
        entered.append((self.stage_name, len(encoded)))

    monkeypatch.setattr(latents, "encode", encode)
    monkeypatch.setattr(Trainer, "enter_stage", enter_stage)
    reroll.train(footage, tmp_path / "run", recipe="vaegan", steps=20, **toy.QUICK, **toy.silent())
    assert [name for name, _ in entered] == ["autoencoder", "adversarial", "prior", "finish"]
    assert len({mirrored for _, mirrored in encoded}) == len(encoded) == entered[2][1] == entered[3][1]


@pytest.mark.parametrize("at", [1, 2])
def test_a_signal_does_not_wait_until_all_is_encoded(footage, tmp_path, monkeypatch, at):
    """While the statistics are measured, or after them, before the content is: saved is the end of the stage before."""
    original, calls = latents.encode, []

    def train(run):
        reroll.train(footage, run, recipe="vae", steps=20, **toy.QUICK, **toy.silent())
        return checkpoint.load_newest(run / "checkpoints").tensors

    def encode(*arguments):
        calls.append(arguments)
        if len(calls) == at:
            signal.raise_signal(signal.SIGINT)
        return original(*arguments)

    monkeypatch.setattr(latents, "CACHE_FRAMES", 0)
    uninterrupted = train(tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(latents, "encode", encode)
        with pytest.raises(InterruptedRun, match="saved at step 8 of 20"):
            train(tmp_path / "run")
    assert len(calls) == at
    saved = checkpoint.load_newest(tmp_path / "run" / "checkpoints")
    assert saved.step == 8
    assert (saved.tensors["ema"]["latent_scale"] == 1).all()
    resumed = train(tmp_path / "run")
    for group, tensors in uninterrupted.items():
        for name, value in tensors.items():
            assert torch.equal(value, resumed[group][name]), f"{group}: {name}"


def test_statistics_outlive_going_back_to_before_they_were_measured(footage, tmp_path, monkeypatch):
    """A fault in the very first step of the prior: the checkpoint is the autoencoder's last, and knows none."""
    original, left = Trainer.train_step, [8]

    def train_step(self, step):
        if step in left:
            left.remove(step)
            raise NonFiniteError("planted")
        return original(self, step)

    monkeypatch.setattr(Trainer, "train_step", train_step)
    reroll.train(footage, tmp_path / "run", recipe="vae", steps=20, **toy.QUICK, **toy.silent())
    assert left == []
    ema = checkpoint.load_newest(tmp_path / "run" / "checkpoints").tensors["ema"]
    assert not torch.equal(ema["latent_scale"], torch.ones_like(ema["latent_scale"]))


@pytest.mark.parametrize("mirror", [False, True])
def test_content_is_the_same_from_kept_and_from_encoded_latents(engine, model, store, mirror):
    drawing, codes = windows(store, mirror=mirror), []
    cache = take_in(engine, model, drawing)
    for kept in (cache, None):
        latents.measure_content(engine, model, drawing, kept, 8, (1, 2))
        codes.append(model.content.codes.clone())
        assert codes[-1][:, 0].std() == pytest.approx(1, rel=0.05)
    torch.testing.assert_close(codes[0].abs(), codes[1].abs(), atol=2e-2, rtol=2e-2)


def test_every_label_has_contents_however_rare_it_is():
    labels = np.zeros(4096, np.int64)
    labels[[900, 3000]] = 1
    rows = latents._of_every_label(labels, 256)
    assert len(rows) == len(set(rows.tolist())) == 256
    assert set(rows[labels[rows] == 1]) == {900, 3000}
    assert (rows < 300).sum() > 200, "the others in the order they were drawn"


@pytest.mark.parametrize("mirror", [False, True])
def test_spread_is_the_same_from_kept_and_from_encoded_latents(engine, model, store, mirror):
    drawing, found = windows(store, mirror=mirror), []
    cache = take_in(engine, model, drawing)
    latents.measure_content(engine, model, drawing, cache, 8, (1, 2))
    for kept in (cache, None):
        latents.measure_spread(engine, model, drawing, kept, 8, (1, 2))
        found.append(model.source_spread.clone())
    torch.testing.assert_close(found[0], found[1], atol=1e-2, rtol=1e-2)
    assert (found[0][[0, 2]] >= latents.LEAST_SPREAD).all()
    assert (found[0] <= 1).all()


def test_what_moves_in_straight_lines_has_a_narrow_source_and_what_is_random_a_wide_one(engine, model, store):
    drawing = windows(store)
    cache = take_in(engine, model, drawing)
    rate = torch.randn(model.latent_shape, generator=torch.Generator().manual_seed(0))
    straight = LatentCache(cache.frames, (0.01 * torch.arange(HALF)[:, None, None, None] * rate,))
    random = LatentCache(cache.frames, (torch.randn(HALF, *model.latent_shape),))
    spreads = []
    for kept in (straight, random):
        latents.measure_content(engine, model, drawing, kept, 8, (1, 3))
        latents.measure_spread(engine, model, drawing, kept, 8, (1, 3))
        spreads.append(model.source_spread.tolist())
    assert spreads[0][0] == pytest.approx(latents.LEAST_SPREAD)
    assert spreads[0][1] == 0
    assert latents.LEAST_SPREAD < spreads[0][2] < 0.3
    assert (spreads[1][0] ** 2 + 2 * spreads[1][1] ** 2) ** 0.5 > 1  # two that are random are √2 apart
    assert spreads[1][2] > 0.8


@pytest.mark.parametrize(("still", "moving"), [(0.05, 0.44), (0.2, 0.0), (0.15, 0.32)])
def test_the_likeliest_spread_is_that_by_which_distances_were_drawn(still, moving):
    generator = torch.Generator().manual_seed(0)
    change = torch.rand(64, 3, 8, 8, generator=generator).square()
    deviation = (still**2 + moving**2 * change).sqrt()[..., None]
    apart = (deviation * torch.randn(*change.shape, 64, generator=generator)).square().mean(-1)
    found = latents.likeliest_spread(apart, change)
    assert found == pytest.approx((still, moving), abs=0.05)

"""Real, small trainings that must learn: reconstruction of held-out windows, and samples that move like the footage."""

import numpy as np
import pytest
import toy
from footage_maker import shaking, write_clip
from toy import FPS, HEIGHT, QUICK, WIDTH

import reroll
from reroll.evaluation.distances import FeatureSpaces, frechet, plant
from reroll.footage import read_clip
from reroll.training.monitor import read_rows
from reroll.training.run import read_record

LEARNER = {
    "latent_channels": 6, "decoder_widths": (12, 24, 32), "discriminator_widths": (12, 16, 24),
    "prior_width": 64, "prior_depth": 3, "prior_heads": 2,
}  # fmt: skip
FRAMES = 12
STEPS = {"vae": 400, "vaegan": 350, "gan": 500}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Footage long enough for a held-out part."""
    folder = tmp_path_factory.mktemp("learn")
    write_clip(folder / "swing.mp4", shaking(900, HEIGHT, WIDTH), fps=FPS)
    return folder


@pytest.fixture(scope="module")
def learnt(clips, tmp_path_factory):
    """Recipe → its finished run."""
    folder, made = tmp_path_factory.mktemp("learnt"), {}

    def run_of(recipe):
        if recipe not in made:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("reroll.config.PRESETS", {})
                patch.setattr("reroll.training.budget.PRESETS", {"s": LEARNER})
                patch.setattr("reroll.training.budget.PREVIEWS", 10)
                options = QUICK | toy.silent() | {"steps": STEPS[recipe]}
                reroll.train(clips, folder / recipe, recipe=recipe, **options)
            made[recipe] = folder / recipe
        return made[recipe]

    return run_of


def windows(clip):
    """Disjoint windows `N T H W 3`."""
    return clip[: len(clip) // FRAMES * FRAMES].reshape(-1, FRAMES, *clip.shape[1:])


@pytest.mark.parametrize("recipe", ["vae", "vaegan"])
def test_it_learns_to_rebuild_what_it_has_not_seen(learnt, recipe):
    run = learnt(recipe)
    assert "held out" in read_record(run).split
    assert "nothing" not in read_record(run).split
    rows = read_rows(run / "metrics.jsonl")
    heldout = [row["preview_psnr"] for row in rows if "preview_psnr" in row]
    assert heldout[-1] > heldout[0] + 4, "dB; the first is measured when a tenth of the steps is done"
    assert heldout[-1] > 22


@pytest.mark.parametrize("recipe", ["vae", "vaegan"])
def test_samples_are_nearer_to_the_footage_than_frozen_ones(learnt, recipe, clips):
    footage = windows(read_clip(clips / "swing.mp4", HEIGHT, WIDTH)[0])
    generator = reroll.load(learnt(recipe))
    made = np.concatenate([windows(generator.sample(4.0, seed=seed).frames) for seed in range(3)])
    spaces = FeatureSpaces.fit(footage)
    real, ours, frozen = (spaces.features(x) for x in (footage, made, plant("frozen", footage)))
    for space in ("flow", "differences"):
        assert frechet(ours[space], real[space]) < 0.5 * frechet(frozen[space], real[space])
    noise = np.random.default_rng(0).integers(0, 256, made.shape, dtype=np.uint8)
    wrong = spaces.features(noise)["texture"]
    assert frechet(ours["texture"], real["texture"]) < 0.2 * frechet(wrong, real["texture"])


def test_samples_of_gan_show_the_footage_and_move(learnt, clips):
    """Nearer to the footage than frozen footage in motion, than noise and than a plain picture in what they show."""
    footage = windows(read_clip(clips / "swing.mp4", HEIGHT, WIDTH)[0])
    generator = reroll.load(learnt("gan"))
    made = np.concatenate([windows(generator.sample(4.0, seed=seed).frames) for seed in range(3)])
    plain = np.broadcast_to(footage.mean((0, 1, 2, 3)).astype(np.uint8), made.shape)
    spaces = FeatureSpaces.fit(footage)
    real, ours, frozen, grey = (
        spaces.features(x) for x in (footage, made, plant("frozen", footage), np.ascontiguousarray(plain))
    )
    assert frechet(ours["texture"], real["texture"]) < 0.5 * frechet(grey["texture"], real["texture"])
    for space in ("flow", "differences"):
        assert frechet(ours[space], real[space]) < frechet(frozen[space], real[space])


def test_an_extension_goes_on_without_a_jump(learnt, clips, tmp_path):
    take = write_clip(tmp_path / "take.mp4", shaking(40, HEIGHT, WIDTH), fps=FPS)
    frames = reroll.load(learnt("vae")).extend(take, 1.0).frames.astype(float)
    steps = np.abs(np.diff(frames, axis=0)).mean((1, 2, 3))
    assert steps[39] <= 1.5 * steps[:39].max()

"""What every recipe has to do: train, stop and go on bit for bit, survive bad numbers, save, sample, loop, extend."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import toy
from footage_maker import shaking, write_clip, write_picture
from toy import FPS, HEIGHT, STEPS, WIDTH, train

import reroll
from reroll.config import TrainingConfig
from reroll.errors import CheckpointError, DivergedError, InterruptedRun, UsageError
from reroll.export.formats import read_record as read_output_record
from reroll.footage import probe, read_clip
from reroll.parts.decoder import HALO
from reroll.recipes import RECIPES, gan
from reroll.sampling.bridging import Keyframe
from reroll.sampling.sampler import Sampler
from reroll.sampling.settings import SampleSettings
from reroll.training import checkpoint
from reroll.training.budget import Timing
from reroll.training.monitor import read_rows
from reroll.training.run import read_record
from reroll.training.trainer import Trainer

NAMES = sorted(RECIPES)


@pytest.fixture(params=NAMES)
def recipe(request):
    return request.param


@pytest.fixture
def run(runs, recipe):
    return runs(recipe)


class PowerCut(Exception):
    """Ends the process as far as the run can tell: nothing is saved."""


def before_steps(monkeypatch, happenings):
    """Step → what happens just before it is trained, once."""
    original, left = Trainer.train_step, dict(happenings)

    def train_step(self, step):
        if step in left:
            left.pop(step)(self)
        return original(self, step)

    monkeypatch.setattr(Trainer, "train_step", train_step)
    return left


def cut_power(trainer):
    raise PowerCut


def press_ctrl_c(trainer):
    signal.raise_signal(signal.SIGINT)


def ask_to_end(trainer):
    signal.raise_signal(signal.SIGTERM)


def metrics(run):
    """All that was measured, apart from times."""
    return [{k: v for k, v in row.items() if k != "seconds"} for row in read_rows(run / "metrics.jsonl")]


def assert_same_weights(one, two):
    one, two = (checkpoint.load_newest(run / "checkpoints") for run in (one, two))
    assert one.step == two.step
    assert one.tensors.keys() == two.tensors.keys()
    assert {"ema", "model"} <= one.tensors.keys()
    for group, tensors in one.tensors.items():
        for name, value in tensors.items():
            assert torch.equal(value, two.tensors[group][name]), f"{group}: {name}"


# Training


def test_a_run_leaves_what_it_says(run, recipe):
    record = read_record(run)
    assert record.status == "finished"
    assert record.plan.steps == STEPS
    assert [stage.name for stage in record.plan.stages] == [s.name for s in RECIPES[recipe].stages]
    rows = metrics(run)
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert all(value is not None for row in rows for value in row.values())
    previews = sorted(path.name for path in (run / "previews").iterdir())
    assert f"step-{STEPS:08d}.png" in previews
    assert f"step-{STEPS:08d}.mp4" in previews
    assert checkpoint.load_newest(run / "checkpoints").step == STEPS
    assert not list(run.rglob("*.part"))


def test_everything_that_is_sampled_from_was_trained(footage, tmp_path, recipe, monkeypatch):
    """No stage forgets a part: every parameter of the model (but the encoder `gan` lacks) has moved."""
    start = {}
    before_steps(
        monkeypatch, {0: lambda t: start.update({n: p.clone() for n, p in t.ema.named_parameters()})}
    )
    train(footage, tmp_path / "run", recipe)
    ema = checkpoint.load_newest(tmp_path / "run" / "checkpoints").tensors["ema"]
    still = [
        name
        for name, value in start.items()
        if torch.equal(ema[name], value) and not name.split(".", 1)[1].startswith(("gap.", "label."))
    ]
    assert still == []


def test_the_early_prior_is_the_average_half_way_through(footage, tmp_path, recipe, monkeypatch):
    """Until then it is the average itself, and leads nowhere."""
    if not RECIPES[recipe].has_encoder:
        pytest.skip("it samples in one step")
    averages, original = {}, Trainer.train_step

    def train_step(self, step):
        logged = original(self, step)
        same = zip(self.ema.early_prior.parameters(), self.ema.motion_prior.parameters(), strict=True)
        averages[self.stage_name, self.progress] = all(torch.equal(early, now) for early, now in same)
        return logged

    monkeypatch.setattr(Trainer, "train_step", train_step)
    train(footage, tmp_path / "run", recipe)
    prior = {progress: same for (stage, progress), same in averages.items() if stage == "prior"}
    assert prior == {progress: progress < 0.5 for progress in prior}
    assert {True, False} <= set(prior.values())


@pytest.mark.parametrize("where", ["the first stage", "everywhere"])
def test_resumed_equals_uninterrupted(footage, tmp_path, run, recipe, where, monkeypatch):
    """Stopped by signals and by power cuts, on and off checkpoints and between stages: the same bits."""
    begin = STEPS // 2 if recipe != "gan" else STEPS // 2 + 1
    happenings = {
        "the first stage": {3: ask_to_end},
        "everywhere": {begin: cut_power, begin + 3: cut_power, STEPS - 5: press_ctrl_c, STEPS - 1: cut_power},
    }[where]
    left = before_steps(monkeypatch, happenings)
    stops = 0
    while left:
        with pytest.raises((PowerCut, InterruptedRun)):
            train(footage, tmp_path / "run", recipe)
        stops += 1
    assert stops == len(happenings)
    train(footage, tmp_path / "run", recipe)
    assert_same_weights(run, tmp_path / "run")
    assert metrics(run) == metrics(tmp_path / "run")
    for preview in (run / "previews").iterdir():
        assert preview.read_bytes() == (tmp_path / "run" / "previews" / preview.name).read_bytes()


def test_a_damaged_checkpoint_is_refused_and_the_one_before_taken(
    footage, tmp_path, run, recipe, monkeypatch
):
    left = before_steps(monkeypatch, {STEPS - 3: ask_to_end})
    with pytest.raises(InterruptedRun):
        train(footage, tmp_path / "run", recipe)
    assert not left
    newest = checkpoint.load_newest(tmp_path / "run" / "checkpoints").path / "model.safetensors"
    content = bytearray(newest.read_bytes())
    content[-5] ^= 1
    newest.write_bytes(content)
    train(footage, tmp_path / "run", recipe)
    assert_same_weights(run, tmp_path / "run")
    assert metrics(run) == metrics(tmp_path / "run")


def test_another_seed_is_another_run(footage, tmp_path, run, recipe):
    train(footage, tmp_path / "run", recipe, seed=1)
    one, two = (checkpoint.load_newest(r / "checkpoints").tensors["ema"] for r in (run, tmp_path / "run"))
    assert any(not torch.equal(one[name], two[name]) for name in one)


# Bad numbers


def poison(monkeypatch, at, term=0):
    """From now on a term of the loss of these steps is not a number."""
    original = Trainer.update

    def update(self, optimizer, terms, *rest, **named):
        if self.global_step in at:
            name = list(terms)[term]
            terms = {**terms, name: terms[name] * float("nan")}
        return original(self, optimizer, terms, *rest, **named)

    monkeypatch.setattr(Trainer, "update", update)


def test_bad_numbers_are_rolled_back_skipped_and_the_rate_is_halved(
    footage, tmp_path, run, recipe, monkeypatch
):
    poison(monkeypatch, {5})
    rates = {}
    happenings = {
        step: lambda t, step=step: rates.setdefault(step, []).append(t.rate_scale) for step in range(STEPS)
    }
    before_steps(monkeypatch, happenings)
    record = train(footage, tmp_path / "run", recipe)
    assert record.status == "finished"
    rows, usual = metrics(tmp_path / "run"), metrics(run)
    assert [row["step"] for row in rows] == [step for step in range(1, STEPS + 1) if step != 6]
    assert rows[:4] == usual[:4], "up to the checkpoint nothing is different"
    assert rows[6] != usual[7]
    assert rates[0] == [1.0]
    assert rates[7] == [0.5]
    events = read_rows(tmp_path / "run" / "events.jsonl")
    assert [row["from_step"] for row in events if row["kind"] == "rollback"] == [5]
    ema = checkpoint.load_newest(tmp_path / "run" / "checkpoints").tensors["ema"]
    assert all(torch.isfinite(value).all() for value in ema.values())


def test_a_run_that_was_rolled_back_resumes_bit_for_bit(footage, tmp_path, recipe, monkeypatch):
    poison(monkeypatch, {5})
    train(footage, tmp_path / "whole", recipe)
    left = before_steps(monkeypatch, {6: cut_power, 12: ask_to_end})
    while left:
        with pytest.raises((PowerCut, InterruptedRun)):
            train(footage, tmp_path / "parts", recipe)
    train(footage, tmp_path / "parts", recipe)
    assert_same_weights(tmp_path / "whole", tmp_path / "parts")
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "parts")


def test_bad_numbers_in_the_very_last_step_lose_nothing(footage, tmp_path, recipe, monkeypatch):
    poison(monkeypatch, {STEPS - 1})
    assert train(footage, tmp_path / "run", recipe).status == "finished"
    assert checkpoint.load_newest(tmp_path / "run" / "checkpoints").step == STEPS
    assert metrics(tmp_path / "run")[-1]["step"] == STEPS - 1


def test_the_third_time_the_run_ends(footage, tmp_path, recipe, monkeypatch):
    poison(monkeypatch, {3, 5, 15})
    with pytest.raises(DivergedError) as caught:
        train(footage, tmp_path / "run", recipe)
    assert caught.value.exit_code == 6
    assert "\n" not in str(caught.value)
    assert read_record(tmp_path / "run").status == "diverged"
    kept = checkpoint.load_newest(tmp_path / "run" / "checkpoints", finite_only=True)
    assert STEPS // 2 < kept.step <= 15
    assert all(torch.isfinite(value).all() for group in kept.tensors.values() for value in group.values())
    assert len(reroll.load(tmp_path / "run").sample(0.2).frames) == 5


def test_a_gradient_that_is_not_finite_changes_nothing(footage, tmp_path, recipe, monkeypatch):
    """The loss is finite and its gradient is not: caught before the optimizer."""
    original = Trainer.update

    def update(self, optimizer, terms, *rest, **named):
        if self.global_step == 5:
            parameter = self.specs[optimizer].parameters[0]
            terms = {**terms, "root": (parameter.flatten()[0] * 0).sqrt()}
        return original(self, optimizer, terms, *rest, **named)

    monkeypatch.setattr(Trainer, "update", update)
    train(footage, tmp_path / "run", recipe)
    faults = [
        row["fault"] for row in read_rows(tmp_path / "run" / "events.jsonl") if row["kind"] == "rollback"
    ]
    assert len(faults) == 1
    assert "gradient" in faults[0]


# Signals, in a process of its own


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_ends(footage, tmp_path, number, code):
    run = tmp_path / "run"
    command = [
        sys.executable, str(Path(toy.__file__)), "train", str(footage), "-o", str(run), "--recipe", "vaegan",
        "--steps", "100000", "--size", str(HEIGHT), "--threads", "1", "--precision", "fp32",
    ]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 60
        while len(read_rows(run / "metrics.jsonl")) < 5:
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(number)
        printed, said = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == code
    assert printed == ""
    assert "Traceback" not in said
    assert "stopped and saved at step" in said.splitlines()[-1]
    assert said.splitlines()[-1].startswith("reroll: ")
    step = metrics(run)[-1]["step"]
    assert checkpoint.load_newest(run / "checkpoints").step == step
    assert read_record(run).status == "stopped"


# Going on


def test_other_options_on_the_same_run_are_named(footage, run, recipe):
    other = next(name for name in NAMES if name != recipe)
    before = (run / "run.json").read_bytes()
    for options, named in (
        ({"seed": 5}, "--seed"),
        ({"steps": STEPS + 1}, "--steps"),
        ({"size": 48}, "--size"),
        ({"recipe": other}, "--recipe"),
    ):
        with pytest.raises(UsageError, match=named):
            train(**({"footage": footage, "run": run, "recipe": recipe} | options))
    assert (run / "run.json").read_bytes() == before


def test_other_footage_under_the_same_name_is_noticed(tmp_path, recipe):
    clips = toy.write_footage(tmp_path / "clips")
    with pytest.MonkeyPatch.context() as patch:
        before_steps(patch, {4: cut_power})
        with pytest.raises(PowerCut):
            train(clips, tmp_path / "run", recipe)
    write_clip(clips / "clip0.mp4", shaking(50, HEIGHT, WIDTH, seed=3), fps=FPS)
    with pytest.raises(UsageError, match="other footage"):
        train(clips, tmp_path / "run", recipe)


def test_a_finished_run_is_left_alone(footage, run, recipe):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    train(footage, run, recipe)
    after = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    assert after == {path: when for path, when in before.items() if path in after}
    assert {path.name for path in before.keys() - after.keys()} <= {"owner.json"}


def test_minutes_become_a_plan_and_more_can_be_added(footage, tmp_path):
    options = {"steps": None, "minutes": 0.12, "model": "s"}
    started = time.monotonic()
    first = train(footage, tmp_path / "run", "gan", **options)
    took = time.monotonic() - started
    assert first.status == "finished"
    assert first.plan.steps >= 3
    assert first.plan.seconds_per_step.keys() == {"redrawing", "adversarial"}
    assert took < 0.12 * 60 * 1.5 + 5
    with pytest.MonkeyPatch.context() as patch:
        before_steps(patch, {first.plan.steps + 3: ask_to_end})
        with pytest.raises(InterruptedRun):
            train(footage, tmp_path / "run", "gan", add_minutes=0.05, **options)
    again = train(footage, tmp_path / "run", "gan", add_minutes=0.05, **options)  # the same command again
    assert again.status == "finished"
    assert again.plan.steps > first.plan.steps
    assert [stage.name for stage in again.plan.stages] == ["redrawing", "adversarial", "adversarial"]
    assert checkpoint.load_newest(tmp_path / "run" / "checkpoints").step == again.plan.steps
    steps = [row["step"] for row in metrics(tmp_path / "run")]
    assert steps == list(range(1, again.plan.steps + 1))
    kinds = [row["kind"] for row in read_rows(tmp_path / "run" / "events.jsonl")]
    assert kinds.count("extended") == 1
    assert kinds.count("finished") == 2


def test_bad_numbers_right_after_minutes_were_added(footage, tmp_path, monkeypatch):
    """Going back to the checkpoint that ended the first plan must not forget the added one."""
    monkeypatch.setattr(
        "reroll.training.budget.time_model",
        lambda *_: Timing("s", dict.fromkeys(("redrawing", "adversarial"), 0.1)),
    )
    monkeypatch.setattr("reroll.training.loop.replan", lambda *_: None)
    options = {"steps": None, "minutes": 0.05, "model": "s"}
    first = train(footage, tmp_path / "run", "gan", **options)
    poison(monkeypatch, {first.plan.steps})
    again = train(footage, tmp_path / "run", "gan", add_minutes=0.02, **options)
    assert again.plan.steps == first.plan.steps + 11
    assert checkpoint.load_newest(tmp_path / "run" / "checkpoints").step == again.plan.steps


def test_a_new_run_may_start_from_an_older_one(footage, tmp_path, run, recipe, monkeypatch):
    began = {}
    before_steps(
        monkeypatch, {0: lambda t: began.update({k: v.clone() for k, v in t.ema.state_dict().items()})}
    )
    record = train(footage, tmp_path / "new", recipe, init=run, seed=9)
    assert record.config.init == str(run)
    ema = checkpoint.load_newest(run / "checkpoints").tensors["ema"]
    for name, value in began.items():
        if not name.startswith("content."):  # what is in the footage is measured anew
            assert torch.equal(value, ema[name]), name
    other = next(name for name in NAMES if name != recipe)
    with pytest.raises(UsageError, match="--init"):
        train(footage, tmp_path / "other", other, init=run)
    with pytest.raises(CheckpointError, match="no run here"):
        train(footage, tmp_path / "missing", recipe, init=tmp_path / "nothing")


def test_a_run_survives_being_moved(tmp_path, run):
    frames = reroll.load(run).sample(0.4, seed=2).frames
    moved = tmp_path / "elsewhere"
    shutil.copytree(run, moved)
    assert np.array_equal(reroll.load(moved).sample(0.4, seed=2).frames, frames)


# Sampling


@pytest.fixture
def generator(run):
    return reroll.load(run, device="cpu")


def test_what_was_saved_is_what_samples(footage, tmp_path, recipe, monkeypatch):
    """Averaged weights in training and after loading give the same frames."""
    kept = {}
    before_steps(monkeypatch, {STEPS - 1: lambda t: kept.update(trainer=t)})
    train(footage, tmp_path / "run", recipe)
    loaded, trainer = reroll.load(tmp_path / "run", device="cpu"), kept["trainer"]
    gap = loaded.record.key_gap_seconds
    settings = SampleSettings(frames=12, fps=FPS, seed=4, denoise_steps=3)
    frames = [
        np.concatenate(list(sampler.frames(settings)))
        for sampler in (loaded.sampler, Sampler(trainer.ema, trainer.engine, key_gap_seconds=gap))
    ]
    assert np.array_equal(*frames)


@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize(
    ("seconds", "fps", "frames"),
    [
        (0.04, 25, 1),
        (0.5, None, 12),
        (1.0, 24, 24),
        (1.3, 30, 39),
        (2.0, 7, 14),
        (0.4, 60, 24),
        (0.2, 120, 24),
    ],
)
def test_frames_are_as_many_as_asked(generator, seconds, fps, frames, loop):
    if loop and frames < 4:
        with pytest.raises(UsageError, match="too short"):
            generator.sample(seconds, fps=fps, loop=True)
        return
    clip = generator.sample(seconds, fps=fps, loop=loop, denoise_steps=2)
    assert clip.frames.shape == (frames, HEIGHT, WIDTH, 3)
    assert clip.frames.dtype == np.uint8
    assert clip.fps == pytest.approx(fps or FPS)


@pytest.mark.parametrize(
    ("size", "tile", "height", "width"),
    [("88x64", None, 64, 88), ("32x20", None, 20, 32), (None, "x", HEIGHT, 32), ("36x28", "xy", 28, 36)],
)
@pytest.mark.parametrize("loop", [False, True])
def test_other_sizes_and_edges_that_meet(generator, size, tile, height, width, loop):
    """How well edges meet is tested with the canvas itself."""
    clip = generator.sample(1.2, size=size, tile=tile, loop=loop, seed=1, denoise_steps=2)
    assert clip.frames.shape == (30, height, width, 3)
    plain = generator.sample(1.2, loop=loop, seed=1, denoise_steps=2).frames
    if tile is None:  # the middle of both is the same
        top, left = (HEIGHT - min(height, HEIGHT)) // 2, (WIDTH - min(width, WIDTH)) // 2
        plain = plain[:, top : top + height, left : left + width]
        top, left = (height - plain.shape[1]) // 2, (width - plain.shape[2]) // 2
        assert np.array_equal(clip.frames[:, top : top + plain.shape[1], left : left + plain.shape[2]], plain)
    assert (clip.record["options"]["size"], clip.record["options"]["tile"]) == (size, tile)


def test_the_file_holds_them_and_says_how_to_make_it_again(tmp_path, generator):
    clip = generator.sample(1.0, seed=5, fps=12, denoise_steps=2)
    path = generator.sample(1.0, seed=5, fps=12, denoise_steps=2).save(tmp_path / "a.mp4")
    frames, times = read_clip(path, HEIGHT, WIDTH)
    assert frames.shape == clip.frames.shape
    assert np.diff(times) == pytest.approx(1 / 12, abs=1e-4)
    saved = clip.save(tmp_path / "b.mp4")
    assert np.array_equal(read_clip(saved or tmp_path / "b.mp4", HEIGHT, WIDTH)[0], frames)
    record = read_output_record(path)
    assert (record["options"]["seed"], record["options"]["seconds"]) == (5, 1.0)
    assert record["recipe"] == generator.record.config.recipe


def test_a_seed_gives_its_frames_whatever_else_is_made(run):
    together = [reroll.load(run).sample(0.8, seed=0).frames]
    generator = reroll.load(run)
    together += [generator.sample(0.8, seed=seed).frames for seed in (1, 2, 3)]
    alone = reroll.load(run).sample(0.8, seed=3).frames
    assert np.array_equal(together[3], alone)
    for one in range(3):
        assert not np.array_equal(together[one], alone), "seeds differ"


def test_seeds_begin_differently_from_the_first_frame(generator):
    first = [generator.sample(0.04, seed=seed, denoise_steps=4).frames[0] for seed in range(3)]
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[1], first[2])


def changes(frames):
    """Mean absolute change from each frame to the next, and from the last to the first."""
    ring = np.concatenate([frames, frames[:1]]).astype(float)
    steps = np.abs(np.diff(ring, axis=0)).mean((1, 2, 3))
    return steps[:-1], steps[-1]


def test_a_loop_decoded_in_pieces_is_the_ring_decoded_whole(generator):
    sampler = generator.sampler
    for count in (5, 20, 50):
        ring = torch.randn(1, count, *sampler.model.latent_shape)
        pieces = iter(ring.split(7, 1))
        with torch.no_grad():
            found = np.concatenate(list(sampler._decode_ring(pieces, count)))
        three = np.concatenate(list(sampler.decode(torch.cat([ring] * 5, 1))))[2 * count : 3 * count]
        assert len(found) == count
        assert np.abs(found.astype(int) - np.roll(three, -HALO, axis=0)).max() <= 1


def planted(generator, monkeypatch, *, starts=(), beginnings=0.0):
    """A Sampler whose windows are planted as shots that run from `starts`, then from `beginnings` up, or on from what
    they are given, and bridges as straight lines."""
    if generator.record.model.encoder is False:
        pytest.skip("gan makes its frames from noise")
    sampler = generator.sampler
    shape = sampler.model.latent_shape
    starts = iter(starts)

    def ramp(self, known, new, *rest):
        begin = float(known[0, -1, 0, 0, 0]) + 1 if known.shape[1] else next(starts, beginnings)
        return torch.cat([known, as_latents(begin + np.arange(new), shape, len(known))], 1)

    monkeypatch.setattr(Sampler, "_denoise", ramp)
    monkeypatch.setattr(Sampler, "_morphed", straight)
    return sampler


def as_latents(values, shape, batch=1):
    return torch.as_tensor(values).float()[None, :, None, None, None].expand(batch, -1, *shape)


def straight(_, one, other, steps):
    """What lies between two latents on a straight line."""
    return one.lerp(other, torch.arange(1, steps)[None, :, None, None, None] / steps)


def planted_keys(generator, monkeypatch, *, given=None, count=100, beginnings=0.0):
    """Keyframes of a clip of `planted` shots, the first of them from 0, as numbers."""
    sampler = planted(generator, monkeypatch, starts=[0.0] if given is None else [], beginnings=beginnings)
    before = None if given is None else as_latents(given, sampler.model.latent_shape)
    settings = SampleSettings(frames=400, fps=FPS)
    keys = sampler._keys(settings, 4, torch.Generator().manual_seed(0), before)
    return torch.cat([next(keys).latents for _ in range(count)], 1)[0, :, 0, 0, 0].numpy()


def test_a_long_clip_does_not_stay_where_the_footage_ends(generator, monkeypatch):
    """It goes through the shot again and again, on a bridge and without a leap."""
    found = planted_keys(generator, monkeypatch)
    steps = np.diff(found)
    assert found[:9].tolist() == list(range(9))
    assert (found < 8).mean() > 0.25
    assert (steps > 0).mean() > 0.5
    assert np.abs(steps).max() < 2


def test_a_take_goes_on_from_its_last_frame_and_does_not_stay_where_the_footage_ends(generator, monkeypatch):
    found = planted_keys(generator, monkeypatch, given=np.arange(33) / 4)
    steps = np.diff(found)
    assert found[:5].tolist() == [8, 9, 10, 11, 12]
    assert (found < 8).mean() > 0.25
    assert np.abs(steps).max() < 2.5


def test_where_nothing_is_alike_a_window_goes_on_from_the_one_before(generator, monkeypatch):
    found = planted_keys(generator, monkeypatch, beginnings=1000.0)
    assert found.tolist() == list(range(100))


def test_what_comes_after_a_bridge_is_not_given_its_frames(generator, monkeypatch):
    """A bridge does not move like the footage; from it the MotionPrior would leap."""
    sampler, given = planted(generator, monkeypatch), []
    shape = sampler.model.latent_shape

    def in_between(self, past, keys, spacing, *rest):
        given.append(past.shape[1])
        return torch.cat(
            [torch.cat([straight(self, *pair, spacing), pair[1]], 1) for pair in pairwise(keys)], 1
        )

    monkeypatch.setattr(Sampler, "_in_between", in_between)
    keys = [Keyframe(as_latents([value], shape), bridging=value == 2) for value in range(6)]
    options = 4, SampleSettings(frames=20, fps=FPS), torch.Generator().manual_seed(0)
    fine, past = sampler.between(as_latents([-0.5, -0.25], shape), keys, *options)
    assert given == [2, 0]
    assert fine[0, :, 0, 0, 0].tolist() == [step / 4 for step in range(1, 21)]
    assert past[0, :, 0, 0, 0].tolist() == [4.25, 4.5, 4.75]
    _, past = sampler.between(past, keys[:3], *options)
    assert past.shape[1] == 0


def test_where_the_way_from_a_real_frame_is_not_known_there_is_a_bridge(generator, monkeypatch):
    """In-betweens that leap are kept between made keyframes, and give way to a straight line beside a real one."""
    sampler = planted(generator, monkeypatch)
    shape = sampler.model.latent_shape

    def leaping(self, past, keys, spacing, *rest):
        return torch.cat([key.repeat(1, spacing, 1, 1, 1) for key in keys[1:]], 1)

    monkeypatch.setattr(Sampler, "_in_between", leaping)
    keys = [Keyframe(as_latents([value], shape), bridging=False, real=value == 0) for value in range(4)]
    options = 4, SampleSettings(frames=20, fps=FPS), torch.Generator().manual_seed(0)
    fine, past = sampler.between(sampler.no_frames(), keys, *options)
    assert fine[0, :, 0, 0, 0].tolist() == [0.25, 0.5, 0.75, 1, 2, 2, 2, 2, 3, 3, 3, 3]
    fine, past = sampler.between(sampler.no_frames(), keys[:2], *options)
    assert fine[0, :, 0, 0, 0].tolist() == [0.25, 0.5, 0.75, 1]
    assert past.shape[1] == 0


def test_what_is_given_is_directly_before_where_keyframes_are_neighbours_too(generator, monkeypatch):
    """Loops at rates near the keyframes' have some with a frame between and some with none."""
    sampler = planted(generator, monkeypatch)
    shape = sampler.model.latent_shape
    options = 1, SampleSettings(frames=20, fps=FPS), torch.Generator().manual_seed(0)
    keys = [Keyframe(as_latents([value], shape), bridging=value == 4) for value in range(8)]
    fine, past = sampler.between(as_latents([-2, -1], shape), keys[:3], *options)
    assert fine[0, :, 0, 0, 0].tolist() == [1, 2]
    assert past[0, :, 0, 0, 0].tolist() == [-1, 0, 1]
    fine, past = sampler.between(past, keys[2:], *options)
    assert fine[0, :, 0, 0, 0].tolist() == [3, 4, 5, 6, 7]
    assert past[0, :, 0, 0, 0].tolist() == [5, 6]


@pytest.mark.parametrize("count", [4, 9, 30, 100])
def test_the_keyframes_of_a_loop_are_a_closed_ring(generator, monkeypatch, count):
    """Of shots that run from 0 to 15: no step of the ring, that from its last to its first too, is a leap."""
    sampler = planted(generator, monkeypatch)
    settings = SampleSettings(frames=4 * count, fps=FPS, loop=True)
    ring = sampler._ring(count, settings, torch.Generator().manual_seed(0))
    values = [float(key.latents[0, 0, 0, 0, 0]) for key in [*ring, ring[0]]]
    assert len(ring) == count
    assert any(key.bridging for key in ring)
    assert sum(not key.bridging for key in ring) > 0.4 * count
    assert np.abs(np.diff(values)).max() < 2.5


@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize("fps", [120, 150, 200, 240])
def test_no_window_is_longer_than_those_of_training(generator, fps, loop, monkeypatch):
    """Keyframes of fast footage are more than a window apart: the frame half way is made before those between."""
    sampler = generator.sampler
    if generator.record.model.encoder is False:
        pytest.skip("gan makes its frames from noise")
    lengths, fill = [], Sampler.fill

    def filled(self, known, highest, times, *rest):
        lengths.append((known.shape[1], round(float(times[1]) * fps)))
        return fill(self, known, highest, times, *rest)

    monkeypatch.setattr(Sampler, "fill", filled)
    slow = Sampler(sampler.model, sampler.engine, key_gap_seconds=2 / 15)
    frames = list(slow.frames(SampleSettings(frames=fps, fps=fps, denoise_steps=2, loop=loop)))
    assert sum(map(len, frames)) == fps
    assert max(length for length, _ in lengths) <= 16
    steps = {step for _, step in lengths}
    assert 1 in steps
    assert any(fps // 17 <= step <= fps // 14 for step in steps), "half way between keyframes 2 / 15 s apart"


@pytest.mark.parametrize("seconds", [1.0, 2.4])
def test_loops_close(generator, seconds):
    """The seam is a change like the others: over a few seeds it is not always among the largest."""
    loops = [generator.sample(seconds, seed=seed, loop=True).frames for seed in range(4)]
    rings = [changes(np.roll(loop, HALO, axis=0)) for loop in loops]
    ranks = [float((steps + 0.05 < seam).mean()) for steps, seam in rings]
    assert np.mean(ranks) < 0.9, ranks


def test_temperature_and_steps_are_heard(generator, recipe):
    usual = generator.sample(0.4, seed=1, denoise_steps=3).frames
    assert not np.array_equal(usual, generator.sample(0.4, seed=1, denoise_steps=3, temperature=0.5).frames)
    if recipe != "gan":
        assert not np.array_equal(usual, generator.sample(0.4, seed=1, denoise_steps=6).frames)
        assert not np.array_equal(usual, generator.sample(0.4, seed=1, denoise_steps=3, sharpness=5).frames)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"seconds": 0}, "--seconds"),
        ({"seconds": -1}, "--seconds"),
        ({"seconds": 1e9}, "--seconds"),
        ({"fps": 0}, "--fps"),
        ({"fps": float("nan")}, "--fps"),
        ({"temperature": -1}, "--temperature"),
        ({"sharpness": -1}, "--sharpness"),
        ({"denoise_steps": 0}, "--denoise-steps"),
        ({"seed": -1}, "--seed"),
        ({"label": "cat"}, "--label cat"),
    ],
)
def test_options_that_make_no_sense_are_named(generator, options, named):
    with pytest.raises(UsageError, match=named):
        generator.sample(**({"seconds": 1.0} | options))


# Extending


@pytest.mark.parametrize("name", [name for name in NAMES if RECIPES[name].has_encoder])
class TestExtend:
    def test_it_begins_with_the_take(self, runs, name, take):
        clip = reroll.load(runs(name)).extend(take, 0.6, denoise_steps=2)
        begun = read_clip(take, HEIGHT, WIDTH)[0]
        assert len(clip.frames) == 30 + 15
        assert np.array_equal(clip.frames[:30], begun)
        new = clip.frames[30:]
        assert not all(np.array_equal(new[0], frame) for frame in new)

    def test_a_picture_comes_alive(self, runs, name, tmp_path):
        picture = write_picture(tmp_path / "still.png", shaking(1, HEIGHT, WIDTH)[0])
        clip = reroll.load(runs(name)).extend(picture, 0.6, denoise_steps=2)
        assert len(clip.frames) == 1 + 15
        assert np.abs(clip.frames[0].astype(int) - shaking(1, HEIGHT, WIDTH)[0]).max() <= 2

    @pytest.mark.parametrize("frames", [1, 2, 5])
    def test_a_short_take_will_do(self, runs, name, tmp_path, frames):
        short = write_clip(tmp_path / "short.mp4", shaking(frames, HEIGHT, WIDTH), fps=FPS)
        clip = reroll.load(runs(name)).extend(short, 0.4, denoise_steps=2)
        assert len(clip.frames) == frames + 10

    def test_another_size_and_rate_are_brought_to_the_model(self, runs, name, tmp_path):
        other = write_clip(tmp_path / "other.mp4", shaking(20, 48, 66), fps=10)
        generator = reroll.load(runs(name))
        clip = generator.extend(other, 0.5, denoise_steps=2)
        assert clip.fps == pytest.approx(10)
        assert clip.frames.shape == (25, HEIGHT, WIDTH, 3)
        faster = generator.extend(other, 0.5, fps=20, denoise_steps=2)
        assert abs(len(faster.frames) - 50) <= 1

    def test_a_rate_the_container_made_up_is_not_believed(self, runs, name, tmp_path, monkeypatch):
        """WebM from a browser says 1000 frames a second for "it varies"."""
        take = write_clip(tmp_path / "browser.mp4", shaking(20, HEIGHT, WIDTH), fps=10)
        monkeypatch.setattr(reroll.sampling.takes, "probe", lambda path: replace(probe(path), fps=1000.0))
        clip = reroll.load(runs(name)).extend(take, 0.5, denoise_steps=2)
        assert clip.fps == pytest.approx(10)
        assert len(clip.frames) == 25

    def test_the_same_seed_goes_on_in_the_same_way(self, runs, name, take, tmp_path):
        generator = reroll.load(runs(name))
        one = generator.extend(take, 0.4, seed=3, denoise_steps=2).frames
        generator.sample(0.2)
        assert np.array_equal(one, generator.extend(take, 0.4, seed=3, denoise_steps=2).frames)
        assert not np.array_equal(one, generator.extend(take, 0.4, seed=4, denoise_steps=2).frames)
        written = generator.extend(take, 0.4, seed=3, denoise_steps=2).save(tmp_path / "a.mp4")
        assert len(read_clip(written, HEIGHT, WIDTH)[0]) == len(one)


def test_gan_cannot_extend_and_says_who_can(runs, take, tmp_path):
    with pytest.raises(UsageError) as caught:
        reroll.load(runs("gan")).extend(take).save(tmp_path / "a.mp4")
    assert "\n" not in str(caught.value)
    assert "vaegan" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


# Labels


def test_subfolders_become_labels(tmp_path, recipe):
    for number, label in enumerate(("left", "right")):
        toy.write_footage(tmp_path / "clips" / label, seed=number)
    # `gan` sees all blurred at first, and learns little of labels from that.
    record = train(tmp_path / "clips", tmp_path / "run", recipe, steps=STEPS * (4 if recipe == "gan" else 1))
    assert record.model.labels == ("left", "right")
    generator = reroll.load(tmp_path / "run")

    def sample(label):
        guidance = 1.0 if recipe == "gan" else 20.0
        return generator.sample(0.2, label=label, denoise_steps=2, guidance=guidance).frames

    assert not np.array_equal(sample("left"), sample("right")), "a label is heard, if barely after few steps"
    assert np.array_equal(sample("left"), sample("left"))
    with pytest.raises(UsageError, match="left, right"):
        generator.sample(0.2, label="up")


# Odd footage


@pytest.mark.parametrize(
    ("height", "width", "frames", "size"), [(32, 58, 5, 16), (50, 34, 24, 18), (34, 34, 20, 34)]
)
def test_small_odd_and_short_footage_trains(tmp_path, recipe, height, width, frames, size):
    write_clip(tmp_path / "a.mp4", shaking(frames, height, width), fps=FPS)
    record = train(tmp_path / "a.mp4", tmp_path / "run", recipe, size=size, steps=6)
    assert min(record.model.height, record.model.width) == size
    assert record.model.height % 2 == record.model.width % 2 == 0
    clip = reroll.load(tmp_path / "run").sample(0.4, denoise_steps=2)
    assert clip.frames.shape == (10, record.model.height, record.model.width, 3)


def test_the_configuration_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match="epochs"):
        TrainingConfig(footage=("a",), epochs=3)
    assert json.loads(TrainingConfig(footage=("a",)).model_dump_json())["recipe"] == "vaegan"


@pytest.mark.parametrize("name", ["vae", "vaegan"])
@pytest.mark.parametrize("times", [2, 3])
def test_a_low_frame_rate_is_every_so_many_frames_of_a_higher_one(runs, name, times):
    """Keyframes are no farther apart than what the MotionPrior was trained on."""
    generator = reroll.load(runs(name))
    key_rate = 1 / generator.sampler.key_gap_seconds
    slow = generator.sample(6 * times / key_rate, seed=2, fps=key_rate / times).frames
    fast = generator.sample(6 * times / key_rate, seed=2, fps=key_rate).frames
    assert len(slow) == 6
    assert np.array_equal(slow, fast[::times])


def test_gan_blurs_only_what_is_untrained(footage, tmp_path, monkeypatch):
    """Minutes that are added and an older run's weights are not blurred again."""
    sigmas = []
    original = gan.blur
    monkeypatch.setattr(gan, "blur", lambda frames, sigma: (sigmas.append(sigma), original(frames, sigma))[1])
    train(footage, tmp_path / "first", "gan")
    assert sigmas[0] > 1
    assert sigmas[-1] == 0
    sigmas.clear()
    train(footage, tmp_path / "second", "gan", init=tmp_path / "first")
    assert sigmas
    assert max(sigmas) == 0


def test_gan_learns_to_draw_through_what_its_discriminator_sees(footage, tmp_path, monkeypatch):
    """The Decoder's error of redrawing reaches the Discriminator, which has to tell it what is there: its latents are
    trained, and what it redraws comes nearer to the footage."""
    heads = {}

    def keep(name):
        return lambda t: heads.update({name: t.networks.discriminator.redraw.weight.detach().clone()})

    before_steps(monkeypatch, {0: keep("first"), 79: keep("last")})
    train(footage, tmp_path / "run", "gan", steps=80)
    assert not torch.equal(heads["first"], heads["last"])
    psnr = [row["psnr"] for row in read_rows(tmp_path / "run" / "metrics.jsonl")]
    assert np.mean(psnr[-10:]) > np.mean(psnr[:10]) + 3


def test_a_gap_in_the_timestamps_is_held_for_seconds_only(runs, tmp_path, capsys):
    """A take that claims to stand still for ten days is not ten days long."""
    times = [0.0, 0.04, 0.08, 864_000.0, 864_000.04]
    take = write_clip(tmp_path / "gap.mkv", shaking(5, HEIGHT, WIDTH), fps=FPS, times=times)
    frames = reroll.load(runs("vae")).extend(take, 0.2, denoise_steps=2).frames
    assert 250 <= len(frames) <= 5 + 10 * FPS + 10
    assert "gap.mkv" in capsys.readouterr().err


def test_a_take_too_long_for_the_memory_is_refused_while_it_is_read(runs, take, monkeypatch):
    monkeypatch.setattr("reroll.export.clip.LONGEST_IN_MEMORY_BYTES", 20 * HEIGHT * WIDTH * 3)
    with pytest.raises(UsageError, match="use its `save`"):
        _ = reroll.load(runs("vae")).extend(take, 0.2, denoise_steps=2).frames


def test_a_report_reads_footage_again_whose_frames_are_gone(tmp_path, monkeypatch):
    """The cache is one: it may be emptied at any time."""
    monkeypatch.setenv("REROLL_CACHE", str(tmp_path / "cache"))
    clips = toy.write_footage(tmp_path / "clips")
    train(clips, tmp_path / "run", "vae", precision="fp32")
    shutil.rmtree(tmp_path / "cache")
    page, _ = reroll.report(tmp_path / "run", samples=3, seconds=2, long_seconds=0)
    commands = json.loads((tmp_path / "run" / "report.json").read_text())
    assert page.exists()
    assert "--precision fp32" in json.dumps(commands)
    shutil.rmtree(tmp_path / "cache")
    shutil.rmtree(clips)
    with pytest.raises(CheckpointError, match="bring it back"):
        reroll.report(tmp_path / "run", samples=3, seconds=2, long_seconds=0)

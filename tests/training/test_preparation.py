"""What is decided before the first step: plans, added minutes, what a new run takes over from an older one."""

import io
import os
import shutil
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import toy
from footage_maker import panning, shaking, write_clip
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import reroll
from reroll.errors import SpaceError, UsageError
from reroll.footage import Span, Split, Windows, find_footage, ingest, inspect_footage
from reroll.recipes import RECIPES
from reroll.training import checkpoint, preparation
from reroll.training.budget import Timing, choose_strides, make_plan, plan_stages, split_steps
from reroll.training.engine import Engine
from reroll.training.monitor import read_rows
from reroll.training.preparation import _preview_windows
from reroll.training.session import Session
from reroll.training.trainer import Trainer

NAMES = sorted(RECIPES)


@pytest.fixture(scope="module", autouse=True)
def untimed(small):
    """Tiny networks, nothing timed."""
    small.setattr("reroll.training.budget.time_model", quick_timing)
    small.setattr("reroll.training.loop.replan", lambda *_: None)


def quick_timing(engine, recipe, *rest):
    return Timing("s", {stage.name: 0.1 for stage in recipe.stages})


def train(footage, run, recipe, **options):
    return reroll.train(footage, run, recipe=recipe, **(toy.QUICK | toy.silent() | options))


@pytest.fixture(scope="module")
def runs(footage, tmp_path_factory):
    """Recipe → a finished run of a few steps; trained when first asked for."""
    folder = tmp_path_factory.mktemp("runs")

    def run_of(recipe):
        if not (folder / recipe).exists():
            train(footage, folder / recipe, recipe, minutes=0.03, model="s")
        return folder / recipe

    return run_of


# Plans


@pytest.mark.parametrize("recipe", NAMES)
@given(steps=st.integers(1, 5000))
def test_steps_are_as_many_as_asked(recipe, steps):
    stages = RECIPES[recipe].stages
    if steps < len(stages):
        with pytest.raises(UsageError, match=f"--steps {steps}"):
            split_steps(RECIPES[recipe], steps)
        return
    found = split_steps(RECIPES[recipe], steps)
    assert sum(stage.steps for stage in found) == steps
    for spec, stage in zip(stages, found, strict=True):
        assert stage.name == spec.name
        assert abs(stage.steps - steps * spec.share) <= len(stages)


@pytest.mark.parametrize(("steps", "every"), [(20, 2), (3, 1), (100_000, 250)])
def test_a_plan_in_steps_is_not_long_without_a_checkpoint(steps, every):
    windows = SimpleNamespace(spans=[Span(0, 100)])
    plan = make_plan(
        Engine.start(), RECIPES["gan"], SimpleNamespace(height=32, width=32), windows, fps=25.0,
        model="auto", seed=0, steps=steps, seconds_left=None, mirror=False, started=0.0,
    )  # fmt: skip
    assert plan.checkpoint_every == every


def test_shares_of_some_stages_fill_the_time():
    stages = RECIPES["vaegan"].stages
    timing = Timing("s", {stage.name: 0.1 * (1 + at) for at, stage in enumerate(stages)})
    for some in (stages, stages[2:], stages[:1]):
        planned = plan_stages(some, timing, 1000)
        seconds = sum(stage.steps * timing.seconds[stage.name] for stage in planned)
        assert seconds == pytest.approx(930, rel=0.02)


# Previews


def test_previews_show_a_fast_file_at_the_speed_of_the_others(tmp_path):
    for name, fps in (("a", 30), ("b", 30), ("c", 60)):
        write_clip(tmp_path / f"{name}.mp4", shaking(2 * fps, seed=ord(name)), fps=fps)
    store = ingest(find_footage([tmp_path])[0], short_side=16, cache_dir=tmp_path / "cache")
    fast = Span(store.files[2].start, store.files[2].stop)
    windows = Windows(store, [fast], seed=0, mirror=False)
    shown = _preview_windows(windows, Split([], [fast], ""))
    assert np.array_equal(shown[0], store.frames(fast.start, fast.start + 31, 2))


# Added minutes


@pytest.mark.parametrize(
    ("recipe", "added"), [("vae", ["prior"]), ("vaegan", ["prior", "finish"]), ("gan", ["adversarial"])]
)
def test_added_minutes_leave_the_autoencoder_as_it_is(footage, tmp_path, runs, recipe, added, monkeypatch):
    """A retrained one would be sampled with a prior of the old one until the prior has caught up."""
    run = runs(recipe)
    before = checkpoint.load_newest(run / "checkpoints")
    rates = {}
    original = Trainer.train_step

    def train_step(self, step):
        logged = original(self, step)
        rates[step] = next(iter(self.optimizers.values())).param_groups[0]["lr"]
        return logged

    monkeypatch.setattr(Trainer, "train_step", train_step)
    console = Console(file=io.StringIO())
    record = train(footage, run, recipe, minutes=0.03, model="s", add_minutes=0.03, console=console)
    planned = len(RECIPES[recipe].stages)
    assert [stage.name for stage in record.plan.stages[planned:]] == added
    assert record.status == "finished"
    after = checkpoint.load_newest(run / "checkpoints")
    assert after.step == record.plan.steps > before.step
    trained = ("motion_prior.", "early_prior.")
    if "finish" in added or recipe == "gan":
        trained += ("decoder.",)
    for name, value in before.tensors["ema"].items():
        if not name.startswith(trained):
            assert torch.equal(value, after.tensors["ema"][name]), name
    assert any(not torch.equal(v, after.tensors["ema"][n]) for n, v in before.tensors["ema"].items())
    assert rates[before.step + 2] > rates[before.step] > 0, "the rate warms up again"
    (said,) = [line for line in console.file.getvalue().splitlines() if "more minutes" in line]
    assert all(name in said for name in added)
    assert ("autoencoder" in said) == (recipe != "gan")


def test_minutes_added_after_a_kill_are_not_forgotten_at_an_older_replan(footage, tmp_path, monkeypatch):
    """Re-plans beyond the checkpoint that training goes on from were made before the minutes were added."""
    run, original = tmp_path / "run", Trainer.train_step

    def replans():
        return [row["from_step"] for row in read_rows(run / "events.jsonl") if row["kind"] == "replan"]

    def cut_power(self, step):
        if replans():
            raise RuntimeError
        return original(self, step)

    with monkeypatch.context() as patch:
        patch.setattr("reroll.training.budget.CHECKPOINT_SECONDS", 1.0)
        patch.setattr(Trainer, "train_step", cut_power)
        with pytest.raises(RuntimeError):
            train(footage, run, "gan", minutes=0.05, model="s")
    (replanned,) = replans()
    assert checkpoint.load_newest(run / "checkpoints").step < replanned
    record = train(footage, run, "gan", minutes=0.05, model="s", add_minutes=0.03)
    assert len(record.plan.stages) == 3


def test_minutes_are_added_to_a_run_planned_in_steps(footage, tmp_path):
    run = tmp_path / "run"
    planned = train(footage, run, "vae", steps=10, model="s")
    record = train(footage, run, "vae", steps=10, model="s", add_minutes=0.03)
    assert record.status == "finished"
    assert [stage.name for stage in record.plan.stages[len(planned.plan.stages) :]] == ["prior"]
    assert checkpoint.load_newest(run / "checkpoints").step == record.plan.steps > 10


# Mirroring


@pytest.mark.parametrize(("logo", "mirror"), [(False, True), (True, False)])
def test_training_mirrors_as_inspect_says(tmp_path, logo, mirror):
    """A logo too small to be seen in the frames that are trained on turns mirroring off in both."""
    frames = np.concatenate(
        [panning(20, 144, 192, seed=seed, step=3)[:: 1 - seed % 2 * 2] for seed in range(6)]
    )
    if logo:
        frames[:, 12:28, 150:180] = 245
        frames[:, 16:24, 156:174] = 20
    take = write_clip(tmp_path / "take.mp4", frames)
    assert reroll.inspect(take).footage.mirror == mirror
    assert train(take, tmp_path / "run", "gan", steps=2).plan.mirror == mirror


# The size


def test_size_auto_inspects_the_footage_once_and_within_the_minutes(footage, tmp_path, monkeypatch):
    looked, began = [], []

    def look(paths):
        looked.append(time.monotonic())
        return inspect_footage(paths)

    def prepare(config, run, old, cache_dir, started, *rest):
        began.append(started)
        return preparation.prepare(config, run, old, cache_dir, started, *rest)

    monkeypatch.setattr("reroll.api.inspect_footage", look)
    monkeypatch.setattr(preparation, "inspect_footage", look)
    monkeypatch.setattr("reroll.training.loop.prepare", prepare)
    record = train(footage, tmp_path / "run", "gan", size="auto", minutes=0.05, model="s")
    assert record.status == "finished"
    assert len(looked) == 1
    assert began[0] <= looked[0]


# A new run from an older one's weights


def test_init_counts_even_if_the_run_was_ended_before_its_first_checkpoint(
    footage, tmp_path, runs, monkeypatch
):
    began = {}
    original = Trainer.train_step

    def cut_power(*_):
        raise RuntimeError

    def train_step(self, step):
        if step == 0:
            began.update({name: value.clone() for name, value in self.ema.state_dict().items()})
        return original(self, step)

    options = {"steps": 4, "init": runs("gan"), "seed": 9}
    with monkeypatch.context() as patch:
        patch.setattr(Session, "save", cut_power)
        with pytest.raises(RuntimeError):
            train(footage, tmp_path / "new", "gan", **options)
    monkeypatch.setattr(Trainer, "train_step", train_step)
    train(footage, tmp_path / "new", "gan", **options)
    there = checkpoint.load_newest(runs("gan") / "checkpoints").tensors["ema"]
    for name, value in began.items():
        assert torch.equal(value, there[name]), name


@pytest.mark.parametrize("recipe", ["gan", "vaegan"])
def test_init_takes_the_discriminator_too(footage, tmp_path, runs, recipe, monkeypatch):
    began = {}
    original = Trainer.train_step

    def train_step(self, step):
        if step == 0:
            began.update({n: v.clone() for n, v in self.networks.discriminator.state_dict().items()})
        return original(self, step)

    monkeypatch.setattr(Trainer, "train_step", train_step)
    train(footage, tmp_path / "new", recipe, steps=4, init=runs(recipe), seed=9)
    there = checkpoint.load_newest(runs(recipe) / "checkpoints").tensors["discriminator"]
    assert began.keys() == there.keys()
    for name, value in began.items():
        assert torch.equal(value, there[name]), name


@pytest.mark.parametrize(
    ("options", "named"), [({"model": "m"}, "--model s"), ({"recipe": "vae"}, "--recipe gan")]
)
def test_init_with_options_that_its_weights_do_not_fit(footage, tmp_path, runs, options, named):
    """Refused before the footage is read, and nothing is left."""
    missing = footage.parent / "nowhere"
    with pytest.raises(UsageError, match=named) as caught:
        train(missing, tmp_path / "new", **({"recipe": "gan", "steps": 4, "init": runs("gan")} | options))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "new").exists()


def test_init_with_other_labels(tmp_path, runs):
    for number, label in enumerate(("left", "right")):
        toy.write_footage(tmp_path / "clips" / label, seed=number)
    with pytest.raises(UsageError, match="left, right"):
        train(tmp_path / "clips", tmp_path / "new", "gan", steps=4, init=runs("gan"))
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("recipe", ["gan", "vae"])
def test_init_at_another_size(footage, tmp_path, runs, recipe):
    """The weights are the same; what is in the footage is measured anew."""
    record = train(footage, tmp_path / "new", recipe, steps=4, init=runs(recipe), size=48)
    assert record.status == "finished"
    assert min(record.model.height, record.model.width) == 48


def test_a_name_that_is_not_unicode_can_be_trained_on(tmp_path):
    """As old camera cards have them: Latin-1 in a world of UTF-8."""
    toy.write_footage(tmp_path / "clips")
    try:
        os.rename(tmp_path / "clips" / "clip0.mp4", os.fsencode(tmp_path / "clips") + b"/stra\xdfe.mp4")
    except OSError:
        pytest.skip("this file system has no such names")
    train(tmp_path / "clips", tmp_path / "run", "gan", steps=4)
    assert train(tmp_path / "clips", tmp_path / "run", "gan", steps=4).status == "finished"


def test_too_little_memory_is_one_line(footage, tmp_path, monkeypatch):
    """As torch says it on a CPU, and Python itself."""

    def greedy(self, step):
        torch.empty(1 << 60)

    monkeypatch.setattr(Trainer, "train_step", greedy)
    with pytest.raises(SpaceError, match="--size 32") as caught:
        train(footage, tmp_path / "run", "gan", steps=4)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 5


def test_a_disk_too_small_for_the_checkpoints_is_refused_at_the_start(footage, tmp_path, monkeypatch):
    train(footage, tmp_path / "first", "gan", steps=4)
    needed = sum(file.stat().st_size for file in (tmp_path / "first" / "checkpoints").glob("*/*"))
    for free, enough in ((needed // 2, False), (8 * needed, True)):
        monkeypatch.setattr(
            shutil, "disk_usage", lambda _, free=free: shutil._ntuple_diskusage(1 << 40, 0, free)
        )
        if enough:
            assert train(footage, tmp_path / "run", "gan", steps=4).status == "finished"
        else:
            with pytest.raises(SpaceError, match=r"needs \d+ bytes and \d+ are free; make room"):
                train(footage, tmp_path / "run", "gan", steps=4)
            assert not list((tmp_path / "run").rglob("*.safetensors"))


# The same plan again


def test_a_run_in_minutes_can_be_repeated_bit_for_bit(footage, tmp_path, monkeypatch):
    """With a re-plan in the middle and minutes added, which a clock decided."""

    def shorten(plan, step, *_):
        stages = [*plan.stages[:-1], plan.stages[-1].model_copy(update={"steps": plan.stages[-1].steps - 2})]
        return tuple(stages) if step == 10 else None

    monkeypatch.setattr("reroll.training.loop.replan", shorten)
    first, again = tmp_path / "first", tmp_path / "again"
    train(footage, first, "vaegan", minutes=0.12, model="s", seed=3)
    record = train(footage, first, "vaegan", minutes=0.12, model="s", seed=3, add_minutes=0.12)
    assert {row["kind"] for row in read_rows(first / "events.jsonl")} >= {"planned", "replan", "extended"}
    monkeypatch.setattr(
        "reroll.training.loop.replan", lambda *_: pytest.fail("a repeated run looks at no clock")
    )
    repeated = train(footage, again, "vaegan", like=first, seed=3)
    assert repeated.plan == record.plan
    one, other = (checkpoint.load_newest(run / "checkpoints") for run in (first, again))
    assert one.step == other.step
    for name, value in one.tensors["ema"].items():
        assert torch.equal(value, other.tensors["ema"][name]), name


def test_what_cannot_be_repeated_is_refused(footage, tmp_path, runs):
    toy.write_footage(tmp_path / "others", seed=7)
    for options, words in (
        ({"recipe": "gan"}, "recipe"),
        ({"size": 48}, "another size"),
        ({"footage": tmp_path / "others"}, "other footage"),
        ({"minutes": 1.0}, "exclude"),
    ):
        given = {"footage": footage, "recipe": "vae", "like": runs("vae")} | options
        with pytest.raises(UsageError, match=words):
            train(given.pop("footage"), tmp_path / "run", given.pop("recipe"), **given)


def test_a_run_goes_on_with_other_threads_and_says_so(footage, tmp_path, monkeypatch):
    run, console = tmp_path / "run", Console(file=io.StringIO(), width=200)
    train(footage, run, "vae", minutes=0.03, model="s")
    train(footage, run, "vae", minutes=0.03, model="s", add_minutes=0.03, threads=2, console=console)
    assert "threads was 1 and is 2" in console.file.getvalue()


@pytest.mark.parametrize(("lengths", "strides"), [
    ((100,), (1, 2, 4)), ((30,) * 71 + (300,), (1,)), ((62, 62, 20), (1, 2, 4)), ((62, 62, 50), (1, 3)),
    ((40, 40, 70), (1, 2)), ((5,), (1,)),
])  # fmt: skip
def test_keyframes_are_as_far_apart_as_three_quarters_of_the_footage_allow(lengths, strides):
    ends = np.cumsum(lengths).tolist()
    spans = [Span(end - length, end) for end, length in zip(ends, lengths, strict=True)]
    assert choose_strides(spans, 30.0) == strides

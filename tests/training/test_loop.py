"""The loop: what a clock or a signal does to checkpoints changes nothing in what is trained."""

import signal

import pytest
import torch
import toy
from footage_maker import shaking, write_clip

import reroll
from reroll.errors import CheckpointError, InterruptedRun
from reroll.training import checkpoint
from reroll.training.health import Health
from reroll.training.monitor import read_rows
from reroll.training.trainer import NonFiniteError, Trainer

STEPS = 20  # planned checkpoints at every second


pytestmark = pytest.mark.usefixtures("small")


def train(footage, run):
    return reroll.train(footage, run, recipe="gan", steps=STEPS, **toy.QUICK, **toy.silent())


def happen(patch, at):
    """Step → what happens just before it, once."""
    original, left = Trainer.train_step, dict(at)

    def train_step(self, step):
        if step in left:
            left.pop(step)()
        return original(self, step)

    patch.setattr(Trainer, "train_step", train_step)


def fail():
    raise NonFiniteError("planted")


def press_ctrl_c():
    signal.raise_signal(signal.SIGINT)


def cut_power():
    raise RuntimeError


def assert_same(one, two):
    one, two = (checkpoint.load_newest(run / "checkpoints") for run in (one, two))
    for group, tensors in one.tensors.items():
        for name, value in tensors.items():
            assert torch.equal(value, two.tensors[group][name]), f"{group}: {name}"


@pytest.fixture(scope="module")
def faulty(footage, tmp_path_factory):
    """A run that is rolled back at step 7 and never stopped."""
    run = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        happen(patch, {7: fail})
        train(footage, run)
    return run


def test_checkpoints_by_the_clock_are_not_gone_back_to(footage, tmp_path, faulty, monkeypatch):
    saved = []
    original = checkpoint.save
    monkeypatch.setattr(
        checkpoint, "save", lambda *args, **named: saved.append(args[1]) or original(*args, **named)
    )
    monkeypatch.setattr("reroll.training.loop.MOST_UNSAVED_SECONDS", 0.0)
    happen(monkeypatch, {7: fail})
    train(footage, tmp_path / "run")
    assert saved == [*range(8), *range(7, 8), *range(9, STEPS + 1)]
    assert_same(faulty, tmp_path / "run")


def test_a_kill_right_after_going_back_does_not_go_on_from_what_was_left_behind(
    footage, tmp_path, faulty, monkeypatch
):
    """Saved by the clock at 7, back to 6 after the fault, killed there: from 6 again, at half the rate."""

    def fail_and_then_die():
        happen(monkeypatch, {6: cut_power})
        raise NonFiniteError("planted")

    monkeypatch.setattr("reroll.training.loop.MOST_UNSAVED_SECONDS", 0.0)
    happen(monkeypatch, {7: fail_and_then_die})
    with pytest.raises(RuntimeError):
        train(footage, tmp_path / "run")
    train(footage, tmp_path / "run")
    assert_same(faulty, tmp_path / "run")


def test_a_kill_loses_no_more_than_the_clock_allows(footage, tmp_path, monkeypatch):
    monkeypatch.setattr("reroll.training.loop.MOST_UNSAVED_SECONDS", 0.0)
    happen(monkeypatch, {9: cut_power})
    with pytest.raises(RuntimeError):
        train(footage, tmp_path / "run")
    assert checkpoint.load_newest(tmp_path / "run" / "checkpoints").step == 9


@pytest.mark.parametrize("after", [7, 8])
def test_a_stop_before_or_after_a_fault_changes_nothing(footage, tmp_path, faulty, monkeypatch, after):
    """Saved at step 7 by a signal; the fault there goes back to 6, as it does in a run that was not stopped."""
    happen(monkeypatch, {6: press_ctrl_c} if after == 7 else {7: fail, 9: press_ctrl_c})
    with pytest.raises(InterruptedRun):
        train(footage, tmp_path / "run")
    happen(monkeypatch, {7: fail} if after == 7 else {})
    train(footage, tmp_path / "run")
    assert_same(faulty, tmp_path / "run")
    kinds = [row["kind"] for row in read_rows(tmp_path / "run" / "events.jsonl")]
    assert kinds.count("rollback") == 1


def test_a_loss_that_explodes_is_gone_back_from_at_half_the_rate(footage, tmp_path, monkeypatch):
    """It is finite, but no falling rate mends it."""

    def sick(rows):
        events = read_rows(tmp_path / "run" / "events.jsonl")
        before = any(row["kind"] == "rollback" for row in events)
        return [Health("fail", "explosion", "planted", "")] if rows[-1]["step"] == 10 and not before else []

    monkeypatch.setattr("reroll.training.monitor.health", sick)
    record = train(footage, tmp_path / "run")
    assert record.status == "finished"
    (rollback,) = [row for row in read_rows(tmp_path / "run" / "events.jsonl") if row["kind"] == "rollback"]
    assert (rollback["from_step"], rollback["fault"]) == (9, "planted")
    steps = [row["step"] for row in read_rows(tmp_path / "run" / "metrics.jsonl")]
    assert steps == [*range(1, 10), *range(11, STEPS + 1)]


# Stopped before the loop


def stop_while_decoding(patch, number):
    def tell(*rest):
        signal.raise_signal(number)

    patch.setattr("reroll.footage.store._tell_within_file", tell)


def stop_while_timing(patch, number):
    patch.setattr("reroll.training.budget.time_model", lambda *_: signal.raise_signal(number))


@pytest.mark.parametrize("where", [stop_while_decoding, stop_while_timing])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_before_the_first_step_is_one_line(tmp_path, monkeypatch, where, number, code):
    write_clip(tmp_path / "take.mp4", shaking(80, toy.HEIGHT, toy.WIDTH), fps=toy.FPS)
    monkeypatch.setenv("REROLL_CACHE", str(tmp_path / "cache"))
    command = ("train", "take.mp4", "-o", "runs/new", "--size", "32", "--threads", "1", "--precision", "fp32")
    with monkeypatch.context() as patch:
        where(patch, number)
        found, printed, said = toy.run_in(tmp_path, *command, "--minutes", "1", "--recipe", "gan")
    assert found == code, said
    assert printed == ""
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith("reroll: stopped")
    assert sum(line.startswith("reroll: ") for line in said.splitlines()) == 1
    assert not (tmp_path / "runs").exists()
    assert not [path for path in (tmp_path / "cache").rglob("*") if ".tmp" in path.name]
    assert toy.run_in(tmp_path, *command, "--steps", "2", "--recipe", "gan")[0] == 0, (
        "the same footage can be used"
    )


# Samples of a run that is not far enough


def stopped(footage, run, recipe, step):
    with pytest.MonkeyPatch.context() as patch:
        happen(patch, {step - 1: press_ctrl_c} if step else {0: cut_power})
        with pytest.raises((InterruptedRun, RuntimeError)):
            reroll.train(footage, run, recipe=recipe, steps=STEPS, **toy.QUICK, **toy.silent())
    assert checkpoint.load_newest(run / "checkpoints").step == step
    return run


@pytest.mark.parametrize(
    ("recipe", "step", "stage", "needed"),
    [
        ("vae", 3, "autoencoder", "prior"),
        ("vae", 8, "autoencoder", "prior"),
        ("vaegan", 8, "adversarial", "prior"),
        ("gan", 3, "redrawing", "adversarial"),
    ],
)
def test_a_run_whose_prior_has_not_begun_gives_no_noise_for_samples(
    footage, tmp_path, recipe, step, stage, needed
):
    run = stopped(footage, tmp_path / "run", recipe, step)
    with pytest.raises(
        CheckpointError, match=f"{step} of {STEPS} steps, its stage is {stage}.*{needed}"
    ) as caught:
        reroll.load(run)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("recipe", "step"), [("vae", 9), ("gan", 8)])
def test_a_run_whose_prior_has_begun_gives_samples(footage, tmp_path, recipe, step):
    run = stopped(footage, tmp_path / "run", recipe, step)
    assert len(reroll.load(run).sample(0.2, denoise_steps=2).frames) == 5

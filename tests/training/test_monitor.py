"""The monitor: what is written survives kills and resumes, what is said is true, faults are told in words."""

import io
import json
import math

import pytest
import torch
from rich.console import Console

from reroll.errors import SpaceError
from reroll.training import disk
from reroll.training.health import ACTIONS, health
from reroll.training.monitor import Monitor, Pace, StageEstimate, duration, read_rows


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def plain():
    return Console(file=io.StringIO(), width=300)


def said(console):
    return console.file.getvalue().splitlines()


# --- files -----------------------------------------------------------------------------------------------


def test_rows_are_on_disk_at_once_and_are_strict_json(tmp_path):
    with Monitor(tmp_path, plain()) as monitor:
        monitor.log(step=1, stage="prior", loss=0.5, frames_seen=48)
        monitor.log(step=2, stage="prior", loss=math.nan, kl=torch.tensor(1.5))
        lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
        rows = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    assert rows[0]["loss"] == 0.5
    assert rows[0]["frames_seen"] == 48
    assert rows[1]["loss"] is None
    assert rows[1]["kl"] == 1.5
    assert [row["step"] for row in rows] == [1, 2]


def test_a_resumed_run_writes_what_an_uninterrupted_one_would(tmp_path):
    def run(directory, steps, resumed=0):
        clock = Clock()
        with Monitor(directory, plain(), resumed_step=resumed, clock=clock) as monitor:
            for step in steps:
                clock.now += 0.5
                monitor.log(step=step, stage="prior", loss=1 / step)

    run(tmp_path / "straight", range(1, 31))
    run(tmp_path / "cut", range(1, 18))
    with (tmp_path / "cut" / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 18, "sta')  # torn by a kill
    run(tmp_path / "cut", range(11, 31), resumed=10)
    whole, cut = ((tmp_path / name / "metrics.jsonl").read_text() for name in ("straight", "cut"))
    assert whole == cut


def test_a_new_run_starts_with_no_rows_and_events_outlive_a_kill(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 3}\n')
    (tmp_path / "events.jsonl").write_text('{"kind": "plan"}\n{"kind": "hal')
    with Monitor(tmp_path, plain()) as monitor:
        monitor.event("rollback", to_step=4, words="水")
    assert read_rows(tmp_path / "metrics.jsonl") == []
    assert [row["kind"] for row in read_rows(tmp_path / "events.jsonl")] == ["plan", "rollback"]
    assert read_rows(tmp_path / "events.jsonl")[1]["to_step"] == 4


def test_rewinding_within_a_run(tmp_path):
    with Monitor(tmp_path, plain()) as monitor:
        for step in range(1, 9):
            monitor.log(step=step, stage="prior", loss=1.0)
        monitor.rewind(5)
        monitor.log(step=6, stage="prior", loss=2.0)
    assert [(row["step"], row["loss"]) for row in read_rows(tmp_path / "metrics.jsonl")][-2:] == [
        (5, 1),
        (6, 2),
    ]


# --- the line --------------------------------------------------------------------------------------------


def test_the_line_says_all_that_was_promised(tmp_path):
    clock, console = Clock(), plain()
    stages = [StageEstimate("autoencoder", 100, 0.5), StageEstimate("prior", 100, 1.0)]
    with Monitor(tmp_path, console, stages=stages, clock=clock) as monitor:
        for step in range(1, 51):
            clock.now += 0.5
            monitor.log(
                step=step, stage="autoencoder", loss=0.25, kl=1.5, real_sign=0.62, fake_sign=-0.55,
                frames_seen=48 * step,
            )  # fmt: skip
    first, *rest = said(console)
    assert first.startswith("autoencoder  1/200  0%")
    last = rest[-1]
    for part in ("autoencoder  41/200", "1,968 frames, 96/s", "loss 0.25", "kl 1.5", "D +0.62 -0.55", " GB"):
        assert part in last
    assert "2 min 10 s left" in last  # 59 steps of 0.5 s, 100 of 1 s
    assert 2 <= len(rest) <= 3, "one line in ten seconds, not one a step"


def on_a_terminal(folder, *, width, steps, **logged):
    """All that is written there while so many of 20 steps are logged."""
    clock, console = Clock(), Console(file=io.StringIO(), force_terminal=True, width=width, height=20)
    with Monitor(folder, console, stages=[StageEstimate("prior", 20, 1)], clock=clock) as monitor:
        for step in range(1, steps + 1):
            clock.now += 1
            monitor.log(step=step, stage="prior", kl=1.0, flow=0.5, adversarial=1.0, **logged)
    return console.file.getvalue()


def test_a_terminal_gets_one_line_in_place(tmp_path):
    text = on_a_terminal(tmp_path, width=120, steps=20, loss=0.1)
    assert "prior  20/20" in text
    visible = [line for line in text.replace("\r", "\n").split("\n") if "prior" in line]
    assert len(visible) >= 15
    assert text.count("\n") <= 2, "in place, not one below the other"


def test_a_narrow_terminal_hides_nothing(tmp_path):
    text = on_a_terminal(
        tmp_path, width=80, steps=10, frames_seen=1e7, reconstruction=0.1, discriminator=1.4, real_sign=0.5,
        fake_sign=-0.5,
    )  # fmt: skip
    shown = text.rsplit("prior", 1)[1]
    for part in ("frames", "flow 0.5", "discriminator 1.4", "D +0.50 -0.50", "left", "GB"):
        assert part in " ".join(shown.split()), part


def test_a_value_that_is_not_finite_is_shown_as_such(tmp_path):
    console = plain()
    with Monitor(tmp_path, console) as monitor:
        monitor.log(step=1, stage="gan", loss=math.inf)
    assert any("loss not finite" in line for line in said(console))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-3, "0 s"), (44.6, "45 s"), (200, "3 min 20 s"), (3599.7, "1 h 00 min"), (7500, "2 h 05 min")],
)
def test_durations(seconds, words):
    assert duration(seconds) == words


# --- the estimate ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("planned", [0.4, 1.0, 2.0])
def test_the_estimate_holds_within_15_percent_from_a_tenth_on(planned):
    """Steps of about 1 s with noise, a warm-up, a preview of 12 s every 80 steps, a wrong plan."""
    noise = torch.Generator().manual_seed(0)
    took = [1 + 0.2 * float(torch.rand((), generator=noise)) for _ in range(600)]
    took[0] = 9.0
    for step in range(80, 600, 80):
        took[step] += 12
    pace, left = Pace([StageEstimate("prior", 600, planned)]), sum(took)
    for step, seconds in enumerate(took, start=1):
        pace.took("prior", seconds, 1)
        left -= seconds
        if 100 <= step <= 500:
            assert pace.seconds_left(step) == pytest.approx(left, rel=0.15)
    assert pace.seconds_left(600) == 0


def test_a_slower_machine_than_planned_counts_for_later_stages_too():
    pace = Pace([StageEstimate("a", 200, 1.0), StageEstimate("b", 100, 2.0)])
    assert pace.seconds_left(0) == 400
    for _ in range(100):
        pace.took("a", 2.0, 1)
    assert pace.seconds_left(100) == pytest.approx(600, rel=0.06)
    for _ in range(100):
        pace.took("a", 2.0, 1)
    pace.took("b", 4.0, 1)
    assert pace.seconds_left(201) == pytest.approx(396, rel=0.06), "not forgotten where a stage begins"


def test_one_slow_stretch_says_little_about_later_stages():
    pace = Pace([StageEstimate("autoencoder", 1100, 1.0), StageEstimate("prior", 1000, 1.0)])
    for step in range(1000):
        pace.took("autoencoder", 1.0 if step < 900 else 2.0, 1)
    assert pace.seconds_left(1000) == pytest.approx(100 * 2.0 + 1000 * 1.1, rel=0.1)


def test_steps_logged_in_bundles_count_each():
    pace = Pace([StageEstimate("a", 100, 1.0)])
    for _ in range(5):
        pace.took("a", 10.0, 10)
    assert pace.seconds_left(50) == pytest.approx(50)


def test_a_plan_in_steps_is_estimated_as_far_as_it_was_measured(tmp_path):
    clock, console = Clock(), plain()
    stages = [StageEstimate("autoencoder", 40), StageEstimate("prior", 60)]
    with Monitor(tmp_path, console, stages=stages, clock=clock) as monitor:
        for step in range(1, 100):
            clock.now += 2
            monitor.log(step=step, stage="autoencoder" if step <= 40 else "prior", loss=0.1)
    lines = said(console)
    first, last = (next(line for line in lines if f"  {step}/100" in line) for step in (26, 81))
    assert "28 s left in this stage" in first
    assert "38 s left" in last
    assert "stage" not in last, "it is the last one"
    assert not any(" 0 s left" in line for line in lines)


def test_without_a_plan_there_is_no_estimate():
    assert Pace().seconds_left(3) is None


# --- health ----------------------------------------------------------------------------------------------


def rows(count=150, stage="vae", **columns):
    return [
        {"step": step, "stage": stage}
        | {name: value(step) if callable(value) else value for name, value in columns.items()}
        for step in range(1, count + 1)
    ]


def well(step):
    return 0.2 / (1 + step / 20) * (1 + 0.1 * math.sin(step * 7))


FAULTS = {
    "non-finite": rows(40, loss=lambda step: None if step == 40 else 0.1),
    "explosion": rows(150, reconstruction=lambda step: 0.016 * (1 if step < 100 else 6)),
    "posterior collapse": rows(60, reconstruction=well, kl=lambda step: 2 / step**2),
    "discriminator too strong": rows(50, real_sign=1.0, fake_sign=-0.95),
    "discriminator at chance": rows(120, real_sign=0.4, fake_sign=0.38),
    "frozen motion": [*rows(50, flow=well), {"step": 51, "stage": "vae", "motion_energy": 0.1}],
    "restless motion": rows(2, motion_energy=4.0),
    "divergence": rows(
        150, reconstruction=lambda step: 0.016 if step < 100 else 0.016 + 0.001 * (step - 100)
    ),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_is_told_by_name_with_a_remedy(kind):
    found = health(FAULTS[kind])
    assert [finding.kind for finding in found] == [kind]
    assert found[0].remedy == ACTIONS[kind]
    assert found[0].level == ("fail" if kind in ("non-finite", "explosion") else "warn")
    assert kind in str(found[0])
    assert found[0].words


def test_even_signs_with_a_loss_below_chance_are_no_ignorance():
    """The signs are those of the fine verdict only; what the wide one has learnt shows in the loss."""
    signs = {"real_sign": -0.4, "fake_sign": -0.46}
    assert health(rows(120, discriminator=0.56, **signs)) == []
    assert [f.kind for f in health(rows(120, discriminator=0.693, **signs))] == ["discriminator at chance"]


def test_every_fault_has_a_test_and_a_remedy():
    assert FAULTS.keys() == ACTIONS.keys()


@pytest.mark.parametrize("count", [1, 5, 30, 60, 150, 1000])
def test_a_training_that_is_well_raises_no_alarm(count):
    assert (
        health(rows(count, reconstruction=well, kl=1.2, real_sign=0.5, fake_sign=-0.4, motion_energy=0.9))
        == []
    )
    assert health([]) == []


def test_noise_alone_is_no_divergence():
    draw = torch.Generator().manual_seed(1)
    noisy = rows(1000, flow=lambda step: 0.4 + 0.3 * float(torch.rand((), generator=draw)))
    assert health(noisy) == []


def test_a_new_stage_is_judged_by_itself():
    before, after = rows(100, reconstruction=0.01), rows(100, stage="prior", reconstruction=0.5)
    assert health(before + after) == []


def test_faults_are_warned_of_within_50_steps_and_their_end_is_said(tmp_path):
    """Row 13 of the scorecard: a discriminator that starts to win."""
    console = plain()
    with Monitor(tmp_path, console) as monitor:
        for step in range(1, 301):
            strong = 100 <= step < 200
            monitor.log(
                step=step, stage="gan", real_sign=1.0 if strong else 0.5, fake_sign=-1.0 if strong else 0
            )
    events = [row for row in read_rows(tmp_path / "events.jsonl") if row["kind"] == "health"]
    assert [(row["fault"], row["level"]) for row in events] == [
        ("discriminator too strong", "warn"),
        ("discriminator too strong", "over"),
    ]
    assert 100 < events[0]["step"] <= 150
    assert 200 < events[1]["step"] <= 250
    assert sum("health: discriminator too strong" in line for line in said(console)) == 2


def test_a_fault_of_one_stage_is_not_over_because_the_next_has_begun(tmp_path):
    console = plain()
    with Monitor(
        tmp_path, console, stages=[StageEstimate("prior", 33), StageEstimate("finish", 24)]
    ) as monitor:
        for step in range(1, 58):
            stage = "prior" if step <= 33 else "finish"
            measured = {"motion_energy": 0.1 if step < 57 else 0.9} if step in (15, 33, 57) else {}
            monitor.log(step=step, stage=stage, flow=0.1, **measured)
    events = [(row["step"], row["level"]) for row in read_rows(tmp_path / "events.jsonl")]
    assert events == [(15, "warn"), (57, "over")], "the preview of the last step is looked at, too"


@pytest.fixture
def room(monkeypatch):
    """A function that lets no file grow beyond so many bytes; None lets it again."""
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(disk, "WAITS_SECONDS", (0.01, 0.01))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, before if size is None else (size, before[1]))

    yield limit
    limit(None)


def test_a_disk_that_is_full_is_said_and_half_a_row_taken_back(tmp_path, room):
    with Monitor(tmp_path, console := plain()) as monitor:
        monitor.log(step=1, stage="prior", flow=0.1)
        written = (tmp_path / "metrics.jsonl").read_bytes()
        room(len(written) + 9)
        with pytest.raises(SpaceError, match="make room"):
            monitor.log(step=2, stage="prior", flow=0.1)
        room(None)
    assert (tmp_path / "metrics.jsonl").read_bytes() == written
    assert console.file.getvalue().count("trying again") == 2


def test_a_disk_with_room_again_gets_the_row(tmp_path, room):
    console = plain()
    with Monitor(tmp_path, console) as monitor:
        monitor.say = lambda _: room(None)
        room(9)
        monitor.log(step=1, stage="prior", flow=0.1)
    (row,) = read_rows(tmp_path / "metrics.jsonl")
    assert (row["step"], row["flow"]) == (1, 0.1)


def test_a_value_that_is_not_finite_is_reported_in_the_same_step(tmp_path):
    with Monitor(tmp_path, plain()) as monitor:
        assert monitor.log(step=1, stage="gan", loss=1.0) == []
        (found,) = monitor.log(step=2, stage="gan", loss=math.inf, kl=1.0)
    assert (found.level, found.kind, found.words) == ("fail", "non-finite", "loss at step 2")

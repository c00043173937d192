"""The training loop: footage and a configuration in, a run directory out, able to stop and go on at any step.

`train` holds the run's lock and has `preparation.py` make a `Session`, new or put back; `_steps` is the loop itself.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from reroll.config import TrainingConfig
from reroll.errors import CheckpointError, DivergedError, InterruptedRun
from reroll.footage import Inspection
from reroll.training import checkpoint
from reroll.training.budget import CHECKPOINT_SECONDS, replan
from reroll.training.health import SHORT_STEPS
from reroll.training.latents import StoppedError
from reroll.training.lock import lock_run
from reroll.training.preparation import check_same, prepare
from reroll.training.preview import preview
from reroll.training.run import RunRecord, read_record
from reroll.training.session import Session
from reroll.training.trainer import NonFiniteError

REPLAN_AT = (0.0, 0.25, 0.5, 0.75, 0.9)
MOST_ROLLBACKS = 3
MOST_UNSAVED_SECONDS = 1.5 * CHECKPOINT_SECONDS
"""After so long a checkpoint is made although none is planned: steps can be slower than was thought, or not timed."""


def train(
    config: TrainingConfig,
    run: Path,
    *,
    cache_dir: Path,
    add_minutes: float | None = None,
    console: Console | None = None,
    seen: Inspection | None = None,
    started: float | None = None,
) -> RunRecord:
    """Train, or go on with, the run in directory `run`.

    `seen` is the footage's inspection if there was one already, `started` (monotonic) when the minutes began.

    Raises:
        UsageError: The options do not fit together, or not to the run that is there.
        FootageError, CheckpointError, SpaceError, BusyError: As they say.
        DivergedError: Non-finite, or far from its best, three times.
        InterruptedRun: Stopped by a signal; saved.
    """
    started = time.monotonic() if started is None else started
    console = console or Console(stderr=True)
    with lock_run(run):
        old = read_record(run) if (run / "run.json").exists() else None
        if old is not None:
            check_same(old, config)
        if old is not None and old.status == "finished" and add_minutes is None:
            console.print(f"{run} is finished; --add-minutes N goes on with it.")
            return old
        try:
            session = prepare(config, run, old, cache_dir, started, add_minutes, console, seen)
        except KeyboardInterrupt as stop:  # the command makes one of SIGTERM too, with its number
            raise InterruptedRun(
                "stopped before any training, there was nothing to save; give the same command again.",
                128 + int(*stop.args or [signal.SIGINT]),
            ) from None
        with _signals(session), session.monitor:
            session.set_record(plan=session.trainer.plan)
            if not checkpoint.checkpoints(session.checkpoints):
                session.save(0)
            _steps(session)
        return session.record


def _steps(session: Session) -> None:
    """The loop: replay or make a plan change, stage, step, log, preview, checkpoint, stop?"""
    trainer, monitor = session.trainer, session.monitor
    step = trainer.global_step
    while True:
        _apply_plan_changes(session, step)
        if step >= trainer.plan.steps:
            break
        stage, _ = trainer.plan.locate(step)
        if stage != trainer.stage:
            _enter(session, stage, step)
        if step in session.skipped:
            step += 1
            if step == trainer.plan.steps:
                session.save(step)
            continue
        try:
            logged = trainer.train_step(step)
        except NonFiniteError as fault:
            step = _roll_back(session, step, str(fault))
            continue
        step += 1
        session.frames_seen += trainer.frames_in_step
        last = step == trainer.plan.steps
        measured = {}
        if last or step % trainer.plan.preview_every == 0:
            draw = partial(preview, trainer, session.record.fps, session.heldout, session.run, step)
            measured = monitor.patiently(draw)
        findings = monitor.log(
            step=step, stage=trainer.stage_name, frames_seen=session.frames_seen, **logged, **measured
        )
        if exploded := next((finding.words for finding in findings if finding.kind == "explosion"), None):
            step = _roll_back(session, step - 1, exploded, began=step - SHORT_STEPS)
            continue
        planned = last or step % trainer.plan.checkpoint_every == 0
        if planned or session.stop_signal or session.unsaved_seconds > MOST_UNSAVED_SECONDS:
            session.save(step, planned=planned)
        if session.stop_signal and not last:
            _stop(session, step)
    monitor.event("finished", elapsed_seconds=round(session.elapsed_seconds, 1))
    session.set_record(status="finished")


def _enter(session: Session, stage: int, step: int) -> None:
    """Go over to another stage; a signal need not wait for what is encoded then."""
    try:
        session.trainer.enter_stage(stage, stopped=lambda: session.stop_signal > 0)
    except StoppedError:
        session.save(step, planned=False)
        _stop(session, step)
    session.monitor.pause()


def _apply_plan_changes(session: Session, step: int) -> None:
    """Replay the plan change recorded at this step, or measure whether one is due."""
    trainer, monitor = session.trainer, session.monitor
    stage, within = trainer.plan.locate(step)
    if step in session.replans:
        stages = session.replans[step]
    else:
        marks = {max(10, int(share * trainer.plan.stages[stage].steps)) for share in REPLAN_AT}
        if session.deadline is None or within not in marks:
            return
        needed = monitor.pace.seconds_left(step)
        left = session.deadline - time.monotonic()
        found = None if needed is None else replan(trainer.plan, step, needed, left)
        stages = trainer.plan.stages if found is None else found  # a plan that is kept is replayed too
        session.replans[step] = stages
        monitor.event("replan", from_step=step, stages=[stage.model_dump() for stage in stages])
    session.set_stages(stages)


def _roll_back(session: Session, step: int, fault: str, began: int | None = None) -> int:
    """Back to the last good state, if there is one to before the fault `began`, without the batch that broke it and at
    half the rate; the step to go on from."""
    trainer, monitor = session.trainer, session.monitor
    session.skipped.add(step)
    if len(session.skipped) >= MOST_ROLLBACKS:
        monitor.event("rollback", from_step=step, fault=fault)
        session.set_record(status="diverged")
        raise DivergedError(
            f"training broke down {MOST_ROLLBACKS} times, the last at step {step} ({fault}); the last good"
            f" checkpoint is kept in {session.run}. Look at the footage with `reroll inspect`, or use --precision fp32."
        )
    loaded = None
    for latest in (began, None):
        loaded = loaded or checkpoint.load_newest(
            session.checkpoints, finite_only=True, planned_only=True, latest=latest
        )
    if loaded is None:
        raise CheckpointError(
            f"{session.run}: no good checkpoint to go back to; train again into another -o."
        )
    checkpoint.discard_after(session.checkpoints, loaded.step)
    monitor.event("rollback", from_step=step, fault=fault)
    trainer.restore(loaded)
    session.frames_seen = loaded.state["frames_seen"]
    trainer.rate_scale = 0.5 ** len(session.skipped)
    monitor.rewind(loaded.step)
    monitor.say(
        f"step {step}: {fault}; back to step {loaded.step}, that batch is skipped and the rate is halved"
        f" ({len(session.skipped)} of {MOST_ROLLBACKS - 1} times)."
    )
    return loaded.step


def _stop(session: Session, step: int) -> None:
    """End after a signal: everything is saved."""
    number = session.stop_signal
    session.monitor.event("stopped", signal=signal.Signals(number).name)
    session.set_record(status="stopped")
    raise InterruptedRun(
        f"stopped and saved at step {step} of {session.trainer.plan.steps}; the same command goes on from there.",
        128 + number,
    )


@contextmanager
def _signals(session: Session) -> Iterator[None]:
    """Ctrl-C and SIGTERM ask the loop to save and end after the step it is in."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, frame: FrameType | None) -> None:
        session.stop_signal = number

    before: dict[int, Callable[..., Any] | int | None] = {
        number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

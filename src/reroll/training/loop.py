"""The training loop: footage and a configuration in, a run directory out, able to stop and go on at any step.

`train` prepares (lock, footage, engine, plan, networks), `_steps` is the loop itself. What a clock or a fault
changes (re-plans, added minutes, roll-backs) is an event in `events.jsonl`, and events are replayed on resume.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from rich.console import Console

from reroll.config import Plan, StagePlan, TrainingConfig
from reroll.errors import CheckpointError, DivergedError, FootageError, InterruptedRun, UsageError
from reroll.footage import IngestProgress, Split, Store, Windows, find_footage, ingest, split
from reroll.footage.movement import motion_summary
from reroll.recipes import RECIPES
from reroll.training import checkpoint
from reroll.training.budget import WINDOW_FRAMES, Timing, make_plan, model_config, plan_stages, replan
from reroll.training.engine import Engine
from reroll.training.lock import lock_run
from reroll.training.monitor import Monitor, StageEstimate, read_rows
from reroll.training.preview import preview
from reroll.training.run import FootageRecord, RunRecord, load_model, read_record, restore, write_record
from reroll.training.trainer import NonFiniteError, Trainer
from reroll.training.training_state import load_optimizer_state, optimizer_state

REPLAN_AT = (0.0, 0.25, 0.5, 0.75, 0.9)
MOST_ROLLBACKS = 3
PREVIEW_WINDOWS = 4


@dataclass
class Session:
    """What the loop works on."""

    run: Path
    record: RunRecord
    trainer: Trainer
    monitor: Monitor
    heldout: np.ndarray
    deadline: float | None
    """Monotonic time at which the minutes are over; None for a plan in steps."""
    elapsed_before: float
    started: float
    frames_seen: int = 0
    skipped: set[int] = field(default_factory=set)
    replans: dict[int, tuple[StagePlan, ...]] = field(default_factory=dict)
    stop_signal: int = 0

    @property
    def elapsed_seconds(self) -> float:
        """Training time of this run in all its sessions."""
        return self.elapsed_before + time.monotonic() - self.started


def train(
    config: TrainingConfig,
    run: Path,
    *,
    cache_dir: Path,
    add_minutes: float | None = None,
    console: Console | None = None,
) -> RunRecord:
    """Train, or go on with, the run in directory `run`.

    Raises:
        UsageError: The options do not fit together, or not to the run that is there.
        FootageError, CheckpointError, SpaceError, BusyError: As they say.
        DivergedError: Non-finite three times.
        InterruptedRun: Stopped by a signal; saved.
    """
    started = time.monotonic()
    console = console or Console(stderr=True)
    with lock_run(run):
        old = read_record(run) if (run / "run.json").exists() else None
        if old is not None:
            _check_same(old, config)
        if old is not None and old.status == "finished" and add_minutes is None:
            console.print(f"{run} is finished; --add-minutes N goes on with it.")
            return old
        if config.init is not None and old is None:
            read_record(Path(config.init))  # before the footage is read: that may take long
        engine = _engine(config, old)  # before the footage is read too: it checks its options
        store = _ingest(config, cache_dir, console)
        if old is not None and old.fingerprint != store.fingerprint:
            raise UsageError(
                f"{run} was trained on other footage (the files' contents differ); choose another -o, or --init {run}."
            )
        parts = split(store, WINDOW_FRAMES)
        movement = motion_summary(store)
        for item in store.skipped:
            console.print(
                f"skipped: {item.path}: {item.reason}", highlight=False, markup=False, soft_wrap=True
            )
        short = Windows(store, parts.train, seed=0, mirror=False).notes(WINDOW_FRAMES)
        for note in [*engine.notes, *store.notes, *short, parts.reason, movement.mirror_reason]:
            console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
        prepared = _prepare(
            config, run, old, store, parts, engine, started, add_minutes, movement.mirror, console
        )
        with _signals(prepared), prepared.monitor:
            _steps(prepared)
        return prepared.record


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
            trainer.enter_stage(stage)
            monitor.pause()
        if step in session.skipped:
            step += 1
            if step == trainer.plan.steps:
                _save(session, step)
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
            measured = preview(trainer, session.record.fps, session.heldout, session.run, step)
        monitor.log(
            step=step, stage=trainer.stage_name, frames_seen=session.frames_seen, **logged, **measured
        )
        if last or session.stop_signal or step % trainer.plan.checkpoint_every == 0:
            _save(session, step)
        if session.stop_signal and not last:
            _stop(session, step)
    monitor.event("finished", elapsed_seconds=round(session.elapsed_seconds, 1))
    _set_record(session, status="finished")


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
    trainer.plan = trainer.plan.model_copy(update={"stages": stages})
    _set_record(session, plan=trainer.plan)
    monitor.plan(_estimates(trainer.plan))


def _roll_back(session: Session, step: int, fault: str) -> int:
    """Back to the last good state, without the batch that broke it and at half the rate; the step to go on from."""
    trainer, monitor = session.trainer, session.monitor
    session.skipped.add(step)
    monitor.event("rollback", from_step=step, fault=fault)
    if len(session.skipped) >= MOST_ROLLBACKS:
        _set_record(session, status="diverged")
        raise DivergedError(
            f"training became non-finite {MOST_ROLLBACKS} times, the last at step {step} ({fault}); the last good"
            f" checkpoint is kept in {session.run}. Look at the footage with `reroll inspect`, or use --precision fp32."
        )
    loaded = checkpoint.load_newest(session.run / "checkpoints", finite_only=True)
    if loaded is None:
        raise CheckpointError(
            f"{session.run}: no good checkpoint to go back to; train again into another -o."
        )
    _restore(trainer, loaded)
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
    _set_record(session, status="stopped")
    raise InterruptedRun(
        f"stopped and saved at step {step} of {session.trainer.plan.steps}; the same command goes on from there.",
        128 + number,
    )


# Preparation


def _ingest(config: TrainingConfig, cache_dir: Path, console: Console) -> Store:
    """Find and read the footage."""
    files, skipped = find_footage([Path(path) for path in config.footage])
    for item in skipped:
        console.print(f"skipped: {item.path}: {item.reason}", highlight=False, markup=False, soft_wrap=True)
    if not files:
        first = f"; {skipped[0].path}: {skipped[0].reason}" if skipped else ""
        raise FootageError(f"no footage in {', '.join(config.footage)}{first}.")

    shown = 0.0

    def progress(now: IngestProgress) -> None:
        nonlocal shown
        if time.monotonic() - shown > 5.0:
            shown = time.monotonic()
            console.print(
                f"{now.stage} {now.file.name}: {now.fraction:.0%}, {now.frames_decoded:,} frames",
                highlight=False, markup=False,
            )  # fmt: skip

    return ingest(files, short_side=config.size, cache_dir=cache_dir, progress=progress)


def _engine(config: TrainingConfig, old: RunRecord | None) -> Engine:
    """A started engine; a run goes on with the precision and threads it began with, which its bits depend on."""
    if old is None:
        return Engine.start(config.device, config.precision, config.threads, config.seed)
    threads = config.threads or int(old.engine["threads"])
    engine = Engine.start(config.device, str(old.engine["precision"]), threads, config.seed)
    now = engine.describe()
    for key in ("torch", "device", "cpu", "threads"):
        if now[key] != old.engine[key]:
            engine.notes.append(
                f"{key} was {old.engine[key]} and is {now[key]}: the run goes on, not bit for bit"
            )
    return engine


def _check_same(old: RunRecord, config: TrainingConfig) -> None:
    """UsageError naming the options that differ from those the run was started with."""
    ours, theirs = config.model_dump(), old.config.model_dump()
    differ = [f"--{key} {theirs[key]} there, {ours[key]} here" for key in theirs if ours[key] != theirs[key]]
    if differ:
        raise UsageError(
            f"the run that is there was started with other options ({'; '.join(differ)}); use the same ones to go on,"
            " or choose another -o."
        )


def _prepare(
    config: TrainingConfig, run: Path, old: RunRecord | None, store: Store, parts: Split, engine: Engine,
    started: float, add_minutes: float | None, mirror: bool,
    console: Console,
) -> Session:  # fmt: skip
    """Plan (or the stored one), networks, and where the run stands."""
    recipe = RECIPES[config.recipe]
    fps = round(float(np.median([file.fps for file in store.files])), 6)
    mirror = mirror if old is None else old.plan.mirror
    windows = Windows(store, parts.train, seed=config.seed, mirror=mirror)
    init = None if config.init is None or old is not None else read_record(Path(config.init))
    if old is None:
        plan = make_plan(
            engine, recipe, store, windows, fps=fps, seed=config.seed, steps=config.steps, mirror=mirror,
            model=config.model if init is None else init.plan.model, started=started,
            seconds_left=None if config.minutes is None else config.minutes * 60,
        )  # fmt: skip
        record = _new_record(config, store, parts, engine, plan, fps)
    else:
        record = old.model_copy(update={"status": "training"})
    trainer = Trainer(engine, recipe, record.model, store, windows, record.plan, config.seed)
    checkpoint.sweep(run / "checkpoints")
    refused: list[str] = []
    loaded = checkpoint.load_newest(run / "checkpoints", refused.append) if old is not None else None
    state: dict[str, Any] = {} if loaded is None else loaded.state
    monitor = Monitor(
        run, console, stages=_estimates(record.plan), resumed_step=0 if loaded is None else loaded.step
    )
    for line in refused:
        monitor.say(line)
    session = Session(
        run, record, trainer, monitor, _preview_windows(windows, store, parts), None,
        state.get("elapsed_seconds", 0.0), started,
    )  # fmt: skip
    _replay_events(session)
    if loaded is not None:
        session.frames_seen = state["frames_seen"]
        _restore(trainer, loaded)
    else:
        if init is not None:
            _start_from(trainer, Path(config.init or ""), init)
        trainer.enter_stage(0)
    _set_deadline(session, config, add_minutes)
    _set_record(session, plan=trainer.plan)
    if loaded is None:
        _save(session, 0)
    return session


def _set_deadline(session: Session, config: TrainingConfig, add_minutes: float | None) -> None:
    """When the minutes are over; added minutes become the recipe's stages once more, after those that are done."""
    trainer = session.trainer
    if add_minutes is not None and not _is_added(session.run, add_minutes):
        if session.record.config.minutes is None and not trainer.plan.seconds_per_step:
            raise UsageError(
                "--add-minutes: this run was planned in --steps; start a new one with --init instead."
            )
        timing = Timing(trainer.plan.model, trainer.plan.seconds_per_step)
        stages = (*trainer.plan.stages, *plan_stages(trainer.recipe, timing, add_minutes * 60))
        at = trainer.global_step
        trainer.plan = trainer.plan.model_copy(update={"stages": stages})
        session.replans[at] = stages
        session.monitor.event(
            "extended", from_step=at, minutes=add_minutes, stages=[s.model_dump() for s in stages]
        )
        session.monitor.plan(_estimates(trainer.plan))
    added = sum(row["minutes"] for row in _events(session.run, "extended"))
    if config.minutes is not None:
        total = (config.minutes + added) * 60
        session.deadline = session.started + total - session.elapsed_before


def _is_added(run: Path, minutes: float) -> bool:
    """Whether so many minutes were added and then stopped: the same command again goes on with them."""
    rows = _events(run, "extended", "finished")
    return bool(rows) and rows[-1]["kind"] == "extended" and rows[-1]["minutes"] == minutes


def _replay_events(session: Session) -> None:
    """What earlier sessions of this run decided."""
    for row in _events(session.run, "replan", "extended"):
        session.replans[row["from_step"]] = tuple(StagePlan.model_validate(stage) for stage in row["stages"])
    session.skipped = {row["from_step"] for row in _events(session.run, "rollback")}
    session.trainer.rate_scale = 0.5 ** len(session.skipped)


def _events(run: Path, *kinds: str) -> list[dict[str, Any]]:
    return [row for row in read_rows(run / "events.jsonl") if row.get("kind") in kinds]


def _new_record(
    config: TrainingConfig, store: Store, parts: Split, engine: Engine, plan: Plan, fps: float
) -> RunRecord:
    """`run.json` of a new run."""
    files = tuple(
        FootageRecord(
            path=file.path, sha256=file.sha256, seconds=file.seconds, frames=file.stop - file.start,
            label=None if file.label is None else store.labels[file.label],
        )
        for file in store.files
    )  # fmt: skip
    return RunRecord(
        version=version("reroll"), config=config, model=model_config(plan.model, RECIPES[config.recipe], store),
        plan=plan, engine=engine.describe(), footage=files, store=str(store.path), fingerprint=store.fingerprint,
        fps=fps, split=parts.reason, notes=tuple(store.notes),
    )  # fmt: skip


def _preview_windows(windows: Windows, store: Store, parts: Split) -> np.ndarray:
    """A few fixed windows, held out where the footage allows it: uint8 `N T H W 3`."""
    spans = parts.heldout or parts.train
    source = Windows(store, spans, seed=0, mirror=False)
    found = source.disjoint(WINDOW_FRAMES)
    if not found:
        return windows.batch(0, batch=PREVIEW_WINDOWS, frames=WINDOW_FRAMES, strides=(1,)).frames
    picked = [found[i] for i in np.linspace(0, len(found) - 1, min(PREVIEW_WINDOWS, len(found))).astype(int)]
    return np.stack([store.frames(start, stop) for start, stop in picked])


def _start_from(trainer: Trainer, path: Path, init: RunRecord) -> None:
    """Begin with an older run's averaged weights."""
    if init.config.recipe != trainer.recipe.name or init.model.labels != trainer.networks.model.config.labels:
        raise UsageError(
            f"--init {path}: that run has another recipe or other labels; use --recipe {init.config.recipe}."
        )
    model, _ = load_model(path, init)
    trainer.networks.model.load_state_dict(model.state_dict())
    trainer.ema.load_state_dict(model.state_dict())


# Checkpoints


def _save(session: Session, step: int) -> None:
    """A checkpoint after `step` steps: weights, averages, discriminator, optimizers, and where the run stands."""
    trainer = session.trainer
    tensors = {"model": trainer.networks.model.state_dict(), "ema": trainer.ema.state_dict()}
    if trainer.networks.discriminator is not None:
        tensors["discriminator"] = trainer.networks.discriminator.state_dict()
    optimizers = {}
    for name, optimizer in trainer.optimizers.items():
        tensors[f"optimizer-{name}"], optimizers[name] = optimizer_state(optimizer)
    state = {
        "stage": trainer.stage, "augmentation": trainer.augmentation, "optimizers": optimizers,
        "elapsed_seconds": session.elapsed_seconds, "frames_seen": session.frames_seen,
        "plan": trainer.plan.model_dump(),
    }  # fmt: skip
    checkpoint.save(session.run / "checkpoints", step, tensors, state)


def _restore(trainer: Trainer, loaded: checkpoint.Loaded) -> None:
    """Put a checkpoint back."""
    trainer.plan = Plan.model_validate(loaded.state["plan"])
    restore(trainer.networks.model, loaded.tensors["model"], loaded.path)
    restore(trainer.ema, loaded.tensors["ema"], loaded.path)
    if trainer.networks.discriminator is not None:
        restore(trainer.networks.discriminator, loaded.tensors["discriminator"], loaded.path)
    trainer.enter_stage(loaded.state["stage"], resumed=True)
    for name, optimizer in trainer.optimizers.items():
        load_optimizer_state(
            optimizer, loaded.tensors.get(f"optimizer-{name}", {}), loaded.state["optimizers"][name]
        )
    trainer.augmentation = loaded.state["augmentation"]
    trainer.global_step = loaded.step


def _set_record(session: Session, **changes: object) -> None:
    session.record = session.record.model_copy(update=changes)
    write_record(session.run, session.record)


def _estimates(plan: Plan) -> list[StageEstimate]:
    """The plan for the ETA; a plan in steps was not timed, its ETA covers the stage that is measured."""
    return [StageEstimate(s.name, s.steps, plan.seconds_per_step.get(s.name, 0.0)) for s in plan.stages]


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

"""What comes before the first step: footage read, engine started, minutes planned, networks made or put back.

In: a configuration and, if there is one, the record of the run to go on with. Out: a `Session`. Whatever can be
refused is refused before footage is read, which may take long, or at least before anything is written.
"""

import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from reroll.config import TrainingConfig
from reroll.errors import CheckpointError, FootageError, UsageError
from reroll.footage import IngestProgress, Split, Store, Windows, find_footage, ingest, split
from reroll.footage.container import shown
from reroll.footage.inspect import Inspection, inspect_footage
from reroll.footage.probe import Skipped
from reroll.recipes import RECIPES
from reroll.training import checkpoint
from reroll.training.budget import WINDOW_FRAMES, Timing, make_plan, model_config, plan_stages, time_model
from reroll.training.engine import Engine
from reroll.training.footprint import require_memory
from reroll.training.monitor import Monitor
from reroll.training.run import FootageRecord, RunRecord, read_record, restore, restore_judges
from reroll.training.session import Session, estimates, events, first_plan
from reroll.training.trainer import Trainer

PREVIEW_WINDOWS = 4


def check_same(old: RunRecord, config: TrainingConfig) -> None:
    """UsageError naming the options that differ from those the run was started with. It may go on with other threads or
    on another device, which is said."""
    ours, theirs = (
        each.model_dump(exclude={"threads", "device", "owner", "licence"}) for each in (config, old.config)
    )
    differ = [f"--{key} {theirs[key]} there, {ours[key]} here" for key in theirs if ours[key] != theirs[key]]
    if differ:
        raise UsageError(
            f"the run that is there was started with other options ({'; '.join(differ)}); use the same ones to go on,"
            " or choose another -o."
        )


def prepare(
    config: TrainingConfig, run: Path, old: RunRecord | None, cache_dir: Path, started: float,
    add_minutes: float | None, console: Console, seen: Inspection | None = None,
) -> Session:  # fmt: skip
    """A session of the run in `run`, new (`old` is None) or going on; `started` is monotonic, `seen` the footage's
    inspection if there was one already."""
    init = _read_other("init", config.init, config) if old is None else None
    like = _read_other("like", config.like, config) if old is None else None
    engine = _engine(config, old or like)
    store = _ingest(config, cache_dir, console)
    parts = split(store, WINDOW_FRAMES)
    if old is not None and old.fingerprint != store.fingerprint:
        raise UsageError(
            f"{run} was trained on other footage (the files' contents differ); choose another -o, or --init {run}."
        )
    if init is not None and list(init.model.labels) != store.labels:
        raise UsageError(
            f"--init {config.init}: that run's labels are {', '.join(init.model.labels) or 'none'}, this footage's"
            f" {', '.join(store.labels) or 'none'}; name the subfolders alike."
        )
    if like is not None and (like.fingerprint, like.config.size) != (store.fingerprint, config.size):
        raise UsageError(
            f"--like {config.like}: that run was trained on other footage or at another size; give the same."
        )
    notes = [*engine.notes, *store.notes, parts.reason]
    if old is None:
        # not the store: `train` is to mirror as `inspect` says
        seen = seen or inspect_footage(config.footage)
        notes.append(seen.mirror_reason)
        mirror = seen.mirror if like is None else like.plan.mirror
    else:
        mirror = old.plan.mirror
    windows = Windows(store, parts.train, seed=config.seed, mirror=mirror)
    _tell_skipped(store.skipped, console)
    for note in [*notes, *windows.notes(WINDOW_FRAMES)]:
        console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
    if old is None:
        model = config.model if init is None else init.plan.model
        record = _new_record(config, windows, parts, engine, model, started, like)
    else:
        require_memory(engine, config.recipe, old.plan.model, store.height, store.width)
        record = old.model_copy(update={"status": "training"})
    return _session(config, run, record, windows, parts, engine, started, add_minutes, console)


def _session(
    config: TrainingConfig, run: Path, record: RunRecord, windows: Windows, parts: Split, engine: Engine,
    started: float, add_minutes: float | None, console: Console,
) -> Session:  # fmt: skip
    """Networks, new or put back, and where the run stands."""
    trainer = Trainer(engine, RECIPES[config.recipe], record.model, windows, record.plan, config.seed)
    trainer.started_from = config.init is not None
    begun = (run / "run.json").exists()
    if not begun:  # what a start that came to nothing left behind
        (run / "events.jsonl").unlink(missing_ok=True)
    loaded = _put_back(trainer, run, console) if begun else None
    if loaded is None:
        if config.init is not None:
            _start_from(trainer, Path(config.init))
        trainer.enter_stage(0)
    state: dict[str, Any] = {} if loaded is None else loaded.state
    monitor = Monitor(run, console, stages=estimates(record.plan), resumed_step=trainer.global_step)
    session = Session(
        run, record, trainer, monitor, _preview_windows(windows, parts), None,
        state.get("elapsed_seconds", 0.0), started, state.get("frames_seen", 0),
    )  # fmt: skip
    session.require_space()
    if not begun:
        _plan_is_known(session, config)
    session.replay_events()
    if add_minutes is not None and not _is_added(run, add_minutes):
        _add(session, add_minutes)
    if config.minutes is not None:
        total = config.minutes + sum(row["minutes"] for row in events(run, "extended"))
        session.deadline = started + total * 60 - session.elapsed_before
    return session


def _plan_is_known(session: Session, config: TrainingConfig) -> None:
    """Write down the first plan of a new run, for others to be like it, and what changed that of the run it is like."""
    session.monitor.event("planned", plan=session.record.plan.model_dump())
    if config.like is not None:
        for row in events(Path(config.like), "replan", "extended"):
            kept = {name: value for name, value in row.items() if name not in ("at", "step")}
            session.monitor.event(**kept | {"copied": True})


def _put_back(trainer: Trainer, run: Path, console: Console) -> checkpoint.Loaded | None:
    """The newest checkpoint that verifies, put back; None if the run was ended before there was one."""
    checkpoint.sweep(run / "checkpoints")
    loaded = checkpoint.load_newest(
        run / "checkpoints",
        lambda line: console.print(line, highlight=False, markup=False, soft_wrap=True),
    )
    if loaded is not None:
        trainer.restore(loaded)
    return loaded


def _ingest(config: TrainingConfig, cache_dir: Path, console: Console) -> Store:
    """Find and read the footage."""
    files, skipped = find_footage([Path(path) for path in config.footage])
    _tell_skipped(skipped, console)
    if not files:
        first = f"; {shown(skipped[0].path)}: {skipped[0].reason}" if skipped else ""
        raise FootageError(f"no footage in {', '.join(config.footage)}{first}.")

    told = 0.0

    def progress(now: IngestProgress) -> None:
        nonlocal told
        if time.monotonic() - told > 5.0:
            told = time.monotonic()
            console.print(
                f"{now.stage} {shown(now.file.name)}: {now.fraction:.0%}, {now.frames_decoded:,} frames",
                highlight=False, markup=False,
            )  # fmt: skip

    return ingest(files, short_side=config.size, cache_dir=cache_dir, progress=progress)


def _tell_skipped(skipped: Sequence[Skipped], console: Console) -> None:
    for item in skipped:
        console.print(
            f"skipped: {shown(item.path)}: {item.reason}", highlight=False, markup=False, soft_wrap=True
        )


def _engine(config: TrainingConfig, old: RunRecord | None) -> Engine:
    """A started engine; a run goes on with the precision and threads it began with, which its bits depend on."""
    if old is None:
        return Engine.start(config.device, config.precision, config.threads, config.seed)
    threads = config.threads or int(old.engine["threads"])
    precision = str(old.engine["precision"]) if config.precision == "auto" else config.precision
    engine = Engine.start(config.device, precision, threads, config.seed)
    now = engine.describe()
    for key in ("torch", "device", "precision", "cpu", "threads"):
        if now[key] != old.engine[key]:
            engine.notes.append(
                f"{key} was {old.engine[key]} and is {now[key]}: not bit for bit as it would have been there"
            )
    return engine


def _new_record(
    config: TrainingConfig, windows: Windows, parts: Split, engine: Engine, model: str, started: float,
    like: RunRecord | None,
) -> RunRecord:  # fmt: skip
    """`run.json` of a new run, its plan made, or the first one of the run it is to be `like`."""
    store, recipe = windows.store, RECIPES[config.recipe]
    fps = round(float(np.median([file.fps for file in store.files])), 6)
    if like is not None:
        assert config.like is not None
        plan = first_plan(Path(config.like), like)
        require_memory(engine, config.recipe, plan.model, store.height, store.width)
    else:
        plan = make_plan(
            engine, recipe, store, windows, fps=fps, seed=config.seed, steps=config.steps, mirror=windows.mirror,
            model=model, started=started, seconds_left=None if config.minutes is None else config.minutes * 60,
        )  # fmt: skip
    files = tuple(
        FootageRecord(
            path=file.path, sha256=file.sha256, seconds=file.seconds, frames=file.stop - file.start,
            label=None if file.label is None else store.labels[file.label],
        )
        for file in store.files
    )  # fmt: skip
    return RunRecord(
        version=version("reroll"), config=config, model=model_config(plan.model, recipe, store),
        plan=plan, engine=engine.describe(), footage=files, store=str(store.path), fingerprint=store.fingerprint,
        fps=fps, split=parts.reason, notes=tuple(store.notes),
    )  # fmt: skip


def _preview_windows(windows: Windows, parts: Split) -> np.ndarray:
    """A few fixed windows, held out where the footage allows it: uint8 `N T H W 3`."""
    store = windows.store
    spans = parts.heldout or parts.train
    source = Windows(store, spans, seed=0, mirror=False)
    found = source.fixed(WINDOW_FRAMES)
    if not found:
        return windows.batch(0, batch=PREVIEW_WINDOWS, frames=WINDOW_FRAMES, strides=(1,)).frames
    picked = [found[i] for i in np.linspace(0, len(found) - 1, min(PREVIEW_WINDOWS, len(found))).astype(int)]
    return np.stack([store.frames(*window) for window in picked])


def _read_other(name: str, path: str | None, config: TrainingConfig) -> RunRecord | None:
    """The record of the run given as `--init` or `--like`, if any. UsageError: it is of another recipe or model."""
    if path is None:
        return None
    other = read_record(Path(path))
    for option, asked, there in (
        ("recipe", config.recipe, other.config.recipe),
        ("model", config.model, other.plan.model),
    ):
        if asked not in ("auto", there):
            raise UsageError(
                f"--{name} {path}: that run's {option} is {there}, which fits no other; use --{option} {there}."
            )
    return other


def _start_from(trainer: Trainer, path: Path) -> None:
    """Begin with an older run's averaged weights, and with its discriminator; its size may be another. What is in the
    footage (`content`) is measured anew."""
    loaded = checkpoint.load_newest(path / "checkpoints", finite_only=True)
    if loaded is None:
        raise CheckpointError(
            f"{path}: no checkpoint to start from yet; let `reroll train` go on there first."
        )
    networks = trainer.networks
    for module in (networks.model, trainer.ema):
        restore(module, loaded.tensors["ema"], loaded.path, but="content.")
    restore_judges(networks, loaded)


def _add(session: Session, minutes: float) -> None:
    """Added minutes become the recipe's repeating stages once more, after those that are done."""
    trainer = session.trainer
    plan = trainer.plan
    if plan.seconds_per_step:
        timing = Timing(plan.model, plan.seconds_per_step)
    else:  # planned in steps
        timing = time_model(
            trainer.engine, trainer.recipe, plan.model, trainer.data.store, trainer.data, plan, trainer.seed
        )
    specs = [spec for spec in trainer.recipe.stages if spec.repeats]
    more = plan_stages(specs, timing, minutes * 60, "--add-minutes")
    stages = (*plan.stages, *more)
    session.monitor.event(
        "extended", from_step=trainer.global_step, minutes=minutes, stages=[s.model_dump() for s in stages]
    )
    session.replay_events()
    session.set_stages(stages)
    kept = [spec.name for spec in trainer.recipe.stages if not spec.repeats]
    session.monitor.say(
        f"{minutes:g} more minutes: " + ", ".join(f"{stage.name} {stage.steps:,} steps" for stage in more)
        + (f"; none for {' and '.join(kept)}." if kept else ".")
    )  # fmt: skip


def _is_added(run: Path, minutes: float) -> bool:
    """Whether so many minutes were added and then stopped: the same command again goes on with them."""
    rows = events(run, "extended", "finished")
    last = rows[-1] if rows else {}
    return last.get("kind") == "extended" and last["minutes"] == minutes and not last.get("copied")

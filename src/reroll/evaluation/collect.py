"""A run → what its report is made from: samples, a loop, footage windows, reconstructions, curves, commands."""

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from reroll.errors import CheckpointError, FootageError
from reroll.evaluation.comparison import OtherReport
from reroll.evaluation.judge import evenly
from reroll.evaluation.nearest import RUN_FRAMES, Place, TrainingFootage
from reroll.evaluation.report import FootageNote, ReportInput, make_report
from reroll.footage import Store, Windows, find_footage, ingest, split
from reroll.footage.dataset import usual_strides
from reroll.sampling.sampler import Sampler, SampleSettings
from reroll.training.machine import cache_dir
from reroll.training.monitor import read_rows
from reroll.training.run import RunRecord
from reroll.training.session import events

MOST_WINDOWS, MOST_REBUILT = 256, 8
SAMPLE_SECONDS, LOOP_SECONDS = 6.0, 3.0


def write_report(
    run: Path, record: RunRecord, sampler: Sampler, others: Sequence[OtherReport], samples: int
) -> Path:
    """Sample, measure, and write `report.html` and `report.json` into the run; the page's path.

    Raises:
        CheckpointError: The footage of the run is gone, or another, and cannot be compared with.
    """
    store = _footage(run, record)
    frames = record.plan.window_frames
    parts = split(store, frames)
    trained_on = Windows(store, parts.train, seed=0, mirror=False)
    train, places = _windows(trained_on, frames, frames // 4)
    heldout = (
        _windows(Windows(store, parts.heldout, seed=0, mirror=False), frames)[0]
        if parts.heldout
        else np.zeros((0, *train.shape[1:]), np.uint8)
    )
    length = max(frames, round(SAMPLE_SECONDS * record.fps))
    base = SampleSettings(frames=length, fps=record.fps)
    made = np.stack([_sample(sampler, base, seed) for seed in range(samples)])
    looped = replace(base, frames=max(8, round(LOOP_SECONDS * record.fps)), loop=True)
    rebuilt, rebuilt_of = None, ""
    if record.model.encoder:
        originals = evenly(heldout if len(heldout) else train, MOST_REBUILT)
        rebuilt = originals, np.stack([_rebuild(sampler, window) for window in originals])
        rebuilt_of = "held-out footage" if len(heldout) else "training footage"
    config = record.config
    given = ReportInput(
        run_dir=run, title=run.resolve().name, recipe=config.recipe,
        settings={"asked": config.model_dump(), "plan": record.plan.model_dump(), "machine": record.engine,
                  "sampling": {"denoise_steps": base.denoise_steps, "seconds": SAMPLE_SECONDS,
                               "seeds": f"0-{samples - 1}"}},
        fps=record.fps, samples=made, train_windows=train, heldout_windows=heldout, split_reason=record.split,
        metrics=read_rows(run / "metrics.jsonl"), events=read_rows(run / "events.jsonl"),
        health=[f"{row['fault']}: {row['words']}" for row in events(run, "health") if "words" in row],
        footage_files=[FootageNote(Path(file.path).name, file.sha256) for file in record.footage],
        commands=_commands(run, record), loop=_sample(sampler, looped, 0), rebuilt=rebuilt, rebuilt_of=rebuilt_of,
        places=places, searched=_searched(trained_on, frames, mirrored=record.plan.mirror),
        footage_clips=_stretches(store, length), other_runs=others,
    )  # fmt: skip
    return make_report(given)


def _footage(run: Path, record: RunRecord) -> Store:
    """The run's decoded footage, read again if it is gone."""
    try:
        return Store.open(Path(record.store))
    except FootageError:
        pass
    try:
        files, _ = find_footage(record.config.footage)
        store = ingest(files, short_side=record.config.size, cache_dir=cache_dir())
    except FootageError as error:
        raise CheckpointError(
            f"{run}: the footage it is compared with cannot be read again ({error}); bring it back to where it was."
        ) from None
    if store.fingerprint != record.fingerprint:
        raise CheckpointError(
            f"{run}: the footage it is compared with is not what it was in training, or this version of reroll reads it"
            " in another way; bring back what it was, or train again."
        )
    return store


def _sample(sampler: Sampler, settings: SampleSettings, seed: int) -> np.ndarray:
    return np.concatenate(list(sampler.frames(replace(settings, seed=seed))))


def _rebuild(sampler: Sampler, window: np.ndarray) -> np.ndarray:
    """Footage through Encoder and Decoder: uint8 `T H W 3`."""
    return np.concatenate(list(sampler.decode(sampler.encode(window))))


def _windows(windows: Windows, frames: int, every: int | None = None) -> tuple[np.ndarray, list[Place]]:
    """Windows to measure distances to, evenly chosen of those that begin every so many frames, and their places.

    Where all shots are shorter than a window they are played to and fro, as in training.
    """
    store = windows.store
    found = [np.arange(*window) for window in windows.fixed(frames, every)] or [
        indices[start : start + frames]
        for indices in windows.passes(frames, frames)
        for start in range(0, len(indices) - frames + 1, every or frames)
    ]
    picked = [found[i] for i in np.linspace(0, len(found) - 1, min(MOST_WINDOWS, len(found))).astype(int)]
    firsts = np.asarray([int(i[0]) for i in picked])
    files, names = np.searchsorted([file.stop for file in store.files], firsts, side="right"), _names(store)
    places = [Place(names[f], float(store.timestamps[i])) for f, i in zip(files, firsts, strict=True)]
    return np.stack([_read(store, i) for i in picked]), places


def _names(store: Store) -> list[str]:
    """A name for each file by which it can be told from the others."""
    paths = [Path(file.path) for file in store.files]
    often = Counter(path.name for path in paths)
    return [path.name if often[path.name] == 1 else "/".join(path.parts[-2:]) for path in paths]


def _searched(windows: Windows, frames: int, *, mirrored: bool) -> TrainingFootage:
    """All that windows of so many frames can show of their footage, for the copy check."""
    store = windows.store
    return TrainingFootage(
        passes=windows.passes(frames, min(RUN_FRAMES, frames)),
        read=partial(_read, store),
        names=_names(store),
        file=np.repeat(np.arange(len(store.files)), [file.stop - file.start for file in store.files]),
        seconds=store.timestamps,
        mirrored=mirrored,
    )


def _read(store: Store, indices: np.ndarray) -> np.ndarray:
    """Frames uint8 `T H W 3` at store indices in any order; neighbours are read together."""
    ends = np.flatnonzero(np.diff(indices) != 1) + 1
    return np.concatenate([store.frames(int(part[0]), int(part[-1]) + 1) for part in np.split(indices, ends)])


def _stretches(store: Store, length: int) -> list[np.ndarray]:
    """Up to three longer pieces of footage for watching."""
    strides = usual_strides(store)
    longest = sorted(store.shots, key=lambda shot: (shot.start - shot.stop) / strides[shot.file])[:3]
    return [
        store.frames(shot.start, min(shot.stop, shot.start + length * strides[shot.file]), strides[shot.file])
        for shot in longest
    ]


def _commands(run: Path, record: RunRecord) -> list[str]:
    """The commands that make this run and its samples again."""
    config = record.config
    asked = {"minutes": config.minutes, "steps": config.steps, "like": config.like}
    budget = next(f"--{name} {shlex.quote(str(value))}" for name, value in asked.items() if value is not None)
    footage = " ".join(shlex.quote(path) for path in config.footage)
    options = {"model": config.model, "device": config.device, "precision": config.precision,
               "threads": config.threads, "init": config.init}  # fmt: skip
    extra = "".join(
        f" --{name} {shlex.quote(str(value))}"
        for name, value in options.items()
        if value not in (None, "auto")
    )
    folder = shlex.quote(str(run))
    what = f"reroll train {footage} --recipe {config.recipe} --size {config.size} --seed {config.seed}{extra}"
    added = [row["minutes"] for row in events(run, "extended") if not row.get("copied")]
    return [
        f"{what} {budget} -o {folder}",
        *(f"{what} {budget} -o {folder} --add-minutes {minutes:g}" for minutes in added),
        f"{what} --like {folder} -o {shlex.quote(str(run) + '-again')}",
        f"reroll sample {folder} --seconds {SAMPLE_SECONDS:g} --seed 0-11 -o out/",
        f"reroll report {folder}",
    ]

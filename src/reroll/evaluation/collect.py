"""A run → what its report is made from: samples, a loop, footage windows, reconstructions, curves, commands."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reroll.config import JudgedOptions
from reroll.errors import CheckpointError, FootageError
from reroll.evaluation.comparison import OtherReport
from reroll.evaluation.reference import Reference
from reroll.evaluation.report import FootageNote, ReportInput, make_report
from reroll.footage import Store, find_footage, ingest, resize, split
from reroll.sampling.sampler import Sampler
from reroll.sampling.settings import SampleSettings
from reroll.training.machine import cache_dir
from reroll.training.monitor import read_rows
from reroll.training.run import RunRecord
from reroll.training.session import events

Frames = NDArray[np.uint8]

LOOP_SECONDS = 3.0


@dataclass(frozen=True, eq=False)
class Sampled:
    """What is judged of a system: samples `N T H W 3`, and where it can make them a loop and one long sample."""

    samples: Frames
    loop: Frames | None
    long: Frames | None

    def resized(self, height: int, width: int) -> Sampled:
        """The same at another size."""
        if self.samples.shape[2:4] == (height, width):
            return self

        def brought(clip: Frames) -> Frames:
            return np.stack([resize(frame, height, width) for frame in clip])

        return Sampled(
            np.stack([brought(sample) for sample in self.samples]),
            None if self.loop is None else brought(self.loop),
            None if self.long is None else brought(self.long),
        )


def write_report(
    run: Path,
    record: RunRecord,
    sampler: Sampler,
    others: Sequence[OtherReport],
    options: JudgedOptions,
) -> Path:
    """Sample, measure, and write `report.html` and `report.json` into the run; the page's path.

    Raises:
        CheckpointError: The footage of the run is gone, or another, and cannot be compared with.
    """
    store = _footage(run, record)
    frames = record.plan.window_frames
    footage = Reference.of(store, split(store, frames), frames, record.fps, mirrored=record.plan.mirror)
    options = replace(options, seconds=max(frames / record.fps, options.seconds))
    made = draw(sampler, record.fps, options)
    rebuilt, rebuilt_of = None, ""
    if record.model.encoder:
        originals, rebuilt_of = footage.to_rebuild()
        rebuilt = originals, rebuild(sampler, originals)
    config = record.config
    given = ReportInput(
        run_dir=run, title=run.resolve().name, recipe=config.recipe,
        settings={"asked": config.model_dump(), "plan": record.plan.model_dump(), "machine": record.engine,
                  "sampling": {"denoise_steps": SampleSettings.denoise_steps, **asdict(options),
                               "seeds": f"0-{options.samples - 1}"}},
        fps=record.fps, samples=made.samples, train_windows=footage.train, heldout_windows=footage.heldout,
        split_reason=record.split, metrics=read_rows(run / "metrics.jsonl"), events=read_rows(run / "events.jsonl"),
        health=[f"{row['fault']}: {row['words']}" for row in events(run, "health") if "words" in row],
        footage_files=[FootageNote(Path(file.path).name, file.sha256) for file in record.footage],
        commands=_commands(run, record, options.seconds), loop=made.loop, long=made.long, rebuilt=rebuilt,
        rebuilt_of=rebuilt_of,
        places=footage.places, searched=footage.searched, footage_drifts=footage.drifts,
        footage_clips=footage.stretches, other_runs=others,
    )  # fmt: skip
    return make_report(given)


def draw(sampler: Sampler, fps: float, options: JudgedOptions) -> Sampled:
    """Samples of seeds from 0 on, a loop, and one long sample of the seed after them (none for 0 seconds)."""
    base = SampleSettings(frames=round(options.seconds * fps), fps=fps)
    made = np.stack([_sample(sampler, replace(base, seed=seed)) for seed in range(options.samples)])
    loop = _sample(sampler, replace(base, frames=max(8, round(LOOP_SECONDS * fps)), loop=True))
    long = None
    if options.long_seconds:
        long = _sample(sampler, replace(base, frames=round(options.long_seconds * fps), seed=options.samples))
    return Sampled(made, loop, long)


def rebuild(sampler: Sampler, windows: Frames) -> Frames:
    """Footage `N T H W 3` through Encoder and Decoder."""
    return np.stack([np.concatenate(list(sampler.decode(sampler.encode(window)))) for window in windows])


def _sample(sampler: Sampler, settings: SampleSettings) -> Frames:
    return np.concatenate(list(sampler.frames(settings)))


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


def _commands(run: Path, record: RunRecord, seconds: float) -> list[str]:
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
        f"reroll sample {folder} --seconds {seconds:g} --seed 0-11 -o out/",
        f"reroll report {folder}",
    ]

"""reroll as a library: what the command line does, and nothing else.

inspection = reroll.inspect(["stream.mp4"])
reroll.train(["stream.mp4"], "runs/stream", recipe="vaegan", minutes=20)
generator = reroll.load("runs/stream")
clip = generator.sample(seconds=10, seed=3)      # plays in a notebook
clip.save("out/stream.mp4")
"""

import json
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError
from rich.console import Console

from reroll.config import MOST_MINUTES, Frozen, JudgedOptions, TrainingConfig
from reroll.errors import SpaceError, UsageError
from reroll.evaluation.collect import Sampled, draw, rebuild, write_report
from reroll.evaluation.comparison import read_reports
from reroll.evaluation.evaluate import judge_samples, reference_of, write_judgements
from reroll.evaluation.judge import Judgement
from reroll.evaluation.networks import load_i3d
from reroll.export.bundle import ENDING, is_bundle, read_bundle
from reroll.export.bundle import pack as _pack
from reroll.export.deploy import export_onnx as _export_onnx
from reroll.export.provenance import Whence
from reroll.export.provenance import whence as _whence
from reroll.footage import Store, find_footage, ingest
from reroll.footage.inspect import Inspection, inspect_footage
from reroll.generator import load
from reroll.sampling.takes import Take
from reroll.training.budget import WINDOW_FRAMES, Suggestion, suggest
from reroll.training.engine import out_of_memory
from reroll.training.loop import train as _train
from reroll.training.machine import cache_dir, usable_cores
from reroll.training.run import RunRecord, read_record


class FootageReport(Frozen):
    """What `inspect` returns: the footage, and what would be trained from it in the time."""

    footage: Inspection
    suggestion: Suggestion


def inspect(footage: str | Path | Sequence[str | Path], *, minutes: float = 20.0) -> FootageReport:
    """What is in the footage, and for the minutes given the size that would be trained and why."""
    paths = [footage] if isinstance(footage, str | Path) else list(footage)
    _check_minutes("minutes", minutes)
    found = inspect_footage(paths)
    return FootageReport(footage=found, suggestion=suggest(found, minutes, usable_cores()))


def report(
    run: str | Path,
    *,
    compare: Sequence[str | Path] = (),
    threads: int | None = None,
    **options: Any,  # noqa: ANN401
) -> tuple[Path, str]:
    """Write `report.html` and `report.json` into the run; returns the page and its verdict in two sentences.

    `compare` are other runs, or their `report.json`; they are read first. UsageError if one has no report that can be.
    Options are those of `JudgedOptions`.
    """
    asked = _judged(options)
    others = read_reports([Path(other) for other in compare], Path(run).resolve().name)
    generator = load(run, threads=threads)
    page = write_report(generator.run, generator.record, generator.sampler, others, asked)
    verdict: str = json.loads((generator.run / "report.json").read_text(encoding="utf-8"))["verdict"]
    return page, verdict


def evaluate(
    runs: Sequence[str | Path],
    footage: str | Path | Sequence[str | Path],
    *,
    output: str | Path | None = None,
    size: int | None = None,
    i3d: str | Path | None = None,
    threads: int | None = None,
    **options: Any,  # noqa: ANN401
) -> dict[str, Judgement]:
    """Judge runs, and videos that any tool made (files, or folders of them), against any footage; by name.

    All are brought to the footage's frame rate and to `size` pixels on the short side, without it the first run's (64
    if there is none). `output` is a JSON file for all figures; `i3d` the I3D network as TorchScript, for FVD.
    Other options are those of `JudgedOptions`. UsageError names what cannot be judged.
    """
    asked = _judged(options)
    network = None if i3d is None else load_i3d(Path(i3d))
    paths = [Path(run) for run in runs]
    records = [_record_of(path) for path in paths if _is_trained(path)]
    side = size or (records[0].config.size if records else 64)
    given = [footage] if isinstance(footage, str | Path) else list(footage)
    store = ingest(find_footage([Path(path) for path in given])[0], short_side=side, cache_dir=cache_dir())
    fps = float(np.median([file.fps for file in store.files]))
    reference = reference_of(store, fps)
    originals, _ = reference.to_rebuild()
    judgements: dict[str, Judgement] = {}
    for path in paths:
        rebuilt = None
        if _is_trained(path):
            generator = load(path, threads=threads)
            made = draw(generator.sampler, fps, asked)
            if generator.record.model.encoder:
                rebuilt = originals, rebuild(generator.sampler, originals)
        else:
            made = Sampled(_videos(path, fps, round(asked.seconds * fps), store), None, None)
        name = path.name if path.name not in judgements else str(path)
        judgements[name] = judge_samples(
            made.resized(store.height, store.width), reference, rebuilt, i3d=network
        )
    if output is not None:
        write_judgements(Path(output), judgements, [str(path) for path in given])
    return judgements


def _is_trained(path: Path) -> bool:
    """Whether it is a run or a bundle, and not video."""
    return (path / "run.json").exists() or is_bundle(path)


def _record_of(path: Path) -> RunRecord:
    return read_bundle(path)[0] if is_bundle(path) else read_record(path)


def _videos(path: Path, fps: float, frames: int, store: Store) -> np.ndarray:
    """The videos at `path`, a file or a folder, as samples `N T H W 3` of one length, at most so many frames."""
    clips = [
        np.stack(list(islice(Take.open(Path(file.path)).frames(fps, store.height, store.width), frames)))
        for file in find_footage([path])[0]
    ]
    if not clips:
        raise UsageError(
            f"{path}: neither a run of reroll nor video; give a run, a video or a folder of videos."
        )
    length = min(map(len, clips))
    if length < WINDOW_FRAMES:
        raise UsageError(
            f"{path}: its shortest video has {length} frames; {WINDOW_FRAMES} are needed to compare."
        )
    return np.stack([clip[:length] for clip in clips])


def _judged(options: dict[str, Any]) -> JudgedOptions:
    """Checked; UsageError names the one that makes no sense."""
    asked = JudgedOptions(**options)
    if not 3 <= asked.samples <= 256:
        raise UsageError(f"--samples {asked.samples}: give 3 to 256.")
    if not 1 <= asked.seconds <= 60:
        raise UsageError(f"--seconds {asked.seconds:g}: give 1 to 60.")
    if asked.long_seconds and not 4 <= asked.long_seconds <= 600:
        raise UsageError(f"--long-seconds {asked.long_seconds:g}: give 4 to 600, or 0 for none.")
    return asked


def train(
    footage: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    add_minutes: float | None = None,
    console: Console | None = None,
    **options: Any,  # noqa: ANN401
) -> RunRecord:
    """Train, or go on with, the run in folder `output`; options are those of `TrainingConfig`.

    Without `minutes`, `steps` and `like`, 20 minutes. `size="auto"` is what `inspect` suggests for the minutes. Raises
    RerollError (see `reroll.errors`).
    """
    started = time.monotonic()
    seen: Inspection | None = None
    paths = [footage] if isinstance(footage, str | Path) else list(footage)
    _check_folder(Path(output), paths)
    if add_minutes is not None:
        _check_minutes("add-minutes", add_minutes)
    budgets = [name for name in ("minutes", "steps", "like") if options.get(name) is not None]
    if not budgets:
        options["minutes"] = 20.0
    if len(budgets) > 1:
        raise UsageError(f"--{budgets[0]} and --{budgets[1]} exclude each other; give one.")
    options |= {name: str(options[name]) for name in ("init", "like") if options.get(name) is not None}
    if options.get("size") == "auto":
        options["size"], seen = _size(paths, Path(output), options, console or Console(stderr=True))
    try:
        config = TrainingConfig(footage=tuple(str(path) for path in paths), **options)
    except ValidationError as error:
        first = error.errors()[0]
        where = str(first["loc"][0]) if first["loc"] else "options"
        raise UsageError(f"--{where} {first.get('input')!r}: {first['msg'].lower()}.") from None
    try:
        return _train(
            config, Path(output), cache_dir=cache_dir(), add_minutes=add_minutes, console=console, seen=seen,
            started=started,
        )  # fmt: skip
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise SpaceError(
            f"{output}: the memory does not suffice to train at --size {config.size} with --model {config.model}; give"
            " a smaller one of either."
        ) from None


def _check_minutes(option: str, minutes: float) -> None:
    if not 0 < minutes <= MOST_MINUTES:
        raise UsageError(f"--{option} {minutes:g}: give a number above 0, at most {MOST_MINUTES:g}.")


def _check_folder(output: Path, footage: Sequence[str | Path]) -> None:
    """UsageError if a run, or a folder above it, would take the place of a file, or lie among the footage."""
    place = next(place for place in (output, *output.absolute().parents) if place.exists())
    if not place.is_dir():
        raise UsageError(f"-o {output}: {place} is a file; choose another folder for the run.")
    if any(output.resolve() == Path(path).resolve() for path in footage):
        raise UsageError(f"-o {output}: that is the footage; choose another folder for the run.")


def _size(
    paths: Sequence[str | Path], run: Path, options: dict[str, Any], console: Console
) -> tuple[int, Inspection | None]:
    """Pixels on the short side for `--size auto`: the size of the run that is there, or what is suggested after an
    inspection of the footage."""
    if (run / "run.json").exists():
        return read_record(run).config.size, None
    if options.get("minutes") is None:
        raise UsageError("--size auto: the size depends on the time; give --minutes, or a size with --steps.")
    found = inspect(paths, minutes=options["minutes"])
    suggestion = found.suggestion
    console.print(f"note: --size {suggestion.size}: {suggestion.reason}", soft_wrap=True, highlight=False)
    return suggestion.size, found.footage


def whence(path: str | Path) -> Whence:
    """Where a file is from: who signed it and whether that verifies, what made it, from which footage. UsageError when
    there is no such file."""
    return _whence(Path(path))


def pack(run: str | Path, output: str | Path) -> Path:
    """Write a trained run as one file, which `load` takes, with its model card in the header; returns its path."""
    path = Path(output)
    if path.suffix != ENDING:
        raise UsageError(f"-o {path}: give a name that ends in .reroll{ENDING}.")
    return _pack(Path(run), path)


def export_onnx(run: str | Path, output: str | Path) -> Path:
    """Write a trained run, or a bundle, as ONNX into a folder (see `export/deploy.py`); returns it. Raises RerollError
    when the packages are missing, or a network's results are not PyTorch's."""
    folder = Path(output)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"-o {folder}: that is a file; give a folder.")
    generator = load(run, device="cpu")
    return _export_onnx(generator.sampler.model, generator.record, folder)

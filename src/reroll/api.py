"""reroll as a library: what the command line does, and nothing else.

inspection = reroll.inspect(["stream.mp4"])
reroll.train(["stream.mp4"], "runs/stream", recipe="vaegan", minutes=20)
generator = reroll.load("runs/stream")
clip = generator.sample(seconds=10, seed=3)      # plays in a notebook
clip.save("out/stream.mp4")
"""

import json
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError
from rich.console import Console

from reroll.config import MOST_MINUTES, Frozen, JudgedOptions, ModelConfig, SampleOptions, TrainingConfig
from reroll.errors import SpaceError, UsageError
from reroll.evaluation.collect import Sampled, draw, rebuild, write_report
from reroll.evaluation.comparison import read_reports
from reroll.evaluation.evaluate import judge_samples, reference_of, write_judgements
from reroll.evaluation.judge import Judgement
from reroll.evaluation.networks import load_i3d
from reroll.export.media import Clip, VideoWriter
from reroll.footage import Probe, Store, decode, find_footage, ingest, probe, read_picture, resize
from reroll.footage.container import shown
from reroll.footage.inspect import Inspection, inspect_footage
from reroll.footage.shots import usual_gap
from reroll.parts.decoder import HALO
from reroll.sampling.sampler import Sampler, SampleSettings
from reroll.training.budget import WINDOW_FRAMES, Suggestion, suggest
from reroll.training.engine import Engine, out_of_memory
from reroll.training.loop import train as _train
from reroll.training.machine import cache_dir, usable_cores
from reroll.training.run import RunRecord, load_model, read_record

LONGEST_IN_MEMORY_BYTES = 2 << 30
RESIDUAL_SECONDS = 0.6
RATE_FRAMES = 48
LONGEST_GAP_SECONDS = 10.0
CONTEXT_KEYFRAMES = 8


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
    records = [read_record(path) for path in paths if (path / "run.json").exists()]
    side = size or (records[0].config.size if records else 64)
    given = [footage] if isinstance(footage, str | Path) else list(footage)
    store = ingest(find_footage([Path(path) for path in given])[0], short_side=side, cache_dir=cache_dir())
    fps = float(np.median([file.fps for file in store.files]))
    reference = reference_of(store, fps)
    originals, _ = reference.to_rebuild()
    judgements: dict[str, Judgement] = {}
    for path in paths:
        rebuilt = None
        if (path / "run.json").exists():
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


def _videos(path: Path, fps: float, frames: int, store: Store) -> np.ndarray:
    """The videos at `path`, a file or a folder, as samples `N T H W 3` of one length, at most so many frames."""
    clips = [
        np.stack(list(islice(_at_rate(Path(file.path), fps, store.height, store.width), frames)))
        for file in find_footage([path])[0]
    ]
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


def load(run: str | Path, *, device: str = "auto", threads: int | None = None) -> "Generator":
    """A trained run, ready to sample from. CheckpointError when there is none, or none that could give samples yet."""
    path = Path(run)
    record = read_record(path)
    model, step = load_model(path, record)
    engine = Engine.start(device, str(record.engine["precision"]), threads, record.config.seed)
    return Generator(path, record, step, Sampler(
        engine.setup(model), engine, key_gap_seconds=record.key_gap_seconds,
        window_frames=record.plan.window_frames,
    ))  # fmt: skip


@dataclass(frozen=True)
class Generator:
    """A trained run: new clips from seeds, longer takes from footage."""

    run: Path
    record: RunRecord
    step: int
    sampler: Sampler

    @property
    def fps(self) -> float:
        """The footage's frame rate."""
        return self.record.fps

    def sample(self, seconds: float = 5.0, **options: Any) -> Clip:  # noqa: ANN401
        """One new clip; options are those of `settings`."""
        settings = self.settings(seconds, **options)
        self._check_memory(settings.frames)
        return Clip(
            np.concatenate(list(self.sampler.frames(settings))),
            settings.fps,
            self.output_record("sample", settings),
        )

    def sample_to(self, path: str | Path, seconds: float = 5.0, **options: Any) -> Path:  # noqa: ANN401
        """One new clip, written as it is made: any length in constant memory."""
        settings = self.settings(seconds, **options)
        return self._write(
            path, settings, self.sampler.frames(settings), self.output_record("sample", settings)
        )

    def extend(self, take: str | Path, seconds: float = 5.0, **options: Any) -> Clip:  # noqa: ANN401
        """The take (a video or a picture) followed by new frames."""
        settings, frames, record = self._extension(Path(take), seconds, options)
        self._check_memory(settings.frames)
        held: list[np.ndarray] = []
        count = 0
        for chunk in frames:
            held.append(chunk)
            count += len(chunk)
            self._check_memory(count)
        return Clip(np.concatenate(held), settings.fps, record)

    def extend_to(self, path: str | Path, take: str | Path, seconds: float = 5.0, **options: Any) -> Path:  # noqa: ANN401
        """`extend`, written as it is made."""
        settings, frames, record = self._extension(Path(take), seconds, options)
        if Path(path).exists() and Path(path).samefile(take):
            raise UsageError(f"-o {path}: that is the take itself, which would be lost; choose another name.")
        return self._write(path, settings, frames, record)

    def settings(
        self,
        seconds: float,
        *,
        seed: int = 0,
        loop: bool = False,
        **options: Any,  # noqa: ANN401
    ) -> SampleSettings:
        """Checked settings of one sample; options are `SampleOptions`. UsageError names the one that makes no sense."""
        asked = SampleOptions(**options)
        rate = self.fps if asked.fps is None else asked.fps
        for name, value, least, most in (
            ("seconds", seconds, 0.04, 36000.0), ("fps", 24.0 if asked.fps is None else asked.fps, 1.0, 240.0),
            ("seed", seed, 0, 2**63),
            ("denoise-steps", asked.denoise_steps, 1, 1000), ("temperature", asked.temperature, 0.0, 2.0),
            ("guidance", asked.guidance, 0.0, 20.0), ("sharpness", asked.sharpness, 0.0, 5.0),
        ):  # fmt: skip
            if not least <= value <= most:
                raise UsageError(f"--{name} {value:g}: give a number from {least:g} to {most:g}.")
        frames = max(1, round(seconds * rate))
        if loop and frames < 4:
            raise UsageError(f"--loop of {frames} frames is too short; give more --seconds.")
        for name in ("guidance", "sharpness"):
            if self.record.config.recipe == "gan" and getattr(asked, name) != getattr(SampleOptions, name):
                raise UsageError(
                    f"--{name}: a `gan` run samples in one step; {name} is for vae and vaegan runs."
                )
        return SampleSettings(
            frames=frames, fps=rate, seed=seed, label=self._label(asked.label), loop=loop,
            denoise_steps=asked.denoise_steps, temperature=asked.temperature, guidance=asked.guidance,
            sharpness=asked.sharpness,
        )  # fmt: skip

    def output_record(self, task: str, settings: SampleSettings) -> dict[str, Any]:
        """What is needed to make an output again."""
        return {
            "reroll": version("reroll"), "task": task, "run": self.run.resolve().name, "step": self.step,
            "recipe": self.record.config.recipe, "micro_batch": 1, **asdict(settings),
        }  # fmt: skip

    def _label(self, label: str | None) -> int:
        labels = self.record.model.labels
        if label is None:
            return -1
        if label not in labels:
            known = ", ".join(labels) if labels else "none: the footage had no labelled subfolders"
            raise UsageError(f"--label {label}: not a label of this run ({known}).")
        return labels.index(label)

    def _extension(
        self, take: Path, seconds: float, options: dict[str, Any]
    ) -> tuple[SampleSettings, Iterator[np.ndarray], dict[str, Any]]:
        """Settings, frames (the take's, then new ones) and record."""
        if not self.record.model.encoder:
            raise UsageError(
                "extend starts from footage, and a `gan` run has no encoder; train with --recipe vaegan or vae."
            )
        if options.get("loop"):
            raise UsageError("extend makes no loops; use sample --loop.")
        about = probe(take)
        if note := _cropping(take, about, self.record.model):
            Console(stderr=True).print(note, soft_wrap=True, highlight=False, markup=False)
        if options.get("fps") is None and not about.is_picture:
            options = {**options, "fps": min(240.0, max(1.0, _rate(take, about)))}
        settings = self.settings(seconds, **options)
        record = self.output_record("extend", settings) | {"take": take.name}
        return settings, self._extended(take, about.is_picture, settings), record

    def _extended(self, take: Path, is_picture: bool, settings: SampleSettings) -> Iterator[np.ndarray]:
        """The take's frames at the model's size and the rate asked for, then new ones, without a jump between."""
        height, width = self.record.model.height, self.record.model.width
        keep = CONTEXT_KEYFRAMES * max(1, round(self.sampler.key_gap_seconds * settings.fps)) + 1
        tail: deque[np.ndarray] = deque(maxlen=keep)
        if is_picture:
            source: Iterable[np.ndarray] = read_picture(take, height, width)
        else:
            source = _at_rate(take, settings.fps, height, width)
        for frame in source:
            tail.append(frame)
            yield frame[None]
        given = self.sampler.encode(np.stack(tail))
        rebuilt = next(self.sampler.decode(given[:, -HALO - 1 :]))
        residual = tail[-1].astype(np.float32) - rebuilt[-1].astype(np.float32)
        done = 0
        for chunk in self.sampler.frames(settings, given):
            age = (np.arange(done, done + len(chunk)) + 1) / settings.fps
            fade = np.clip(1 - age / RESIDUAL_SECONDS, 0, 1)[:, None, None, None]
            done += len(chunk)
            yield np.clip(chunk + fade * residual, 0, 255).round().astype(np.uint8)

    def _write(
        self, path: str | Path, settings: SampleSettings, frames: Iterator[np.ndarray], record: dict[str, Any]
    ) -> Path:
        with VideoWriter(
            path, settings.fps, self.record.model.height, self.record.model.width, record
        ) as writer:
            for chunk in frames:
                writer.write(chunk)
        return Path(path)

    def _check_memory(self, frames: int) -> None:
        needed = frames * self.record.model.height * self.record.model.width * 3
        if needed > LONGEST_IN_MEMORY_BYTES:
            raise UsageError(
                f"a clip of {frames} frames or more needs {needed / 1e9:.1f} GB as a whole; use sample_to or"
                " extend_to, which write it as it is made."
            )


def _cropping(take: Path, about: Probe, model: ModelConfig) -> str | None:
    """What to say of a take whose shape is not the run's, of which only the middle is used."""
    surplus = (about.width * model.height) / (about.height * model.width)  # above 1: too wide
    side, length = ("width", model.width) if surplus > 1 else ("height", model.height)
    lost = 1 - min(surplus, 1 / surplus)
    if lost * length <= 1:  # rounding to whole pixels
        return None
    return (
        f"note: {shown(take.name)} is {about.width}x{about.height}, the run {model.width}x{model.height}: {lost:.0%} of"
        f" its {side} is cropped, the same on both sides."
    )


def _rate(take: Path, about: Probe) -> float:
    """A take's frames a second: what its header says, unless its first frames are far from that (some containers say
    1000 for "it varies")."""
    gap = usual_gap(np.asarray([frame.timestamp for frame in islice(decode(take), RATE_FRAMES)]))
    seen = 1 / gap if gap else about.fps or 25.0
    return about.fps if about.fps and 0.9 < about.fps / seen < 1.1 else seen


def _at_rate(take: Path, fps: float, height: int, width: int) -> Iterator[np.ndarray]:
    """A file's frames at `fps`: at each output time the last frame that had begun. A gap of more than
    `LONGEST_GAP_SECONDS` is taken for a fault of the timestamps and counts as that, with a note."""
    held: np.ndarray | None = None
    count, before, surplus = 0, 0.0, 0.0
    for frame in decode(take):
        if (gap := frame.timestamp - before) > LONGEST_GAP_SECONDS and held is not None:
            surplus += gap - LONGEST_GAP_SECONDS
            Console(stderr=True).print(
                f"note: {shown(take.name)}: nothing for {gap:.0f} s after {before:.1f} s; the last frame is held for"
                f" {LONGEST_GAP_SECONDS:.0f} s instead.", soft_wrap=True, highlight=False, markup=False,
            )  # fmt: skip
        before = frame.timestamp
        while held is not None and count / fps < frame.timestamp - surplus - 0.5 / fps:
            yield held
            count += 1
        held = resize(frame.image, height, width)
    if held is not None:
        yield held

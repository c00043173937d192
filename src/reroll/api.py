"""reroll as a library: what the command line does, and nothing else.

inspection = reroll.inspect(["stream.mp4"])
reroll.train(["stream.mp4"], "runs/stream", recipe="vaegan", minutes=20)
generator = reroll.load("runs/stream")
clip = generator.sample(seconds=10, seed=3)      # plays in a notebook
clip.save("out/stream.mp4")
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError
from rich.console import Console

from reroll.config import MOST_MINUTES, Frozen, JudgedOptions, SampleOptions, TrainingConfig
from reroll.errors import CheckpointError, FootageError, SpaceError, UsageError
from reroll.evaluation.collect import Sampled, draw, rebuild, write_report
from reroll.evaluation.comparison import read_reports
from reroll.evaluation.evaluate import judge_samples, reference_of, write_judgements
from reroll.evaluation.judge import Judgement
from reroll.evaluation.networks import load_i3d
from reroll.export.bundle import ENDING, is_bundle, read_bundle
from reroll.export.bundle import pack as _pack
from reroll.export.clip import Clip
from reroll.export.deploy import export_onnx as _export_onnx
from reroll.export.formats import read_record as read_output_record
from reroll.export.media import Sound
from reroll.export.provenance import Whence
from reroll.export.provenance import whence as _whence
from reroll.footage import Store, find_footage, ingest
from reroll.footage.container import shown
from reroll.footage.inspect import Inspection, inspect_footage
from reroll.sampling.editing import even, repainted, varied
from reroll.sampling.labels import Labels
from reroll.sampling.retiming import retimed
from reroll.sampling.sampler import Sampler, SampleSettings
from reroll.sampling.takes import Take, closed, extended, joined, preceded
from reroll.training.budget import WINDOW_FRAMES, Suggestion, suggest
from reroll.training.engine import Engine, out_of_memory
from reroll.training.loop import train as _train
from reroll.training.machine import cache_dir, usable_cores
from reroll.training.run import RunRecord, load_model, read_record, weights_sha256

MASK_TOLERANCE = 0.02
MOST_SLOW = 64.0
AS_LONG_AS_THE_TAKE = "vary", "repaint"
TASKS = "sample", "extend", "inbetween", "loop", "retime", *AS_LONG_AS_THE_TAKE
"""Methods of `Generator` that make clips."""


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


def again(
    output: str | Path,
    *,
    run: str | Path | None = None,
    takes: Sequence[str | Path] = (),
    device: str | None = None,
) -> Clip:
    """The clip that is in `output`, a file that reroll wrote, made again: frame for frame on the same machine.

    `run` and `takes` say where the run and the footage are if they are not where they were. UsageError when it holds no
    record; CheckpointError or FootageError when the run or a take is not the same any more.
    """
    record = _output_record(Path(output))
    place = Path(run or record["run"])
    if run is None and not (place / "run.json").exists() and not is_bundle(place):
        raise CheckpointError(
            f"{output}: the run {place} it was made with is not here; say where it is with --run."
        )
    generator = load(place, device=device or record["device"], threads=record["threads"])
    if generator.model_sha256 != record["model_sha256"]:
        raise CheckpointError(
            f"{place}: not the weights {output} was made with (step {record['step']}; now {generator.step})."
        )
    paths = [Path(take) for take in takes] or [Path(take["path"]) for take in record["takes"]]
    for path, take in zip(paths, record["takes"], strict=False):
        if Take.open(path).sha256 != take["sha256"]:
            raise FootageError(f"{path}: not the take {output} was made from; say where that is with --take.")
    try:
        clip: Clip = getattr(generator, record["task"])(*paths, **record["options"])
    except TypeError as error:
        raise UsageError(f"{output}: its record cannot be understood ({error}).") from None
    return clip


def _output_record(output: Path) -> dict[str, Any]:
    """The record of an output; UsageError if it has none that can be understood."""
    if not output.exists():
        raise UsageError(f"{output}: no such file; give one that reroll wrote.")
    record = read_output_record(output)
    wanted = {"run": str, "model_sha256": str, "device": str, "threads": int, "takes": list, "options": dict}
    if record.get("task") not in TASKS or not all(isinstance(record.get(k), t) for k, t in wanted.items()):
        raise UsageError(f"{output}: holds no record of reroll; give a file that reroll sampled.")
    if not all(isinstance(take, dict) and {"path", "sha256"} <= take.keys() for take in record["takes"]):
        raise UsageError(f"{output}: its record cannot be understood (takes).")
    return record


def load(run: str | Path, *, device: str = "auto", threads: int | None = None) -> "Generator":
    """A trained run, or a bundle that `pack` made of one, ready to sample from. CheckpointError when there is none, or
    none that could give samples yet."""
    path = Path(run)
    if is_bundle(path):
        record, model, step = read_bundle(path)
    else:
        record = read_record(path)
        model, step = load_model(path, record)
    engine = Engine.start(device, str(record.engine["precision"]), threads, record.config.seed)
    return Generator(path, record, step, Sampler(
        engine.setup(model), engine, key_gap_seconds=record.key_gap_seconds,
        window_frames=record.plan.window_frames,
    ))  # fmt: skip


@dataclass(frozen=True)
class Generator:
    """A trained run: new clips from seeds, longer takes from footage.

    What its methods return is made when its frames are asked for, or while it is saved.
    """

    run: Path
    record: RunRecord
    step: int
    sampler: Sampler

    @property
    def fps(self) -> float:
        """The footage's frame rate."""
        return self.record.fps

    @cached_property
    def model_sha256(self) -> str:
        """Of the weights that samples are made with."""
        return weights_sha256(self.sampler.model)

    @cached_property
    def footage(self) -> dict[str, Any]:
        """What the model was trained on, and whose it is: names and hashes, owner, licence."""
        files = [{"name": Path(each.path).name, "sha256": each.sha256} for each in self.record.footage]
        return {"owner": self.record.config.owner, "licence": self.record.config.licence, "files": files}

    def sample(self, seconds: float = 5.0, **options: Any) -> Clip:  # noqa: ANN401
        """One new clip of any length; options are those of `settings`."""
        settings = self.settings(seconds, **options)
        return self._clip("sample", settings, lambda: self.sampler.frames(settings), settings.frames)

    def extend(
        self,
        take: str | Path,
        seconds: float = 5.0,
        *,
        backwards: bool = False,
        **options: Any,  # noqa: ANN401
    ) -> Clip:
        """The take (a video or a picture) followed by new frames, or with `backwards` after new frames that lead to it;
        options are those of `settings`."""
        opened, settings = self._from_takes("extend", [take], seconds, options)
        (one,), task = opened, preceded if backwards else extended
        make = lambda: task(self.sampler, one, settings)  # noqa: E731
        sound = one.sound(settings.frames / settings.fps if backwards else 0.0)
        return self._clip("extend", settings, make, takes=opened, sound=sound, backwards=backwards)

    def inbetween(
        self,
        first: str | Path,
        second: str | Path,
        seconds: float = 2.0,
        **options: Any,  # noqa: ANN401
    ) -> Clip:
        """Two takes or pictures, and between them new frames that lead from one to the other; options are those of
        `settings`."""
        (one, other), settings = self._from_takes("inbetween", [first, second], seconds, options)
        make = lambda: joined(self.sampler, one, other, settings)  # noqa: E731
        return self._clip("inbetween", settings, make, takes=[one, other])

    def loop(self, take: str | Path, seconds: float = 2.0, **options: Any) -> Clip:  # noqa: ANN401
        """The take, and new frames that lead from its end to its beginning: it plays round and round. Options are those
        of `settings`."""
        opened, settings = self._from_takes("loop", [take], seconds, options)
        if opened[0].is_picture:
            raise UsageError(
                f"{take}: a picture stands still; to loop from one use extend, or sample --loop."
            )
        make = lambda: closed(self.sampler, opened[0], opened[0], settings)  # noqa: E731
        return self._clip("loop", settings, make, takes=opened)

    def vary(self, take: str | Path, strength: float = 0.4, **options: Any) -> Clip:  # noqa: ANN401
        """The take as it might have been, farther from it the higher `strength` is: 0 is the take itself, 1 a new clip
        of what is in it. Options are those of `settings`."""
        if not 0 <= strength <= 1:
            raise UsageError(f"--strength {strength:g}: give a number from 0 to 1.")
        (one,), settings = self._from_takes("vary", [take], None, options)
        make = lambda: varied(self.sampler, one, settings, strength)  # noqa: E731
        return self._clip("vary", settings, make, takes=[one], strength=strength)

    def repaint(self, take: str | Path, mask: str | Path, **options: Any) -> Clip:  # noqa: ANN401
        """The take at its own size, painted anew where `mask` (a picture or a video of its shape) is white. Options are
        those of `settings`."""
        (one, where), settings = self._from_takes("repaint", [take, mask], None, options)
        shapes = [each.about.width / each.about.height for each in (where, one)]
        if abs(shapes[0] / shapes[1] - 1) > MASK_TOLERANCE:
            sizes = [f"{each.about.width}x{each.about.height}" for each in (where, one)]
            raise UsageError(f"{mask} is {sizes[0]}, {take} {sizes[1]}; give a mask of its shape.")
        make = lambda: repainted(self.sampler, one, where, settings)  # noqa: E731
        return self._clip("repaint", settings, make, takes=[one, where], size=even(one), sound=one.sound())

    def retime(self, take: str | Path, *, fps: float | None = None, slow: float = 1.0) -> Clip:
        """The take at its own size and another frame rate, or `slow` times as long."""
        if not 1 / MOST_SLOW <= slow <= MOST_SLOW:
            raise UsageError(f"--slow {slow:g}: give a number from {1 / MOST_SLOW:g} to {MOST_SLOW:g}.")
        one = self._take("retime", take)
        if one.is_picture:
            raise UsageError(f"{take}: a picture has no frame rate; give a video.")
        settings = self.settings(1.0, fps=one.fps if fps is None else fps)
        make = lambda: retimed(one, settings.fps, slow)  # noqa: E731
        sound = one.sound() if slow == 1 else None
        return self._clip("retime", settings, make, takes=[one], size=even(one), sound=sound, slow=slow)

    def _from_takes(
        self, task: str, paths: Sequence[str | Path], seconds: float | None, options: dict[str, Any]
    ) -> tuple[list[Take], SampleSettings]:
        """The takes of a task, opened, and the settings of its new frames: their rate is the first video's, and without
        `seconds` they are as many as the first take's."""
        if not self.record.model.encoder:
            raise UsageError(
                f"{task} starts from footage, and a `gan` run has no encoder; train with --recipe vaegan or vae."
            )
        if options.pop("loop", False):
            raise UsageError(f"{task} makes no loops from noise; use sample --loop.")
        if "@" in (options.get("label") or "") and not (task == "extend" and not options.get("backwards")):
            raise UsageError(f"{task}: labels cannot change on the way to footage; give one, or a mixture.")
        takes = [self._take(task, path) for path in paths]
        rates = [take.fps for take in takes if not take.is_picture]
        if options.get("fps") is None and rates:
            options = {**options, "fps": rates[0]}
        return takes, self.settings(1.0 if seconds is None else seconds, **options)

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
        labels = Labels.parse(asked.label, self.record.model.labels)
        if loop and len(labels.changes) > 1:
            raise UsageError(
                f"--label {asked.label}: a loop has no beginning from which labels could change."
            )
        return SampleSettings(
            frames=frames, fps=rate, seed=seed, labels=labels, loop=loop,
            denoise_steps=asked.denoise_steps, temperature=asked.temperature, guidance=asked.guidance,
            sharpness=asked.sharpness,
        )  # fmt: skip

    def _clip(
        self, task: str, settings: SampleSettings, frames: Callable[[], Iterator[np.ndarray]],
        count: int | None = None, takes: Sequence[Take] = (), size: tuple[int, int] | None = None,
        sound: Callable[[], Sound] | None = None, **more: object,
    ) -> Clip:  # fmt: skip
        """The clip of a task, with its record: what is needed to make it again."""
        model, engine = self.record.model, self.sampler.engine
        options = asdict(settings) | {"label": settings.labels.text} | more
        del options["labels"]
        options["seconds"] = options.pop("frames") / settings.fps
        if task == "retime":
            options = {"fps": settings.fps, "slow": more["slow"]}
        elif task in AS_LONG_AS_THE_TAKE:
            del options["seconds"]
        record = {
            "reroll": version("reroll"), "task": task, "run": str(self.run), "model_sha256": self.model_sha256,
            "step": self.step, "recipe": self.record.config.recipe, "micro_batch": 1,
            "precision": engine.precision, "threads": engine.threads, "device": engine.device.type,
            "footage": {
                "files": len(self.record.footage), "fingerprint": self.record.fingerprint,
                "owner": self.record.config.owner, "licence": self.record.config.licence,
            },
            "takes": [{"path": str(take.path), "sha256": take.sha256} for take in takes], "options": options,
        }  # fmt: skip
        size = size or (model.height, model.width)
        if sound is None and (heard := [take for take in takes if not take.is_picture and take.sound()]):
            _say(
                f"note: {task} is silent: the sound of {shown(heard[0].path.name)} would not fit what is new."
            )
        return Clip(
            frames, settings.fps, record, size, count, [take.path for take in takes], sound, self.footage
        )

    def _take(self, task: str, path: str | Path) -> Take:
        """A take, with a note if it has to be cropped."""
        take, model = Take.open(Path(path)), self.record.model
        if task not in ("repaint", "retime") and (note := take.cropping(model.height, model.width)):
            _say(note)
        return take


def _say(note: str) -> None:
    Console(stderr=True).print(note, soft_wrap=True, highlight=False, markup=False)

"""Generator: a trained run, and everything it can make. A method a task; each gives a `Clip` with its record."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from reroll.config import SampleOptions
from reroll.errors import CheckpointError, FootageError, UsageError
from reroll.export.bundle import is_bundle, read_bundle
from reroll.export.clip import Clip
from reroll.export.formats import read_record as read_output_record
from reroll.export.media import Sound
from reroll.footage.container import shown
from reroll.sampling.canvas import Canvas
from reroll.sampling.editing import even, repainted, swapped, varied
from reroll.sampling.labels import Labels
from reroll.sampling.retiming import retimed
from reroll.sampling.sampler import Sampler
from reroll.sampling.settings import SampleSettings
from reroll.sampling.takes import Take, closed, extended, joined, preceded
from reroll.training.engine import Engine
from reroll.training.run import RunRecord, load_model, read_record, weights_sha256

MASK_TOLERANCE = 0.02
MOST_SLOW = 64.0
MOST_THREADS = 1024
AS_LONG_AS_THE_TAKE = "vary", "swap", "repaint"
TASKS = "sample", "explore", "extend", "inbetween", "loop", "retime", *AS_LONG_AS_THE_TAKE
"""Methods of `Generator` that make clips."""


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
    if not 1 <= record["threads"] <= MOST_THREADS:
        raise UsageError(f"{output}: its record cannot be understood (threads).")
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
        make = lambda: self.sampler.frames(settings)  # noqa: E731
        return self._clip("sample", settings, make, settings.frames)

    def explore(self, seeds: Sequence[int], seconds: float = 8.0, **options: Any) -> Clip:  # noqa: ANN401
        """One clip that goes through what several seeds show, evenly in time. Options are those of `settings`, but for
        `seed` and `loop`."""
        if len(seeds) < 2:
            raise UsageError("--seeds: give two at least, such as 1,5,9.")
        options = {name: value for name, value in options.items() if name not in ("seed", "loop")}
        for seed in seeds:
            self.settings(seconds, seed=seed, **options)
        settings = replace(self.settings(seconds, seed=seeds[0], **options), through=tuple(seeds))
        make = lambda: self.sampler.frames(settings)  # noqa: E731
        return self._clip("explore", settings, make, settings.frames, seeds=list(seeds))

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
        _check_strength(strength)
        (one,), settings = self._from_takes("vary", [take], None, options)
        make = lambda: varied(self.sampler, one, settings, strength)  # noqa: E731
        return self._clip("vary", settings, make, takes=[one], strength=strength)

    def swap(self, look: str | Path, motion: str | Path, strength: float = 0.4, **options: Any) -> Clip:  # noqa: ANN401
        """What one take shows, moving as another does, as long as that; freer the higher `strength` is (0 to 1).
        Options are those of `settings`."""
        _check_strength(strength)
        (one, other), settings = self._from_takes("swap", [look, motion], None, options)
        make = lambda: swapped(self.sampler, one, other, settings, strength)  # noqa: E731
        return self._clip("swap", settings, make, takes=[one, other], strength=strength)

    def repaint(self, take: str | Path, mask: str | Path, **options: Any) -> Clip:  # noqa: ANN401
        """The take at its own size, painted anew where `mask` (a picture or a video of its shape) is white. Options are
        those of `settings`."""
        if options.get("size") or options.get("tile"):
            raise UsageError("repaint keeps the take's own size and edges; leave out --size and --tile.")
        (one, where), settings = self._from_takes("repaint", [take, mask], None, options)
        shapes = [each.about.width / each.about.height for each in (where, one)]
        if abs(shapes[0] / shapes[1] - 1) > MASK_TOLERANCE:
            sizes = [f"{each.about.width}x{each.about.height}" for each in (where, one)]
            raise UsageError(f"{mask} is {sizes[0]}, {take} {sizes[1]}; give a mask of its shape.")
        make = lambda: repainted(self.sampler, one, where, settings)  # noqa: E731
        return self._clip("repaint", settings, make, takes=[one, where], shape=even(one), sound=one.sound())

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
        return self._clip("retime", settings, make, takes=[one], shape=even(one), sound=sound, slow=slow)

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
        Canvas.of(self.record.model, asked.size, asked.tile)
        return SampleSettings(
            frames=frames, fps=rate, seed=seed, labels=labels, loop=loop,
            denoise_steps=asked.denoise_steps, temperature=asked.temperature, guidance=asked.guidance,
            sharpness=asked.sharpness, size=asked.size, tile=asked.tile,
        )  # fmt: skip

    def _clip(
        self, task: str, settings: SampleSettings, frames: Callable[[], Iterator[np.ndarray]],
        count: int | None = None, takes: Sequence[Take] = (), shape: tuple[int, int] | None = None,
        sound: Callable[[], Sound] | None = None, **more: object,
    ) -> Clip:  # fmt: skip
        """The clip of a task, with its record: what is needed to make it again."""
        model, engine = self.record.model, self.sampler.engine
        options = asdict(settings) | {"label": settings.labels.text} | more
        del options["labels"], options["through"]
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
        canvas, own = Canvas.of(model, settings.size, settings.tile), (model.height, model.width)
        shape = shape or (own if canvas is None else (canvas.height, canvas.width))
        if sound is None and (heard := [take for take in takes if not take.is_picture and take.sound()]):
            _say(
                f"note: {task} is silent: the sound of {shown(heard[0].path.name)} would not fit what is new."
            )
        fitted = frames if canvas is None else lambda: canvas.fitted(frames())
        return Clip(
            fitted, settings.fps, record, shape, count, [take.path for take in takes], sound, self.footage
        )

    def _take(self, task: str, path: str | Path) -> Take:
        """A take, with a note if it has to be cropped."""
        take, model = Take.open(Path(path)), self.record.model
        if task not in ("repaint", "retime") and (note := take.cropping(model.height, model.width)):
            _say(note)
        return take


def _check_strength(strength: float) -> None:
    if not 0 <= strength <= 1:
        raise UsageError(f"--strength {strength:g}: give a number from 0 to 1.")


def _say(note: str) -> None:
    Console(stderr=True).print(note, soft_wrap=True, highlight=False, markup=False)

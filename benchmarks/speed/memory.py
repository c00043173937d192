"""Peak memory of sampling short and long clips, and of training on little footage and on four times as much: both
should be flat. Each is measured in a process of its own that does what the command does, file to file.
"""

import io
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.speed.bench import Bench
from benchmarks.speed.children import answer, in_child, peak_bytes
from benchmarks.speed.footage import make_clip
from benchmarks.speed.sampling import Shown
from benchmarks.speed.tables import Table
from reroll.config import ModelConfig

DENOISE_STEPS = 4
TRAINED_STEPS = 12


def sampled(shown: dict[str, Any], seconds: float, threads: int) -> dict[str, int]:
    """Peak of a process that writes one clip."""
    from reroll.export.media import VideoWriter
    from reroll.training.engine import Engine

    what = Shown(ModelConfig(**shown.pop("config")), **shown)
    sampler = what.sampler(Engine.start(threads=threads))
    before, frames = peak_bytes(), 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        with VideoWriter(path, what.fps, what.config.height, what.config.width) as writer:
            for chunk in sampler.frames(what.settings(seconds, DENOISE_STEPS)):
                writer.write(chunk)
                frames += len(chunk)
    return {"peak_bytes": peak_bytes(), "before_bytes": before, "amount": frames}


def trained(
    clip: str, run: str, recipe: str, size: int, model: str, threads: int, steps: int, preview: bool = True,
    precision: str = "auto",
) -> dict[str, int]:  # fmt: skip
    """Peak of a process that trains for a few steps, with one preview at the end or none."""
    from rich.console import Console

    import reroll
    from reroll.footage import Store
    from reroll.training import budget, loop

    budget.PREVIEWS = 1
    if not preview:
        loop.preview = lambda *_: {}  # type: ignore[assignment]
    os.environ["REROLL_CACHE"] = str(Path(run).parent / "cache")
    before = peak_bytes()
    record = reroll.train(
        clip, run, recipe=recipe, size=size, model=model, threads=threads, steps=steps,
        precision=precision, console=Console(file=io.StringIO()),
    )  # fmt: skip
    frames = Store.open(record.store).frame_count
    return {
        "peak_bytes": peak_bytes(), "before_bytes": before, "amount": frames,
        "height": record.model.height, "width": record.model.width,
    }  # fmt: skip


def sampling_rows(bench: Bench) -> list[dict[str, Any]]:
    """One row for each recipe and length in seconds."""
    rows: list[dict[str, Any]] = []
    for recipe in bench.all_recipes:
        shown = asdict(Shown.like(bench.footage, bench.size, recipe, bench.model))
        shown["config"] = shown["config"].model_dump()
        found = [
            in_child("memory", kind="sampled", shown=shown, seconds=length, threads=bench.engine.threads)
            for length in bench.lengths
        ]
        rows += rows_of("sampling", recipe, [f"{length:g} s" for length in bench.lengths], found)
    return rows


def training_rows(bench: Bench, steps: int = TRAINED_STEPS) -> list[dict[str, Any]]:
    """One row for each recipe and length of made footage in seconds."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        clips = [make_clip(Path(folder) / f"{length:g}.mp4", length) for length in bench.footage_lengths]
        for recipe in bench.all_recipes:
            found = [
                in_child(
                    "memory", kind="trained", clip=clip, run=Path(folder) / f"{recipe}-{clip.stem}",
                    recipe=recipe, size=bench.size, model=bench.model, threads=bench.engine.threads, steps=steps,
                )
                for clip in clips
            ]  # fmt: skip
            lengths = [f"{length:g} s of footage" for length in bench.footage_lengths]
            rows += rows_of("training", recipe, lengths, found)
    return rows


def rows_of(
    what: str, recipe: str, lengths: Sequence[str], found: Sequence[dict[str, int]]
) -> list[dict[str, Any]]:
    """A row for each length, the shortest first."""
    return [
        {
            "of": what, "recipe": recipe, "length": length, "frames": each["amount"],
            "peak MB": each["peak_bytes"] / 1e6, "of these before it began": each["before_bytes"] / 1e6,
            "times the shortest": each["peak_bytes"] / found[0]["peak_bytes"],
        }
        for length, each in zip(lengths, found, strict=True)
    ]  # fmt: skip


def tables(bench: Bench) -> list[Table]:
    """Sampling, then training."""
    rows = [*sampling_rows(bench), *training_rows(bench)]
    note = (
        f"Size {bench.size}, model {bench.model}, {bench.engine.threads} threads; samples in {DENOISE_STEPS} steps,"
        f" trainings of {TRAINED_STEPS} steps with a preview; once each."
    )
    return [Table("Peak memory", rows, note)]


def _answer(kind: str, **options: Any) -> dict[str, int]:  # noqa: ANN401
    return {"sampled": sampled, "trained": trained}[kind](**options)


if __name__ == "__main__":
    answer(_answer)

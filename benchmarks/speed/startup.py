"""Seconds from the start of a process to what a person waits for: the help, or a sample's first frames.

`python -m benchmarks.speed.startup sample RUN ...` is the `reroll` command that ends when its first frames are written;
a clip's first frames are 16, since the Decoder runs over chunks. `import torch` alone is shown for comparison.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.speed.bench import Bench
from benchmarks.speed.children import ROOT, environment, in_child
from benchmarks.speed.tables import Table, interleaved

SAMPLE_SECONDS = 10.0
TRAINED_STEPS = 4


def seconds_of(words: Sequence[object]) -> float:
    """How long a process runs."""
    began = time.perf_counter()
    subprocess.run(
        [*map(str, words)], cwd=ROOT, env=environment(), check=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    return time.perf_counter() - began


def commands(run: Path) -> dict[str, list[object]]:
    """What is started, by the name it has in the table."""
    first = [sys.executable, "-m", "benchmarks.speed.startup", "sample", run, "--seconds", SAMPLE_SECONDS]
    return {
        "import torch": [sys.executable, "-c", "import torch"],
        "reroll --help": [Path(sys.executable).parent / "reroll", "--help"],
        "reroll sample, first frames": [*first, "-o", run / "first.mp4"],
        "reroll sample, first frames in one step": [*first, "--denoise-steps", 1, "-o", run / "first.mp4"],
    }


def tables(bench: Bench) -> list[Table]:
    """One row for each command; each is run once before, so that files are in the system's cache."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        in_child(
            "memory", kind="trained", clip=bench.footage.clips[0].absolute(), run=run, recipe="vae",
            size=bench.size, model=bench.model, threads=bench.engine.threads, steps=TRAINED_STEPS, preview=False,
        )  # fmt: skip
        measures: dict[str, Callable[[], float]] = {
            name: lambda words=words: seconds_of(words) for name, words in commands(run).items()
        }
        for measure in measures.values():
            measure()
        found = interleaved(measures, bench.rounds)
    rows: list[dict[str, Any]] = [
        {"started": name, "seconds": median(each), "rounds": each} for name, each in found.items()
    ]
    return [Table("Start-up", rows, f"Samples of a `vae` run at size {bench.size}, model {bench.model}.")]


def _until_first_frames() -> None:
    """The `reroll` command, ended as soon as frames are written."""
    from reroll.cli import main
    from reroll.export.media import VideoWriter

    write = VideoWriter.write

    def write_and_end(self: VideoWriter, frames: Any) -> None:  # noqa: ANN401
        write(self, frames)
        os._exit(0)

    VideoWriter.write = write_and_end  # type: ignore[method-assign]
    main()


if __name__ == "__main__":
    _until_first_frames()

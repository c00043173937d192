"""One system, trained on footage for some minutes and sampled: what `benchmarks.quality` runs in a process of its own.

    python -m benchmarks.contender vaegan --footage FOLDER --minutes 10 --seed 0 --size 64 -o OUT

Writes `OUT/frames.npz` (uint8: `samples` `N T H W 3`; `loop`, `long` `T H W 3` and `rebuilt` `N T H W 3`, where the
system can make them, with `originals`) and `OUT/about.json`. Ours are trained by the `reroll` command itself.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import reroll
from benchmarks.baselines import BASELINES, trainer
from reroll.evaluation.collect import rebuild
from reroll.evaluation.reference import Reference
from reroll.footage import Store, find_footage, ingest, split
from reroll.training.budget import WINDOW_FRAMES
from reroll.training.machine import cache_dir, cpu_name, usable_cores

SAMPLES, SAMPLE_FRAMES, LONG_SECONDS = 64, 64, 60.0
"""One window of each sample is compared, at its beginning, in its middle or at its end."""
OURS = ("gan", "vae", "vaegan")

Made = dict[str, np.ndarray]


def read(footage: Path, size: int) -> tuple[Store, float]:
    """The footage as everybody sees it, and its frame rate."""
    store = ingest(find_footage([footage])[0], short_side=size, cache_dir=cache_dir())
    return store, float(np.median([file.fps for file in store.files]))


def ours(
    recipe: str, footage: Path, minutes: float, seed: int, size: int, output: Path
) -> tuple[Made, dict[str, object]]:
    """Train by the command, which goes on with a run that was stopped, and sample."""
    run = output / "run"
    program = Path(sys.executable).parent / "reroll"
    words = [
        "train",
        footage,
        "--recipe",
        recipe,
        "--minutes",
        minutes,
        "--seed",
        seed,
        "--size",
        size,
        "-o",
        run,
    ]
    subprocess.run([str(program), *map(str, words)], check=True)
    generator = reroll.load(run)
    plan = generator.record.plan

    def make(frames: int, number: int, *, loop: bool = False) -> np.ndarray:
        return generator.sample(frames / generator.fps, seed=number, loop=loop).frames

    store, fps = read(footage, size)
    again = (lambda clips: rebuild(generator.sampler, clips)) if generator.record.model.encoder else None
    made = sampled(make, lambda frames, number: make(frames, number, loop=True), again, store, fps)
    return made, {"steps": [stage.steps for stage in plan.stages], "model": plan.model}


def theirs(name: str, footage: Path, minutes: float, seed: int, size: int) -> tuple[Made, dict[str, object]]:
    """Train a baseline on the training part of the footage, and sample."""
    store, fps = read(footage, size)
    clips = [store.frames(span.start, span.stop) for span in split(store, WINDOW_FRAMES).train]
    train = trainer(name)
    began = time.monotonic()
    baseline = train(clips, fps, minutes * 60, seed)
    took = time.monotonic() - began

    def again(windows: np.ndarray) -> np.ndarray | None:
        rebuilt = [baseline.rebuild(window) for window in windows]
        return None if rebuilt[0] is None else np.stack(rebuilt)

    made = sampled(baseline.sample, baseline.loop, again, store, fps)
    return made, {"steps": [baseline.steps], "trained_seconds": took}


def sampled(
    make: Callable[[int, int], np.ndarray],
    loop: Callable[[int, int], np.ndarray | None],
    again: Callable[[np.ndarray], np.ndarray | None] | None,
    store: Store,
    fps: float,
) -> Made:
    """All that is judged: samples of seeds from 0 on, a loop, a long sample, reconstructions."""
    made = {"samples": np.stack([make(SAMPLE_FRAMES, number) for number in range(SAMPLES)])}
    made["long"] = make(round(LONG_SECONDS * fps), SAMPLES)
    if (closed := loop(SAMPLE_FRAMES, 0)) is not None:
        made["loop"] = closed
    if again is not None:
        windows, _ = Reference.of(store, split(store, WINDOW_FRAMES), WINDOW_FRAMES, fps).to_rebuild()
        if (rebuilt := again(windows)) is not None:
            made |= {"rebuilt": rebuilt, "originals": windows}
    return made


def commit() -> str:
    """The commit of this checkout; empty outside of one."""
    words = ["git", "rev-parse", "--short", "HEAD"]
    asked = subprocess.run(words, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return asked.stdout.strip()


def main() -> None:
    """Train, sample, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("system", choices=[*OURS, *BASELINES])
    parser.add_argument("--footage", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("-o", "--output", type=Path, required=True)
    asked = parser.parse_args()
    began = time.monotonic()
    asked.output.mkdir(parents=True, exist_ok=True)
    if asked.system in OURS:
        made, about = ours(asked.system, asked.footage, asked.minutes, asked.seed, asked.size, asked.output)
    else:
        made, about = theirs(asked.system, asked.footage, asked.minutes, asked.seed, asked.size)
    about |= {"system": asked.system, "minutes": asked.minutes, "seed": asked.seed, "size": asked.size}
    about |= {"wall_seconds": time.monotonic() - began, "machine": f"{cpu_name()}, {usable_cores()} cores"}
    about |= {"commit": commit()}
    np.savez(asked.output / "unfinished.npz", **made)
    (asked.output / "unfinished.npz").rename(asked.output / "frames.npz")
    (asked.output / "about.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

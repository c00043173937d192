"""The best video per minute: every system on the same footage, minutes and cores, before the same judge.

    python -m benchmarks.quality --clips stream.mp4 gestures/ --minutes 10 --size 64 -o OUT
    python -m benchmarks.quality --clips gestures/ --minutes 30 --systems vaegan mocogan --seeds 0 1 2 -o OUT

Footage is cropped to squares and brought to the size once, without loss, so that all see the same pixels. One system
runs at a time, in a process of its own. Resumable: what is in OUT is not made again. Out: a table as markdown
(`OUT/table-10min.md`), all figures (`OUT/*/*/judgement.json`), and a contact sheet of each set (`OUT/*/sheet-*.png`).
`benchmarks/results` is the OUT of the figures in the docs; of each run it keeps `line.json`, `about.json` and
`strip.png`, which are all that tables and sheets are made from.

Distances are in multiples of the null: Fréchet's, of 64 windows of 16 frames of samples to 64 of the footage, over that
of two draws of 64 windows of the footage: of the part that is trained on, nobody can know the rest, which PSNR is of.
The system `footage` is that part itself: its line says how near one can come. Copies are counted against it.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.baselines import BASELINES
from benchmarks.contender import OURS, read
from benchmarks.lossless import square
from benchmarks.markdown import table
from reroll.evaluation import networks
from reroll.evaluation.collect import Sampled
from reroll.evaluation.evaluate import judge_samples, row
from reroll.evaluation.judge import Judgement
from reroll.evaluation.reference import Reference
from reroll.evaluation.report import plain
from reroll.export.media import write_grid
from reroll.footage import Store, split
from reroll.training.budget import WINDOW_FRAMES

COLUMNS, STRIP_SECONDS = 10, 2.0
SYSTEMS = (*BASELINES, *OURS)


def missing(system: str) -> str | None:
    """The package a system needs that is not installed."""
    needs = BASELINES.get(system)
    return needs if needs and find_spec(needs) is None else None


def contend(system: str, clips: Path, minutes: float, seed: int, size: int, folder: Path) -> None:
    """Let one system train and sample, unless it has."""
    if (folder / "about.json").exists():
        return
    words = [system, "--footage", clips, "--minutes", minutes, "--seed", seed, "--size", size, "-o", folder]
    subprocess.run([sys.executable, "-m", "benchmarks.contender", *map(str, words)], check=True)


def judged(folder: Path, footage: Reference) -> Judgement:
    """The judgement of what a system made; also written beside it, with frames of its first sample."""
    with np.load(folder / "frames.npz") as made:
        held = {name: made[name] for name in made.files}
    strip(folder / "strip.png", held["samples"][0], footage.fps)
    rebuilt = (held["originals"], held["rebuilt"]) if "rebuilt" in held else None
    sampled = Sampled(held["samples"], held.get("loop"), held["long"])
    found = judge_samples(sampled, footage, rebuilt, footage.to_rebuild()[1])
    (folder / "judgement.json").write_text(json.dumps(plain(found), indent=1) + "\n", encoding="utf-8")
    return found


def line(folder: Path, name: str, footage: Reference) -> dict[str, str]:
    """One line of the table; it is made once."""
    kept = folder / "line.json"
    if not kept.exists():
        about: dict[str, Any] = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        cells = {"system": name} | row(judged(folder, footage))
        cells["steps"] = "+".join(map(str, about["steps"]))
        kept.write_text(json.dumps(cells, indent=1) + "\n", encoding="utf-8")
    cells = json.loads(kept.read_text(encoding="utf-8"))
    return dict(cells)


def strip(target: Path, clip: np.ndarray, fps: float) -> None:
    """Frames of a clip `T H W 3` over its first two seconds, side by side."""
    write_grid(target, [clip[: round(STRIP_SECONDS * fps)]], COLUMNS)


def sheet(store: Store, fps: float, folders: Sequence[Path], target: Path) -> None:
    """A row of footage, then one row of each system's first sample: frames over two seconds."""
    shot = max(store.shots, key=lambda each: each.stop - each.start)
    strip(target, store.frames(shot.start, shot.stop), fps)
    rows = [cv2.imread(str(path)) for path in (target, *(folder / "strip.png" for folder in folders))]
    cv2.imwrite(str(target), np.concatenate(rows))


def tables(asked: argparse.Namespace) -> Iterator[str]:
    """Train, judge and draw, set by set; a table after each system that has come."""
    for clip in asked.clips:
        clips = square(clip, asked.size, asked.output / f"footage-{clip.stem}-{asked.size}")
        store, fps = read(clips, asked.size)
        parts = split(store, WINDOW_FRAMES)
        footage = Reference.of(store, parts, WINDOW_FRAMES, fps, every=1)
        lines: list[dict[str, str]] = []
        folders: list[Path] = []
        place = asked.output / f"{clip.stem}-{asked.size}"
        for seed, system in product(asked.seeds, asked.systems):
            if needed := missing(system):
                print(
                    f"{system} is skipped: {needed} is not installed (pip install '.[tutorial]')", flush=True
                )
                continue
            folder = place / f"{system}-{asked.minutes:g}min-seed{seed}"
            contend(system, clips, asked.minutes, seed, asked.size, folder)
            lines.append(line(folder, f"{system}, seed {seed}", footage))
            folders.append(folder)
            title = f"### {clip.stem}, {asked.size} pixels, {asked.minutes:g} minutes\n\n{parts.reason}"
            text = f"{title}\n\n{table(lines)}\n"
            print(text, flush=True)
        if folders:
            sheet(store, fps, folders, place / f"sheet-{asked.minutes:g}min.png")
            yield text


def main() -> None:
    """All sets and systems."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", nargs="+", type=Path, required=True)
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=SYSTEMS)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("-o", "--output", type=Path, required=True)
    asked = parser.parse_args()
    if not networks.available():
        print(networks.MISSING, flush=True)
    all_tables = list(tables(asked))
    (asked.output / f"table-{asked.minutes:g}min.md").write_text("\n".join(all_tables), encoding="utf-8")


if __name__ == "__main__":
    main()

"""Train recipes on footage, report on each, and print one table: what `docs/log.md` quotes.

    python -m benchmarks.runs --clips stream.mp4 gestures/ --minutes 20 --recipes vaegan -o runs/bench

One training at a time. Resumable: a finished run is not trained again, a stopped one goes on. Each run gets a contact
sheet, `sheet.png`: a row of footage above three rows of samples.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import reroll
from benchmarks.markdown import table
from reroll.export.media import write_grid
from reroll.footage import Store
from reroll.training.run import read_record

COLUMNS, SAMPLE_SECONDS = 8, 10.0


def run_name(clip: Path, recipe: str, size: int) -> str:
    """The folder of a run."""
    return f"{clip.stem}-{recipe}-{size}"


def command(*words: object) -> float:
    """Run one `reroll` command in its own process; how many seconds it took."""
    began = time.monotonic()
    program = Path(sys.executable).parent / "reroll"
    subprocess.run([str(program), *map(str, words)], check=True)
    return time.monotonic() - began


def row(run: Path) -> dict[str, Any]:
    """One line of the table, from the run's own files."""
    record = read_record(run)
    numbers = json.loads((run / "report.json").read_text(encoding="utf-8"))
    judged = numbers["judgement"]
    finished = [json.loads(line) for line in (run / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    seconds = [event["elapsed_seconds"] for event in finished if event["kind"] == "finished"]
    rebuilt = judged["reconstruction"]
    distances = {d["space"]: d for d in judged["distances"]}
    return {
        "run": run.name,
        "model": record.plan.model,
        "asked": f"{record.config.minutes:g} min"
        if record.config.minutes
        else f"{record.config.steps} steps",
        "took": f"{seconds[-1] / 60:.1f} min" if seconds else "",
        "steps": "+".join(str(stage.steps) for stage in record.plan.stages),
        "PSNR dB": "" if rebuilt is None else f"{rebuilt['psnr_db']:.1f}",
        "of": judged["reconstruction_of"].replace(" footage", ""),
        **{space: _distance(distances[space]) for space in distances},
        "motion": f"{judged['motion_ratio']:.2f}",
        "detail": "/".join(f"{judged['detail'][axis]:.2f}" for axis in ("space", "time")),
        "verdict": numbers["verdict"],
    }


def _distance(found: dict[str, Any]) -> str:
    multiple = found["multiple"]
    return f"{found['frechet']['median']:.3g}" + ("" if multiple is None else f" ({multiple:.1f}×)")


def sheet(run: Path) -> np.ndarray:
    """Eight frames of footage, and of three samples of ten seconds: `4 8 H W 3`."""
    record = read_record(run)
    store = Store.open(Path(record.store))
    shot = max(store.shots, key=lambda each: each.stop - each.start)
    generator = reroll.load(run)
    clips = [store.frames(shot.start, shot.stop)]
    clips += [generator.sample(SAMPLE_SECONDS, seed=seed).frames for seed in range(3)]
    return np.stack([clip[np.linspace(0, len(clip) - 1, COLUMNS).astype(int)] for clip in clips])


def main() -> None:
    """Train, report, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", nargs="+", type=Path, required=True)
    parser.add_argument("--recipes", nargs="+", default=["vaegan"], choices=["gan", "vae", "vaegan"])
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("-o", "--output", type=Path, required=True)
    asked = parser.parse_args()
    rows = []
    for clip in asked.clips:
        for recipe in asked.recipes:
            run = asked.output / run_name(clip, recipe, asked.size)
            command(
                "train", clip, "--recipe", recipe, "--minutes", asked.minutes, "--size", asked.size, "-o", run
            )
            if not (run / "report.json").exists():
                command("report", run)
            write_grid(run / "sheet.png", sheet(run), COLUMNS)
            rows.append(row(run))
            print_table(rows)


def print_table(rows: list[dict[str, Any]]) -> None:
    """Markdown."""
    print(table([{name: value for name, value in each.items() if name != "verdict"} for each in rows]))
    for each in rows:
        print(f"{each['run']}: {each['verdict']}", flush=True)


if __name__ == "__main__":
    main()

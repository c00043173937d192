"""Run the rows, print a line each, write one JSON."""

import argparse
import json
import platform
import sys
import tempfile
import time
import traceback
from pathlib import Path

import numpy as np
import torch

from benchmarks.reliability import bundles, crash, damage, full_disk, hostile, media, sickness
from benchmarks.reliability.rows import FAST, ROWS, Bench, BrokenError, say
from reroll.training.machine import cpu_name

__all__ = ["bundles", "crash", "damage", "full_disk", "hostile", "media", "sickness"]


def run(numbers: list[int], full: bool, seed: int, folder: Path) -> list[dict]:
    """Run rows one after the other; a line each on standard output."""
    results = []
    for number in numbers:
        title, function = ROWS[number]
        bench = Bench(folder / f"row-{number}", full, folder / "shared", np.random.default_rng(seed))
        began = time.monotonic()
        try:
            passed, figure = True, function(bench)
        except BrokenError as broken:
            passed, figure = False, str(broken)
        except Exception:  # a fault of ours or of the bench's is a row that did not pass
            passed, figure = False, traceback.format_exc()
            say(figure)
            figure = figure.strip().splitlines()[-1]
        finally:
            bench.end()
        seconds = round(time.monotonic() - began, 1)
        results.append(
            {"row": number, "title": title, "passed": passed, "figure": figure, "seconds": seconds}
        )
        print(f"{number:2}  {'pass' if passed else 'FAIL'}  {title}: {figure}  ({seconds:.0f} s)", flush=True)
    return results


def main() -> None:
    """See the package's first lines."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reliability", description=__doc__)
    parser.add_argument("--full", action="store_true", help="all rows at the counts of docs/reliability.md")
    parser.add_argument(
        "--fast", action="store_true", help="the rows of every commit, at small counts (the default)"
    )
    parser.add_argument("--rows", help="only these, such as 1,5,20")
    parser.add_argument("--seed", type=int, default=0, help="of where faults hit")
    parser.add_argument("-o", "--output", type=Path, help="a JSON file for all figures")
    asked = parser.parse_args()
    numbers = sorted(ROWS) if asked.full else list(FAST)
    if asked.rows:
        numbers = [int(number) for number in asked.rows.split(",")]
    with tempfile.TemporaryDirectory(prefix="reroll-reliability-") as folder:
        results = run(numbers, asked.full, asked.seed, Path(folder))
    passed = sum(result["passed"] for result in results)
    print(f"{passed} of {len(results)} rows pass")
    if asked.output:
        about = {
            "cpu": cpu_name(),
            "torch": torch.__version__,
            "python": platform.python_version(),
            "full": asked.full,
        }
        asked.output.write_text(json.dumps(about | {"seed": asked.seed, "rows": results}, indent=1) + "\n")
    sys.exit(passed < len(results))


if __name__ == "__main__":
    main()

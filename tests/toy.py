"""reroll at toy size: networks that train in seconds, for tests; run as a program it is the `reroll` command so
shrunk, with whatever else the test needs (`python tests/toy.py train ...`)."""

import io
import signal
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from rich.console import Console

TINY = {
    "latent_channels": 4, "decoder_widths": (8, 8, 16), "discriminator_widths": (8, 8, 16),
    "prior_width": 32, "prior_depth": 2, "prior_heads": 2,
}  # fmt: skip
HEIGHT, WIDTH, FRAMES, FPS = 32, 44, 60, 25
STEPS = 20
QUICK = {"size": HEIGHT, "threads": 1, "precision": "fp32", "device": "cpu"}


def shrink(patch: pytest.MonkeyPatch) -> None:
    """Tiny networks, few and short previews, few random draws in the report."""
    from reroll import config
    from reroll.evaluation import judge
    from reroll.training import budget, preview

    for name in config.PRESETS:
        patch.setitem(config.PRESETS, name, TINY)
    patch.setattr(budget, "PREVIEWS", 2)
    patch.setattr(budget, "LEAST_STEPS", 3)
    patch.setattr(preview, "SECONDS", 0.3)
    patch.setattr(judge, "DRAWS", 10)
    patch.setattr(judge, "PLANTED_DRAWS", 3)


def write_footage(folder: Path, clips: int = 1, *, seed: int = 0) -> Path:
    """A folder of clips of a square that swings over a soft background."""
    from footage_maker import (  # not on the path of benchmarks.reliability, which shrinks as we do
        shaking,
        write_clip,
    )

    folder.mkdir(parents=True, exist_ok=True)
    for number in range(seed, seed + clips):
        write_clip(folder / f"clip{number}.mp4", shaking(FRAMES, HEIGHT, WIDTH, seed=number), fps=FPS)
    return folder


def run_in(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """The command in this process, started in `folder`: exit code, standard output, standard error."""
    from reroll import cli

    out, error = io.StringIO(), io.StringIO()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(error):
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["reroll", *arguments])
        patch.setattr(sys, "unraisablehook", sys.unraisablehook)
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            for number, handler in handlers.items():  # a command that was stopped wants to hear of no more
                signal.signal(number, handler)
    return code, out.getvalue(), error.getvalue()


def train(footage: Path, run: Path, recipe: str, **options):
    """A run of a recipe, `STEPS` steps unless options say otherwise."""
    import reroll

    return reroll.train(footage, run, recipe=recipe, **(QUICK | {"steps": STEPS} | silent() | options))


def silent() -> dict:
    """A console for `reroll.train` that keeps quiet."""
    return {"console": Console(file=io.StringIO())}


if __name__ == "__main__":
    shrink(pytest.MonkeyPatch())
    from reroll.cli import main

    sys.argv[0] = "reroll"
    main()

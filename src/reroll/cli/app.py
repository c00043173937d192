"""The command itself, and what its verbs share.

Nothing here or in the files of the verbs imports what takes seconds (torch, decoders) before a verb is run: help is
quick, and Ctrl-C meanwhile is one line, too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, ArgumentCollection, Group, Parameter

from reroll.config import SampleOptions
from reroll.errors import UsageError

if TYPE_CHECKING:
    from reroll.export.clip import Clip
    from reroll.export.provenance import Identity
    from reroll.generator import Generator


def _refuse_fractions(arguments: ArgumentCollection) -> None:
    """Whole numbers are typed as such: cyclopts would round `--steps 5.5`."""
    for argument in arguments:
        for token in argument.tokens:
            if isinstance(argument.value, int) and "." in token.value:
                raise UsageError(f"{argument.name} {token.value}: give a whole number.")


app = App(
    name="reroll",
    help="Train a video generator on your own footage, with a GAN, a VAE or both, and roll it again.",
    version_flags=["--version"],
    suppress_keyboard_interrupt=False,
    group_parameters=Group("Parameters", validator=_refuse_fractions),
)
Output = Annotated[Path, Parameter(name=["--output", "-o"])]
Sampling = Annotated[SampleOptions, Parameter(name="*")]
Paths = Annotated[list[Path], Parameter(consume_multiple=True)]


@dataclass(frozen=True)
class MakeOptions:
    """Where and how outputs are written, and what makes them; the options that all tasks share.

    Args:
        output: A file for a single output, whose ending says the format; without one a folder.
        format: mp4, webm, prores, gif, apng, webp, png (a folder of frames), sprite (a sheet, and its JSON for game
            engines) or sheet (of twenty frames, to look at).
        seed: A number, or a range such as 0-31.
        count: How many, from the first seed on.
        sign: Put content credentials (C2PA) into the output: that it is made by a trained model, from whose footage.
        certificate: PEM file of the certificate to sign with, and its chain; by default the one `doctor` makes.
        key: PEM file of its private key.
        device: auto, cpu, cuda or mps.
        threads: CPU threads; one per core by default.
    """

    output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("out")
    format: str | None = None
    seed: str = "0"
    count: int = 1
    sign: Annotated[bool, Parameter(negative=())] = False
    certificate: Path | None = None
    key: Path | None = None
    device: str = "auto"
    threads: int | None = None

    def seeds(self) -> list[int]:
        """Of the outputs, one each."""
        return parse_seeds(self.seed, self.count)

    def identity(self) -> "Identity | None":
        """Who signs; UsageError if that cannot be."""
        if not self.sign and self.certificate is None and self.key is None:
            return None
        from reroll.export.provenance import Identity
        from reroll.training.machine import config_dir

        found = Identity.find(self.certificate, self.key, config_dir())
        found.check()
        return found

    def make(
        self, run: Path, name: str, task: Callable[["Generator", int], "Clip"], seeds: list[int] | None = None
    ) -> None:
        """Write what a task makes of a run and each seed (of these, if the task has its own), in a folder under names
        that begin with `name`, and print where it is. UsageError, before the run is read, if it could not be written.
        """
        import reroll
        from reroll.export.formats import choose, is_folder

        chosen, folder, identity = choose(self.output, self.format), is_folder(self.output), self.identity()
        asked = self.seeds()
        if seeds is not None and len(asked) > 1:
            raise UsageError("--count and a range of --seed: this task makes one clip; leave them out.")
        seeds = asked if seeds is None else seeds
        if not folder and len(seeds) > 1:
            raise UsageError(
                f"-o {self.output} is one file, and {len(seeds)} clips were asked for; give a folder."
            )
        generator = reroll.load(run, device=self.device, threads=self.threads)
        for seed in seeds:
            path = self.output / f"{name}-{seed:05d}{chosen.ending}" if folder else self.output
            print(task(generator, seed).save(path, chosen.name, identity))


Making = Annotated[MakeOptions, Parameter(name="*")]


def parse_seeds(text: str, count: int) -> list[int]:
    """`3` and a count of 4 → 3, 4, 5, 6; `0-31` → 0 to 31. UsageError otherwise."""
    first, dash, last = text.partition("-")
    if count < 1:
        raise UsageError(f"--count {count}: give at least 1.")
    if not first.isdecimal() or (dash and not last.isdecimal()):
        raise UsageError(f"--seed {text}: give a number, or a range such as 0-31.")
    if not dash:
        return list(range(int(first), int(first) + count))
    if count != 1:
        raise UsageError("--seed with a range and --count exclude each other; give one.")
    if int(last) < int(first):
        raise UsageError(f"--seed {text}: the range runs backwards.")
    return list(range(int(first), int(last) + 1))

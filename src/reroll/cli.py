"""The `reroll` command: one verb a function, each a thin face of `reroll.api`.

Errors of ours become one line and their exit code; Ctrl-C during training saves first. Nothing here imports what takes
seconds (torch, decoders) before a verb is run: help is quick, and Ctrl-C meanwhile is one line, too.
"""

import io
import signal
import sys
from dataclasses import asdict
from json import dumps
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, ArgumentCollection, Group, Parameter
from cyclopts.exceptions import CycloptsError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import reroll
from reroll.config import JudgedOptions, RecipeName, SampleOptions
from reroll.errors import RerollError, SpaceError, UsageError

if TYPE_CHECKING:
    from reroll.api import FootageReport
    from reroll.evaluation.judge import Judgement


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
Footage = Annotated[list[Path], Parameter(help="Files and folders in any mixture.")]
Output = Annotated[Path, Parameter(name=["--output", "-o"])]
Written = Annotated[str | None, Parameter(name="--format")]
Sampling = Annotated[SampleOptions, Parameter(name="*")]
Compared = Annotated[list[Path] | None, Parameter(consume_multiple=True)]
Paths = Annotated[list[Path], Parameter(consume_multiple=True)]
Judged = Annotated[JudgedOptions, Parameter(name="*")]


@app.command
def inspect(footage: Footage, /, *, minutes: float = 20.0, json: bool = False) -> None:
    """What is in the footage, what can be trained from it, how long it will take.

    Args:
        minutes: The time there is: for it the size and model are named that would be trained, and why.
        json: Print JSON and nothing else.
    """
    found = reroll.inspect(footage, minutes=minutes)
    if json:
        print(dumps(found.model_dump(), indent=2))
        return
    _print_inspection(found)


@app.command
def train(
    footage: Footage,
    /,
    *,
    output: Output,
    recipe: RecipeName = "vaegan",
    minutes: float | None = None,
    steps: int | None = None,
    size: int | Literal["auto"] = 64,
    model: Literal["auto", "s", "m", "l"] = "auto",
    seed: int = 0,
    add_minutes: float | None = None,
    init: Path | None = None,
    like: Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
) -> None:
    """Train a generator; the same command again goes on where it was stopped.

    Args:
        output: The run's folder.
        recipe: What learns: a VAE, a GAN, or both together.
        minutes: How long it may take, reading the footage included (20 if no --steps are given).
        steps: A budget of steps instead of minutes.
        size: Pixels on the short side, an even number; auto takes what `inspect` suggests for the minutes.
        model: Size of the networks; auto chooses by timing.
        seed: Of all random choices.
        add_minutes: Go on with a finished run for so much longer.
        init: Start from this run's weights.
        like: Instead of minutes or steps, repeat this run's plan step by step on the same footage; with its options and
            on its machine the result is the same bit for bit.
        device: auto, cpu, cuda or mps.
        precision: auto, fp32 or bf16; auto measures.
        threads: CPU threads; one per core by default.
    """
    record = reroll.train(
        footage, output, recipe=recipe, minutes=minutes, steps=steps, size=size, model=model, seed=seed,
        add_minutes=add_minutes, init=init, like=like, device=device, precision=precision, threads=threads,
    )  # fmt: skip
    console = Console()
    console.print(f"{record.status}: {output}", highlight=False, markup=False)
    console.print(f"  previews in {output / 'previews'}", highlight=False, markup=False)
    console.print(
        f"  next: reroll sample {output} --seconds 10 --count 8 -o out/", highlight=False, markup=False
    )


@app.command
def sample(
    run: Path,
    /,
    *,
    output: Output = Path("out"),
    format: Written = None,
    seconds: float = 5.0,
    count: int = 1,
    seed: str = "0",
    loop: bool = False,
    options: Sampling = SampleOptions(),  # noqa: B008
    device: str = "auto",
    threads: int | None = None,
) -> None:
    """New clips, any length.

    Args:
        run: The run's folder.
        output: A folder, or a file for a single clip, whose ending says the format.
        format: mp4, webm, prores, gif, apng, webp, png (a folder of frames), sprite (a sheet, and its JSON for game
            engines) or sheet (of twenty frames, to look at).
        seconds: Length of each clip.
        count: How many, from the first seed on.
        seed: A number, or a range such as 0-31.
        loop: A closed clip that plays round and round.
        device: auto, cpu, cuda or mps.
        threads: CPU threads; one per core by default.
    """
    seeds = parse_seeds(seed, count)
    from reroll.export.formats import choose, is_folder

    chosen = choose(output, format)
    single = not is_folder(output)
    if single and len(seeds) > 1:
        raise UsageError(f"-o {output} is one file, and {len(seeds)} clips were asked for; give a folder.")
    generator = reroll.load(run, device=device, threads=threads)
    name = run.resolve().name
    for number in seeds:
        kind = "loop" if loop else "sample"
        path = output if single else output / f"{name}-{kind}-{number:05d}{chosen.ending}"
        clip = generator.sample(seconds, seed=number, loop=loop, **asdict(options))
        print(clip.save(path, chosen.name))


@app.command
def extend(
    run: Path,
    take: Path,
    /,
    *,
    output: Output = Path("longer.mp4"),
    format: Written = None,
    seconds: float = 5.0,
    backwards: bool = False,
    seed: int = 0,
    options: Sampling = SampleOptions(),  # noqa: B008
    device: str = "auto",
    threads: int | None = None,
) -> None:
    """A take, or a picture, that goes on.

    Args:
        run: The run's folder.
        take: A video or a picture; it is brought to the run's size, cropped in the middle if its shape is another.
        output: The file, whose ending says the format; without one a folder.
        format: mp4, webm, prores, gif, apng, webp, png, sprite or sheet, as of `sample`.
        seconds: How much is added.
        backwards: Added before the take, and leads to it.
        seed: Of the new frames.
        device: auto, cpu, cuda or mps.
        threads: CPU threads; one per core by default.
    """
    chosen, path = _single(output, format, f"{take.stem}-longer")
    generator = reroll.load(run, device=device, threads=threads)
    clip = generator.extend(take, seconds, backwards=backwards, seed=seed, **asdict(options))
    print(clip.save(path, chosen))


@app.command
def inbetween(
    run: Path,
    first: Path,
    second: Path,
    /,
    *,
    output: Output = Path("between.mp4"),
    format: Written = None,
    seconds: float = 2.0,
    seed: int = 0,
    options: Sampling = SampleOptions(),  # noqa: B008
    device: str = "auto",
    threads: int | None = None,
) -> None:
    """Two takes, or pictures, and new frames that lead from one to the other.

    Args:
        run: The run's folder.
        first: A video or a picture; as of `extend`.
        second: Another.
        output: The file, whose ending says the format; without one a folder.
        format: mp4, webm, prores, gif, apng, webp, png, sprite or sheet, as of `sample`.
        seconds: How much lies between.
        seed: Of the new frames.
        device: auto, cpu, cuda or mps.
        threads: CPU threads; one per core by default.
    """
    chosen, path = _single(output, format, f"{first.stem}-{second.stem}")
    generator = reroll.load(run, device=device, threads=threads)
    print(generator.inbetween(first, second, seconds, seed=seed, **asdict(options)).save(path, chosen))


@app.command
def loop(
    run: Path,
    take: Path,
    /,
    *,
    output: Output = Path("loop.mp4"),
    format: Written = None,
    seconds: float = 2.0,
    seed: int = 0,
    options: Sampling = SampleOptions(),  # noqa: B008
    device: str = "auto",
    threads: int | None = None,
) -> None:
    """A take that plays round and round: new frames lead from its end to its beginning.

    Args:
        run: The run's folder.
        take: A video; as of `extend`.
        output: The file, whose ending says the format; without one a folder.
        format: mp4, webm, prores, gif, apng, webp, png, sprite or sheet, as of `sample`.
        seconds: How much is added.
        seed: Of the new frames.
        device: auto, cpu, cuda or mps.
        threads: CPU threads; one per core by default.
    """
    chosen, path = _single(output, format, f"{take.stem}-loop")
    generator = reroll.load(run, device=device, threads=threads)
    print(generator.loop(take, seconds, seed=seed, **asdict(options)).save(path, chosen))


@app.command
def again(
    made: Path,
    /,
    *,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    format: Written = None,
    run: Path | None = None,
    take: Compared = None,
    device: str | None = None,
) -> None:
    """An output made again, frame for frame, from the record in it.

    Args:
        made: A file that reroll sampled, or a folder of its frames.
        output: The file; by default beside the first one, with "-again" in its name.
        format: As of `sample`; by default that of the first one.
        run: The run's folder, if it is not where it was.
        take: The footage it was made from, if that is not where it was.
        device: auto, cpu, cuda or mps; by default the one it was made on.
    """
    from reroll.export.formats import choose, format_of

    path = output or made.with_name(f"{made.stem}-again{made.suffix}")
    chosen = choose(path, format or (None if output else format_of(made)))
    print(reroll.again(made, run=run, takes=take or [], device=device).save(path, chosen.name))


@app.command
def report(
    run: Path,
    /,
    *,
    compare: Compared = None,
    options: Judged = JudgedOptions(),  # noqa: B008
    threads: int | None = None,
) -> None:
    """One HTML page: curves, samples beside footage, distances, nearest footage.

    Args:
        run: The run's folder.
        compare: Other runs on the same footage, whose reports are there already.
        threads: CPU threads; one per core by default.
    """
    page, verdict = reroll.report(run, compare=compare or [], threads=threads, **asdict(options))
    print(verdict)
    print(page)


@app.command
def evaluate(
    runs: Paths,
    /,
    *,
    footage: Paths,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    options: Judged = JudgedOptions(),  # noqa: B008
    size: int | None = None,
    i3d: Path | None = None,
    threads: int | None = None,
) -> None:
    """Runs, or videos from anywhere, against any footage: one table.

    Args:
        runs: Folders of runs; or videos, or folders of videos, that any tool made.
        footage: Files and folders to compare with; may be what a run was trained on, or not.
        output: A JSON file for all figures.
        size: Pixels on the short side at which all are compared; the first run's by default.
        i3d: The I3D network as a TorchScript file; with it FVD is measured, too.
        threads: CPU threads; one per core by default.
    """
    if output is not None and output.suffix.lower() != ".json":
        raise UsageError(f"-o {output}: give a file that ends in .json.")
    found = reroll.evaluate(
        runs, footage, output=output, size=size, i3d=i3d, threads=threads, **asdict(options)
    )
    _print_judgements(found)


@app.command
def doctor(*, make_room: Annotated[Path, Parameter(name="--runs")] = Path()) -> None:
    """Torch build, cores, bf16, codecs, memory, disk: what is wrong and what to do.

    Args:
        make_room: Where runs will be written.
    """
    from reroll.doctor import examine, exit_code, print_findings

    findings = examine(make_room)
    print_findings(findings, Console())
    sys.exit(exit_code(findings))


def _single(output: Path, format: str | None, name: str) -> tuple[str, Path]:
    """The format of a single output and where it is written: at `-o`, or under a name in that folder."""
    from reroll.export.formats import choose, is_folder

    chosen = choose(output, format)
    return chosen.name, output / f"{name}{chosen.ending}" if is_folder(output) else output


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


def _print_inspection(found: "FootageReport") -> None:
    """The inspection as a person reads it."""
    from reroll.footage.container import shown
    from reroll.footage.movement import DOMINANT
    from reroll.footage.notes import some

    console, seen = Console(), found.footage
    table = Table("file", "size", "fps", "length", "shots", "motion", box=None, pad_edge=False)
    remarks: dict[str, list[str]] = {}
    for file in seen.files:
        name = shown(Path(file.path).name)
        table.add_row(
            escape(name), f"{file.width}×{file.height}", f"{file.fps:.4g}", f"{file.seconds:.1f} s",
            f"{file.shots}{'' if file.complete else '+'}", f"{file.motion * 100:.2f} %",
        )  # fmt: skip
        for remark in file.suspicious:
            remarks.setdefault(remark, []).append(name)
    console.print(table)
    direction = "none"
    if seen.direction_degrees is not None and seen.direction_dominance > DOMINANT:
        direction = f"{seen.direction_degrees:.0f}° (0 is right, 90 is up)"
    lines = [
        *(f"  {some(names)}: {remark}" for remark, names in remarks.items()),
        *(f"skipped {item.path}: {item.reason}" for item in seen.skipped),
        f"{seen.seconds:.1f} s in {_count(seen.shots, 'shot')} of {_count(seen.file_count, 'file')}"
        + (f", labels: {', '.join(seen.labels)}" if seen.labels else ""),
        f"motion: {seen.motion * 100:.2f} % of the short side a frame; dominant direction: {direction}",
        seen.mirror_reason,
        *seen.notes,
        *found.suggestion.lines(),
    ]
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _print_judgements(found: "dict[str, Judgement]") -> None:
    """One row each, and what could not be measured."""
    from reroll.evaluation.evaluate import row

    console = Console()
    rows = {name: row(judgement) for name, judgement in found.items()}
    table = Table("", *next(iter(rows.values())), box=None, pad_edge=False)
    for name, cells in rows.items():
        table.add_row(*map(escape, (name, *cells.values())))
    console.print(table)
    for line in dict.fromkeys(
        line for judgement in found.values() for line in (judgement.basis, *judgement.missing)
    ):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def main() -> None:
    """Entry point: run, and turn errors into one line and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a console that is not UTF-8 shows \xe4 for an ä
            stream.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGTERM, _terminate)
    try:
        app(sys.argv[1:], exit_on_error=False, print_error=False)
    except CycloptsError as error:
        _fail(str(error).strip().splitlines()[0], 2)
    except RerollError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt as stop:
        _fail("stopped.", 128 + int(*stop.args or [signal.SIGINT]))
    except ImportError as error:
        if (error.name or "").startswith("reroll"):
            raise
        _fail(f"a package is missing or does not load ({error}); in a clone of reroll: pip install .", 1)
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        _fail(
            "the memory does not suffice; end other programs, or ask for less at a time.",
            SpaceError.exit_code,
        )
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
    except OSError as error:
        _fail(f"{error.filename or 'a file'}: {error.strerror or error}.", 1)


def _out_of_memory(error: Exception) -> bool:
    from reroll.training.engine import out_of_memory

    return out_of_memory(error)


def _terminate(number: int, frame: FrameType | None) -> None:
    """SIGTERM ends as Ctrl-C does, whatever was begun being tidied up."""
    raise KeyboardInterrupt(number)


def _fail(message: str, code: int) -> None:
    line = " ".join(message.split())
    Console(stderr=True).print(f"reroll: {line}", highlight=False, markup=False, soft_wrap=True)
    sys.exit(code)


if __name__ == "__main__":
    main()

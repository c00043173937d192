"""The verbs that look, learn and judge: inspect, train, report, evaluate, doctor."""

import sys
from dataclasses import asdict
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import reroll
from reroll.cli.app import Output, Paths, app
from reroll.config import JudgedOptions, RecipeName
from reroll.errors import UsageError

if TYPE_CHECKING:
    from reroll.api import FootageReport
    from reroll.evaluation.judge import Judgement
    from reroll.export.provenance import Whence

Footage = Annotated[list[Path], Parameter(help="Files and folders in any mixture.")]
Compared = Annotated[list[Path] | None, Parameter(consume_multiple=True)]
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
    owner: str | None = None,
    licence: str | None = None,
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
        owner: Whose the footage is: kept in the run, its bundles and signed outputs.
        licence: Under which licence the footage is, likewise.
        device: auto, cpu, cuda or mps.
        precision: auto, fp32 or bf16; auto measures.
        threads: CPU threads; one per core by default.
    """
    record = reroll.train(
        footage, output, recipe=recipe, minutes=minutes, steps=steps, size=size, model=model, seed=seed,
        add_minutes=add_minutes, init=init, like=like, owner=owner, licence=licence, device=device,
        precision=precision, threads=threads,
    )  # fmt: skip
    console = Console()
    console.print(f"{record.status}: {output}", highlight=False, markup=False)
    console.print(f"  previews in {output / 'previews'}", highlight=False, markup=False)
    console.print(
        f"  next: reroll sample {output} --seconds 10 --count 8 -o out/", highlight=False, markup=False
    )


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
def pack(
    run: Path,
    /,
    *,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
) -> None:
    """A trained run as one file, to share: weights, settings, model card. Verbs that make video take it for the run.

    Args:
        run: The run's folder.
        output: The file, which ends in .safetensors; by default RUN.reroll.safetensors, here.
    """
    print(reroll.pack(run, output or Path(f"{run.resolve().name}.reroll.safetensors")))


@app.command
def export(
    run: Path,
    /,
    *,
    onnx: Annotated[bool, Parameter(negative=())] = False,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
) -> None:
    """A trained run for other software: its networks, to sample from without PyTorch.

    Args:
        run: The run's folder, or a bundle.
        onnx: As ONNX, which is the one format there is.
        output: The folder; by default RUN-onnx, here.
    """
    if not onnx:
        raise UsageError("export: say in which format; --onnx is the one there is.")
    print(reroll.export_onnx(run, output or Path(f"{run.resolve().stem}-onnx")))


@app.command
def whence(path: Path, /, *, json: bool = False) -> None:
    """Where a file is from: who signed it and whether that verifies, what made it, from whose footage.

    Args:
        path: An output of reroll, or any other file.
        json: Print JSON and nothing else.
    """
    found = reroll.whence(path)
    if json:
        print(dumps(asdict(found), indent=2))
    else:
        for line in _whence_lines(path, found):
            Console().print(line, highlight=False, markup=False, soft_wrap=True)
    if found.problem is not None:
        sys.exit(1)


def _whence_lines(path: Path, found: "Whence") -> list[str]:
    """What a person wants to know of it."""
    if found.signed_by is None:
        lines = [f"{path}: not signed."]
    elif found.problem is not None:
        lines = [f"{path}: signed by {found.signed_by}, but it does not verify: {found.problem}."]
    else:
        trust = "" if found.trusted else "; the certificate is on no list of trusted ones"
        lines = [f"{path}: signed by {found.signed_by}, and unchanged since{trust}."]
    if found.source_type is not None:
        lines.append(f"source type: {found.source_type.rpartition('/')[2]}")
    record = found.record
    if not record:
        return [*lines, "No record of reroll is in it."]
    options = record.get("options", {})
    lines.append(
        f"made by reroll {record.get('reroll')}: {record.get('task')}, seed {options.get('seed')}, run"
        f" {record.get('run')} ({record.get('recipe')}, step {record.get('step')}, weights"
        f" {str(record.get('model_sha256'))[:12]})"
    )
    footage = found.footage or record.get("footage", {})
    count = footage.get("files", [])
    lines.append(
        f"trained on {_count(count if isinstance(count, int) else len(count), 'file')}; owner:"
        f" {footage.get('owner') or 'not said'}; licence: {footage.get('licence') or 'not said'}"
    )
    if isinstance(count, list):
        lines += [f"  {each['name']}  {each['sha256'][:12]}" for each in count]
    lines += [f"from {take['path']}  {take['sha256'][:12]}" for take in record.get("takes", [])]
    return lines


@app.command
def doctor(
    *,
    make_room: Annotated[Path, Parameter(name="--runs")] = Path(),
    make_dev_cert: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Torch build, cores, bf16, codecs, memory, disk: what is wrong and what to do.

    Args:
        make_room: Where runs will be written.
        make_dev_cert: Make a certificate to try `--sign` with, and look at nothing.
    """
    if make_dev_cert:
        from reroll.export.provenance import make_development_identity
        from reroll.training.machine import config_dir

        made = make_development_identity(config_dir())
        print(made.certificate)
        print(made.key)
        return
    from reroll.doctor import examine, exit_code, print_findings

    findings = examine(make_room)
    print_findings(findings, Console())
    sys.exit(exit_code(findings))


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

"""`reroll doctor`: what this machine has, what is wrong with it, and what to do.

`ok` needs nothing, `warn` works but slower or only in part, `fail` means that training or writing videos
cannot work here; only that makes the command's exit code 1.
"""

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import torch
from av.codec import Codec
from av.codec.codec import UnknownCodecError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from reroll.training import machine
from reroll.training.engine import BF16_PAYS, measure_bf16

Status = Literal["ok", "warn", "fail"]

PYTHON_LEAST, TORCH_LEAST = (3, 11), (2, 10)
DECODERS = ("h264", "hevc", "av1", "vp9", "prores", "mpeg4", "mpeg2video", "mjpeg", "gif", "png")
_COLOURS: dict[Status, str] = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@dataclass(frozen=True)
class Finding:
    """One thing looked at: its name, how it is, what was found and, unless it is ok, what to do."""

    name: str
    status: Status
    found: str
    advice: str = ""


def examine(runs_dir: Path = Path(), cache_dir: Path | None = None) -> list[Finding]:
    """Look at everything that training and sampling need. Takes about two seconds.

    Args:
        runs_dir: Where runs are to be written (it need not exist yet).
        cache_dir: Where decoded footage is kept, by default the one that is used.
    """
    return [
        _python(),
        _torch(),
        _fabric(),
        _device(),
        _cores(),
        _load(),
        _bf16(),
        _encoder(),
        _decoders(),
        _memory(),
        _disk("disk for runs", runs_dir),
        _disk("disk for the cache", cache_dir or machine.cache_dir()),
    ]


def exit_code(findings: Sequence[Finding]) -> int:
    """1 if anything fails, else 0: warnings are not errors."""
    return int(any(finding.status == "fail" for finding in findings))


def print_findings(findings: Sequence[Finding], console: Console) -> None:
    """A table of the findings, and what to do about those that are not ok."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for finding in findings:
        found = Text(finding.found)
        if finding.advice:
            found.append(f"\n→ {finding.advice}", style=_COLOURS[finding.status])
        table.add_row(Text(finding.status, style=_COLOURS[finding.status]), Text(finding.name), found)
    console.print(table)
    wrong = [finding for finding in findings if finding.status != "ok"]
    fails = sum(finding.status == "fail" for finding in wrong)
    if fails:
        console.print(
            Text(f"\n{fails} of {len(findings)} fail: reroll cannot work here until they are mended.")
        )
    elif wrong:
        console.print(Text(f"\nreroll works here; {len(wrong)} of {len(findings)} could be better."))
    else:
        console.print(Text("\nAll is well."))


def _python() -> Finding:
    found = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.version_info[:2] < PYTHON_LEAST:
        return Finding("python", "fail", found, "install Python 3.11 or newer")
    if sys.maxsize < 2**32:
        return Finding("python", "fail", f"{found}, 32 bits", "install a 64-bit Python: torch needs one")
    return Finding("python", "ok", found)


def _torch() -> Finding:
    build = torch.version.cuda and f"CUDA {torch.version.cuda}"
    found = f"torch {torch.__version__} ({build or 'CPU build'}), {torch.backends.cpu.get_cpu_capability()}"
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < TORCH_LEAST:
        return Finding("torch", "fail", found, "pip install 'torch>=2.10': older ones load files unsafely")
    if platform.machine() in ("x86_64", "AMD64") and not torch.backends.mkldnn.is_available():
        return Finding(
            "torch", "warn", f"{found}, without oneDNN", "use the torch from PyPI: it is many times faster"
        )
    return Finding("torch", "ok", found)


def _fabric() -> Finding:
    return Finding("lightning-fabric", "ok", version("lightning-fabric"))


def _device() -> Finding:
    if torch.cuda.is_available():
        return Finding("device", "ok", f"cuda: {torch.cuda.get_device_name()}")
    if torch.backends.mps.is_available():
        return Finding("device", "ok", "mps: Apple's GPU")
    if shutil.which("nvidia-smi"):
        return Finding(
            "device", "warn", "cpu, although an NVIDIA driver is installed",
            "this torch does not see the GPU: install the build for your CUDA version, or update the driver",
        )  # fmt: skip
    return Finding("device", "ok", f"cpu: {machine.cpu_name()}")


def _cores() -> Finding:
    cores = machine.usable_cores()
    found = f"{cores} to train on, so {cores} thread{'s' if cores > 1 else ''}"
    if cores == 1:
        return Finding(
            "cores", "warn", found, "two or more would be faster: look at taskset, quotas, OMP_NUM_THREADS"
        )
    return Finding("cores", "ok", found)


def _load() -> Finding:
    notes = machine.busy_notes()
    if not notes:
        return Finding("load", "ok", "no other process is busy")
    found, _, advice = notes[0].partition("; ")
    return Finding("load", "warn", found, advice.rstrip("."))


def _bf16() -> Finding:
    threads = torch.get_num_threads()
    torch.set_num_threads(machine.usable_cores())
    ratio = measure_bf16(torch.device("cpu"))
    torch.set_num_threads(threads)
    if ratio is None:
        return Finding("bf16", "ok", "does not run on this processor: training is in fp32")
    pays = "pays: training uses it" if ratio > BF16_PAYS else "does not pay: training is in fp32"
    return Finding("bf16", "ok", f"{ratio:.2f} times the speed of fp32, {pays}")


def _has_codec(name: str, mode: Literal["r", "w"]) -> bool:
    try:
        Codec(name, mode)
    except UnknownCodecError:
        return False
    return True


def _encoder() -> Finding:
    if _has_codec("libx264", "w"):
        return Finding("H.264 encoder", "ok", f"libx264 in PyAV {version('av')}")
    advice = "reinstall PyAV from its wheel: pip install --force-reinstall --only-binary av av"
    return Finding("H.264 encoder", "fail", f"PyAV {version('av')} has no libx264", advice)


def _decoders() -> Finding:
    missing = [name for name in DECODERS if not _has_codec(name, "r")]
    if not missing:
        return Finding("decoders", "ok", ", ".join(DECODERS))
    advice = "such footage cannot be read; reinstall PyAV from its wheel: pip install --force-reinstall av"
    return Finding("decoders", "fail" if "h264" in missing else "warn", f"no {', '.join(missing)}", advice)


def _memory() -> Finding:
    total, free = machine.memory_bytes(), machine.free_memory_bytes()
    found = f"{_gigabytes(free)} free of {_gigabytes(total)}"
    if free < 1e9:
        return Finding("memory", "fail", found, "end other programs: training takes 1 GB at the least")
    if free < 3e9:
        return Finding("memory", "warn", found, "end other programs, or train with --model s")
    return Finding("memory", "ok", found)


def _disk(name: str, directory: Path) -> Finding:
    whole = directory.absolute()
    place = next(place for place in (whole, *whole.parents) if os.path.exists(place))
    advice = "choose another place with -o" if "runs" in name else "set REROLL_CACHE to another place"
    if not os.path.isdir(place):
        return Finding(name, "fail", f"{place} is a file, not a folder", advice)
    try:
        with tempfile.NamedTemporaryFile(dir=place):
            pass
    except OSError as error:
        return Finding(name, "fail", f"{whole} is not writable ({error.strerror})", advice)
    free = shutil.disk_usage(place).free
    found = f"{_gigabytes(free)} free at {whole}"
    if free < 5e8:
        return Finding(name, "fail", found, "make room: a run takes 0.5 GB and more")
    if free < 5e9:
        return Finding(name, "warn", found, "make room: an hour of footage at 64 pixels takes 1.5 GB")
    return Finding(name, "ok", found)


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB"

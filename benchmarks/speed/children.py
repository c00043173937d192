"""Processes of their own: for what a process keeps (peak memory, allocator, threads) and what it costs to start one.

`in_child("memory", ...)` runs `python -m benchmarks.speed.memory '{...}'`; such a module calls `answer` with a function
that takes the options, and what that returns comes back as JSON.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def in_child(module: str, **options: object) -> Any:  # noqa: ANN401
    """What `benchmarks.speed.<module>` answers to `options` in a process of its own."""
    words = [sys.executable, "-m", f"benchmarks.speed.{module}", json.dumps(options, default=str)]
    done = subprocess.run(words, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def answer(work: Callable[..., object]) -> None:
    """The other side of `in_child`."""
    print(json.dumps(work(**json.loads(sys.argv[1]))), flush=True)


def environment() -> dict[str, str]:
    """Ours, but that Python may keep compiled code, as it does for users: compiling takes a part of the start-up."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def peak_bytes() -> int:
    """The most memory this process has held at once.

    On Linux not `getrusage`, whose figure begins with what the parent held when it started this process.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) << 10
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10

"""Toy runs in processes of their own: started, killed, read."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.reliability.rows import ROOT, SIZE, Bench, claim
from reroll.training import checkpoint

VOLATILE = ("elapsed_seconds",)
"""What of a state a clock decides."""


@dataclass
class Ended:
    """How a command ended."""

    code: int
    printed: str
    said: str
    seconds: float

    @property
    def last(self) -> str:
        """The last line on standard error."""
        return self.said.splitlines()[-1] if self.said.strip() else ""

    def require_clean_error(self, code: int, *words: str) -> None:
        """One line that names these, no traceback, this exit code."""
        claim(self.code == code, f"exit code {self.code}, not {code}: {self.last}")
        claim("Traceback" not in self.said, f"a traceback: {self.last}")
        claim(self.last.startswith("reroll: "), f"the last line is {self.last!r}")
        for word in words:
            claim(word in self.last, f"{word!r} is not in {self.last!r}")


class Toy:
    """A `reroll` command that runs; its own process group."""

    def __init__(
        self, bench: Bench, *arguments: object, faults: Sequence[Sequence] = (), **environment: str
    ) -> None:
        bench.folder.mkdir(parents=True, exist_ok=True)
        self._out, self._said = (bench.folder / name for name in ("stdout.txt", "stderr.txt"))
        self._began = time.monotonic()
        with self._out.open("wb") as out, self._said.open("wb") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.reliability.toy", *map(str, arguments)],
                cwd=ROOT, stdout=out, stderr=said, stdin=subprocess.DEVNULL, start_new_session=True,
                env=os.environ
                | {"REROLL_CACHE": str(bench.shared / "cache"), "RELIABILITY_FAULTS": json.dumps(faults)}
                | environment,
            )  # fmt: skip
        bench.running.append(self.process)

    def signal(self, number: int) -> None:
        """To its whole group, as a terminal or a supervisor would."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def is_alive(self) -> bool:
        """Whether there is any process of its group, a few seconds after it should be gone."""
        until = time.monotonic() + 5
        while time.monotonic() < until:
            try:
                os.killpg(self.process.pid, 0)
            except ProcessLookupError:
                return False
            time.sleep(0.1)
        return True

    def kill(self) -> None:
        """As a power cut would."""
        self.signal(signal.SIGKILL)
        self.process.wait()

    def said_so_far(self) -> str:
        """What it has printed on standard error."""
        return self._said.read_text(encoding="utf-8", errors="replace")

    def ended(self, seconds: float = 300.0) -> Ended:
        """Wait for its end. BrokenError after so long."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            claim(False, f"not ended after {seconds:.0f} s")
        texts = [path.read_text(encoding="utf-8", errors="replace") for path in (self._out, self._said)]
        return Ended(code, *texts, time.monotonic() - self._began)

    def wait_for(self, happened: Callable[[], bool], seconds: float = 120.0) -> None:
        """Until something has happened, or it has ended."""
        until = time.monotonic() + seconds
        while not happened() and self.process.poll() is None:
            claim(time.monotonic() < until, "nothing happened")
            time.sleep(0.02)


def train(
    bench: Bench, run: Path, *more: object, steps: int = 60, recipe: str = "vaegan", threads: int = 1,
    footage: Path | None = None, size: int = SIZE, faults: Sequence[Sequence] = (), **environment: str,
) -> Toy:  # fmt: skip
    """A toy training."""
    return Toy(
        bench, "train", footage or bench.footage, "-o", run, "--recipe", recipe, "--steps", steps, "--size", size,
        "--threads", threads, "--precision", "fp32", "--device", "cpu", *more, faults=faults, **environment,
    )  # fmt: skip


def reference(bench: Bench, steps: int = 60, recipe: str = "vaegan") -> Path:
    """A run that nothing happened to, made once."""
    run = bench.shared / f"{recipe}-{steps}"
    if not (run / "run.json").exists() or json.loads((run / "run.json").read_text())["status"] != "finished":
        claim(train(bench, run, steps=steps, recipe=recipe).ended().code == 0, "the reference run failed")
    return run


def rows_of(run: Path) -> list[dict]:
    """A run's metrics, a row a step; a last line that is torn is left out."""
    rows = []
    with suppress(FileNotFoundError):
        for line in (run / "metrics.jsonl").read_text().splitlines():
            with suppress(ValueError):
                rows.append(json.loads(line))
    return rows


def newest_step(run: Path) -> int:
    """Of the newest complete checkpoint; 0 without one."""
    found = checkpoint.checkpoints(run / "checkpoints")
    return int(found[-1].name.split("-")[1].split(".")[0]) if found else 0


def state_hash(run: Path) -> str:
    """SHA-256 of all that the newest checkpoint holds, but for what a clock decides."""
    loaded = checkpoint.load_newest(run / "checkpoints")
    claim(loaded is not None, f"{run.name}: no checkpoint")
    assert loaded is not None
    digest = hashlib.sha256(str(loaded.step).encode())
    for group, tensors in sorted(loaded.tensors.items()):
        for name, value in sorted(tensors.items()):
            digest.update(f"{group} {name} {tuple(value.shape)}".encode())
            digest.update(value.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    state = {name: value for name, value in loaded.state.items() if name not in VOLATILE}
    digest.update(json.dumps(state, sort_keys=True).encode())
    return digest.hexdigest()


def strays(run: Path) -> list[Path]:
    """What a kill left behind."""
    return [
        path
        for path in run.rglob("*")
        if ".tmp-" in path.name or ".gone-" in path.name or path.suffix == ".part"
    ]

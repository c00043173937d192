"""What a training tells: a live line for the person, `metrics.jsonl` and `events.jsonl` for everything else.

    prior  420/1609  26 %  6,720 frames, 35/s  flow 0.361  D +0.62 -0.55  3 min 20 s left  1.2 GB

On a terminal the line is renewed in place; elsewhere a line is printed now and then. Metrics are appended
and flushed row by row; a resumed run cuts them back to the step it goes on from, so that the file is what an
uninterrupted run would have written. Values that are not finite become null, since JSON has none.
"""

import errno
import json
import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from reroll.export.media import atomic_path
from reroll.training.disk import T, full_disk_is_said, patiently
from reroll.training.health import Health, health
from reroll.training.latents import never
from reroll.training.machine import resident_bytes

LOSSES = ("loss", "reconstruction", "kl", "flow", "adversarial", "energy", "discriminator")
LIVE_SECONDS, PLAIN_SECONDS = 0.25, 10.0
HEALTH_STEPS = 10
_RATE_STEPS, _REMEMBERED_STEPS = 100, 5000


@dataclass(frozen=True)
class StageEstimate:
    """A stage of the plan: how many steps, and how long one was measured to take, if it was."""

    name: str
    steps: int
    seconds_per_step: float | None = None


class Pace:
    """How long the rest takes: steps by their recent mean, and what comes rarely (previews, checkpoints) by
    its share of the whole stage so far. A machine that is slower than planned will be so in later stages."""

    def __init__(self, stages: Sequence[StageEstimate] = ()) -> None:
        self.stages = list(stages)
        self._recent: deque[float] = deque(maxlen=_RATE_STEPS)
        self._extra_seconds, self._steps, self._stage = 0.0, 0, ""
        self._settled_seconds, self._settled_steps = 0.0, 0
        self._slower = 1.0
        """How many times longer than planned the stages before took."""

    @property
    def total_steps(self) -> int:
        """Steps of all stages together; 0 when no plan was given."""
        return sum(stage.steps for stage in self.stages)

    def took(self, stage: str, seconds: float, steps: int) -> None:
        """Note that `steps` steps of `stage` took so many seconds, with all that happened between them."""
        if stage != self._stage:
            self._slower = self._factor()
            self._recent.clear()
            self._extra_seconds, self._steps, self._stage = 0.0, 0, stage
            self._settled_seconds, self._settled_steps = 0.0, 0
        each = seconds / steps
        if len(self._recent) >= 3 and each > 3 * (usual := median(self._recent)):
            self._extra_seconds += (each - usual) * steps
            each = usual
        if len(self._recent) >= 3:  # the first steps warm caches up
            self._settled_seconds += each * steps
            self._settled_steps += steps
        self._recent.extend([each] * min(steps, _RATE_STEPS))
        self._steps += steps

    def seconds_per_step(self) -> float | None:
        """Of the current stage, as measured; None before the first steps of it."""
        if not self._recent:
            return None
        usual = 3 * median(self._recent)  # a first step warms caches up: it says nothing about the others
        each = sum(min(value, usual) for value in self._recent) / len(self._recent)
        return each + self._extra_seconds / max(self._steps, 20)

    def seconds_left(self, step: int, *, in_stage: bool = False) -> float | None:
        """From `step` of the whole plan to its end, or to that of the stage it is in; None if that cannot be said."""
        to_come = list(self._to_come(step))[: 1 if in_stage else None]
        each = [self._seconds(stage) for stage in to_come]
        if not self.stages or None in each:
            return None
        return sum(stage.steps * (seconds or 0.0) for stage, seconds in zip(to_come, each, strict=True))

    def _seconds(self, stage: StageEstimate) -> float | None:
        """Per step of a stage, as planned and corrected, or else as measured."""
        if stage.seconds_per_step:
            return stage.seconds_per_step * self._factor(recent=stage.name == self._stage)
        return self.seconds_per_step() if stage.name == self._stage else None

    def _to_come(self, step: int) -> Iterator[StageEstimate]:
        """The stages that are not done after `step` steps, with the steps that are left of them."""
        begin = 0
        for stage in self.stages:
            begin += stage.steps
            if begin > step:
                yield replace(stage, steps=min(stage.steps, begin - step))

    def _factor(self, *, recent: bool = False) -> float:
        """How many times longer than planned this stage's steps take, of late or all of them: one slow minute says
        nothing about stages of another kind. The stages before count as ten steps."""
        measured = self.seconds_per_step()
        if self._settled_steps > _RATE_STEPS and not recent:
            measured = (self._settled_seconds + self._extra_seconds) / self._settled_steps
        planned = next((stage.seconds_per_step for stage in self.stages if stage.name == self._stage), None)
        if measured is None or not planned:
            return self._slower
        weight = min(self._steps, _RATE_STEPS) / (min(self._steps, _RATE_STEPS) + 10)
        return weight * measured / planned + (1 - weight) * self._slower


class Monitor:
    """Use as a context manager around a training; call `log` after every step."""

    def __init__(
        self,
        run_dir: Path,
        console: Console | None = None,
        *,
        stages: Sequence[StageEstimate] = (),
        resumed_step: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args:
        run_dir: Where `metrics.jsonl` and `events.jsonl` are.
        console: Where to print; by default a new one on standard error.
        stages: The plan, for the ETA.
        resumed_step: Metrics beyond it are dropped: they will be written again.
        clock: Monotonic seconds.
        """
        run_dir.mkdir(parents=True, exist_ok=True)
        self.console = console or Console(stderr=True)
        self.pace = Pace(stages)
        self.findings: list[Health] = []
        self._open: dict[str, str] = {}  # faults that are not over → the stage that shows them
        self._metrics_path, self._events_path = run_dir / "metrics.jsonl", run_dir / "events.jsonl"
        self.stopped: Callable[[], bool] = never
        """Whether somebody wants it to end: then a full disk is not waited for."""
        self._clock = clock
        self._step = resumed_step
        self._rows: deque[dict[str, Any]] = deque(maxlen=_REMEMBERED_STEPS)
        self._live: Live | None = None
        self._shown_at = self._logged_at = clock()
        self._before_seconds = 0.0
        self.rewind(resumed_step)

    def __enter__(self) -> "Monitor":
        if self.console.is_terminal:
            self._live = Live(Text(), console=self.console, auto_refresh=False)
            self._live.start()
        self._logged_at = self._clock()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._rows:
            self._show(force=self._live is not None)
        if self._live:
            self._live.stop()
            self._live = None

    def pause(self) -> None:
        """What was done since the last row is no part of the next step's time."""
        self._before_seconds += self._clock() - self._logged_at
        self._logged_at = self._clock()

    def plan(self, stages: Sequence[StageEstimate]) -> None:
        """A new plan, after a re-plan or added minutes."""
        self.pace.stages = list(stages)

    def log(self, *, step: int, stage: str, **scalars: float) -> list[Health]:
        """One row: `step` counts over all stages. Returns what is wrong with the training, if anything.

        Named scalars that the line shows: `loss reconstruction kl flow adversarial energy discriminator`,
        `real_sign fake_sign` (mean sign of the logits, -1 to 1), `frames_seen`; `motion_energy` is the
        samples' against the footage's. All others are kept in the metrics as they are.
        """
        now = self._clock()
        if step > self._step:
            self.pace.took(stage, now - self._logged_at, step - self._step)
        self._before_seconds += now - self._logged_at
        self._step, self._logged_at = step, now
        row = {"step": step, "stage": stage, "seconds": round(self._before_seconds, 3)}
        row |= {name: _plain(value) for name, value in scalars.items()}
        new_stage = not self._rows or self._rows[-1]["stage"] != stage
        self._rows.append(row)
        self.patiently(lambda: _append(self._metrics_path, row))
        last = step == self.pace.total_steps
        if last or step % HEALTH_STEPS == 0 or "motion_energy" in row or None in row.values():
            self._examine(row)
        self._show(force=new_stage or last)
        return self.findings

    def event(self, kind: str, **fields: object) -> None:
        """Something that happens once: a re-plan, a roll-back, a checkpoint refused."""
        at = datetime.now(UTC).isoformat(timespec="seconds")
        row = {"at": at, "step": self._step, "kind": kind, **fields}
        self.patiently(lambda: _append(self._events_path, row))

    def patiently(self, write: Callable[[], T]) -> T:
        """Write something; a full disk is waited for a little, which is no part of a step's time."""
        waits: list[str] = []

        def say(text: str) -> None:
            waits.append(text)
            self.say(text)

        try:
            return patiently(write, say, self.stopped)
        finally:
            if waits:
                self.pause()

    def say(self, text: str) -> None:
        """A line that stays, above the live one."""
        self.console.print(Text(text), soft_wrap=True)

    def rewind(self, step: int) -> None:
        """Drop the metrics beyond `step`: training goes on from there."""
        rows = [row for row in read_rows(self._metrics_path) if row.get("step", 0) <= step]
        self.patiently(lambda: _rewrite(self._metrics_path, rows))
        self.patiently(lambda: _rewrite(self._events_path, read_rows(self._events_path)))
        self._rows = deque(rows, maxlen=_REMEMBERED_STEPS)
        self.findings, self._open = [], {}
        self._step, self._logged_at = step, self._clock()
        self._before_seconds = rows[-1].get("seconds", 0.0) if rows else 0.0

    def _examine(self, row: Mapping[str, Any]) -> None:
        self.findings = health(list(self._rows))
        for finding in self.findings:
            if self._open.get(finding.kind) != row["stage"]:
                self.say(f"health: {finding}.")
                self.event("health", fault=finding.kind, level=finding.level, words=finding.words)
            self._open[finding.kind] = row["stage"]
        for kind in sorted(self._open.keys() - {finding.kind for finding in self.findings}):
            # What another stage left behind is not over because this one does not show it; previews all do.
            if self._open[kind] == row["stage"] or ("motion" in kind and "motion_energy" in row):
                self.say(f"health: {kind}: over.")
                self.event("health", fault=kind, level="over")
                del self._open[kind]

    def _show(self, force: bool) -> None:
        now = self._clock()
        interval = LIVE_SECONDS if self._live else PLAIN_SECONDS
        if not force and now - self._shown_at < interval:
            return
        self._shown_at = now
        line = self._line()
        if self._live:
            self._live.update(Text(line), refresh=True)  # on a narrow terminal it takes two rows
        else:
            self.console.print(Text(line), soft_wrap=True)

    def _line(self) -> str:
        row, total = self._rows[-1], self.pace.total_steps
        recent = list(self._rows)[-20:]
        parts = [f"{row['stage']}  {row['step']}" + (f"/{total}  {row['step'] / total:.0%}" if total else "")]
        if "frames_seen" in row:
            parts.append(f"{row['frames_seen']:,.0f} frames" + _frames_per_second(recent))
        parts += [f"{name} {_mean(recent, name)}" for name in LOSSES if name in row]
        if "real_sign" in row and "fake_sign" in row:
            parts.append(f"D {_mean(recent, 'real_sign', '+.2f')} {_mean(recent, 'fake_sign', '+.2f')}")
        if (left := self.pace.seconds_left(row["step"])) is not None:
            parts.append(f"{duration(left)} left")
        elif (left := self.pace.seconds_left(row["step"], in_stage=True)) is not None:
            parts.append(f"{duration(left)} left in this stage")
        parts.append(f"{resident_bytes() / 1e9:.1f} GB")
        return "  ".join(parts)


def duration(seconds: float) -> str:
    """As a person says it: `45 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a `.jsonl` file; a last line torn by a kill is left out."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def _plain(value: float) -> float | None:
    """A number that JSON can hold, out of a float, an integer or a tensor of one element."""
    number = value if isinstance(value, int) else float(value)
    return number if math.isfinite(number) else None


def _append(path: Path, row: Mapping[str, Any]) -> None:
    """Add a row, or nothing: half of one would take the next one with it."""
    line = json.dumps(row, allow_nan=False) + "\n"
    with full_disk_is_said(path, "a row of metrics"), path.open("ab", buffering=0) as stream:
        end = stream.tell()
        try:
            if stream.write(line.encode()) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            with suppress(OSError):
                stream.truncate(end)
            raise


def _rewrite(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Replace a `.jsonl` file as a whole, unless it holds just these rows already."""
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if path.exists() and path.read_text(encoding="utf-8", errors="replace") == text:
        return
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _mean(rows: Sequence[Mapping[str, Any]], name: str, form: str = ".3g") -> str:
    values = [row[name] for row in rows if row.get(name) is not None]
    return format(sum(values) / len(values), form) if values else "not finite"


def _frames_per_second(rows: Sequence[Mapping[str, Any]]) -> str:
    seen = [(row["seconds"], row["frames_seen"]) for row in rows if row.get("frames_seen") is not None]
    if len(seen) < 2 or seen[-1][0] <= seen[0][0]:
        return ""
    return f", {(seen[-1][1] - seen[0][1]) / (seen[-1][0] - seen[0][0]):.3g}/s"

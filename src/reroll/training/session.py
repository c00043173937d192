"""A run in training: what the loop works on, how it is saved, and what its events say.

What a clock or a fault changes (re-plans, added minutes, roll-backs) is an event in `events.jsonl`, and events are
replayed on resume.
"""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from reroll.config import Plan, StagePlan
from reroll.training import checkpoint
from reroll.training.disk import require_space
from reroll.training.monitor import Monitor, StageEstimate, read_rows
from reroll.training.run import RunRecord, write_record
from reroll.training.trainer import Trainer

CHECKPOINTS_AT_ONCE = 4
"""The two newest, the one to go back to, and the one that is being written."""
BYTES_PER_WEIGHT = 12
"""Of a checkpoint: a weight, its average, and what the optimizer keeps of most."""


@dataclass
class Session:
    """What the loop works on."""

    run: Path
    record: RunRecord
    trainer: Trainer
    monitor: Monitor
    heldout: np.ndarray
    deadline: float | None
    """Monotonic time at which the minutes are over; None for a plan in steps."""
    elapsed_before: float
    started: float
    frames_seen: int = 0
    skipped: set[int] = field(default_factory=set)
    replans: dict[int, tuple[StagePlan, ...]] = field(default_factory=dict)
    stop_signal: int = 0
    saved_at: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.monitor.stopped = lambda: self.stop_signal > 0

    @property
    def elapsed_seconds(self) -> float:
        """Training time of this run in all its sessions."""
        return self.elapsed_before + time.monotonic() - self.started

    @property
    def checkpoints(self) -> Path:
        """Where the run's checkpoints are."""
        return self.run / "checkpoints"

    @property
    def unsaved_seconds(self) -> float:
        """Training time that a kill would lose."""
        return time.monotonic() - self.saved_at

    def save(self, step: int, *, planned: bool = True) -> None:
        """A checkpoint after `step` steps: the trainer's state, and where the run stands."""
        tensors, state = self.trainer.state()
        state |= {"elapsed_seconds": self.elapsed_seconds, "frames_seen": self.frames_seen}
        self.monitor.patiently(
            lambda: checkpoint.save(self.checkpoints, step, tensors, state, planned=planned)
        )
        self.saved_at = time.monotonic()

    def require_space(self) -> None:
        """SpaceError unless the disk has room for checkpoints that are still to come, beside those that are there."""
        there = checkpoint.checkpoints(self.checkpoints)
        each = sum(BYTES_PER_WEIGHT * weight.numel() for weight in self.trainer.networks.parameters())
        if there:
            each = sum(file.stat().st_size for file in there[-1].iterdir())
        needed = each * max(1, CHECKPOINTS_AT_ONCE - len(there))
        require_space(self.run, needed, "with its checkpoints this training")

    def set_record(self, **changes: object) -> None:
        """Change `run.json`."""
        self.record = self.record.model_copy(update=changes)
        self.monitor.patiently(lambda: write_record(self.run, self.record))

    def set_stages(self, stages: tuple[StagePlan, ...]) -> None:
        """Go on with these stages, wherever the plan is kept or shown."""
        self.trainer.plan = self.trainer.plan.model_copy(update={"stages": stages})
        self.set_record(plan=self.trainer.plan)
        self.monitor.plan(estimates(self.trainer.plan))

    def replay_events(self) -> None:
        """Take over what earlier sessions of this run decided."""
        for row in events(self.run, "replan", "extended"):
            stages = tuple(StagePlan.model_validate(stage) for stage in row["stages"])
            if row["kind"] == "extended":  # re-plans a kill took back know nothing of the added stages
                self.replans = {step: plan for step, plan in self.replans.items() if step < row["from_step"]}
            self.replans[row["from_step"]] = stages
        self.skipped = {row["from_step"] for row in events(self.run, "rollback")}
        self.trainer.rate_scale = 0.5 ** len(self.skipped)


def events(run: Path, *kinds: str) -> list[dict[str, Any]]:
    """The run's events of these kinds, oldest first."""
    return [row for row in read_rows(run / "events.jsonl") if row.get("kind") in kinds]


def first_plan(run: Path, record: RunRecord) -> Plan:
    """The plan the run began with, before anything changed it."""
    return next((Plan.model_validate(row["plan"]) for row in events(run, "planned")), record.plan)


def estimates(plan: Plan) -> list[StageEstimate]:
    """The plan for the ETA; one in steps was not timed."""
    return [StageEstimate(s.name, s.steps, plan.seconds_per_step.get(s.name)) for s in plan.stages]

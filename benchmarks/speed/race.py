"""The whole training against the plain loop at equal quality: how long the plain loop takes to be as good as `vae`.

Ours is `reroll.train` with all it does in its minutes: reading footage, timing, encoding, checkpoints; the examination
takes the place of its previews and is charged to it. The plain loop is given the same time for the same stages, its
examinations and the reading of footage free of charge, and then more, in trainings of their own with a schedule of
their own, until it is as good. Its prior begins behind our Encoder, for only then can the two losses be compared; ours
pays for that Encoder's latents.
"""

import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.speed.bench import Bench
from benchmarks.speed.children import answer, in_child
from benchmarks.speed.tables import Table
from reroll.recipes import RECIPES

EXAMINATIONS = 8
STAGES = {"autoencoder": ("PSNR dB", 1), "prior": ("flow matching loss", -1)}
"""What a stage is examined in, and whether more of it is better (1) or less (-1)."""
Point = tuple[float, float]
"""Minutes, value."""


@dataclass(frozen=True)
class Course:
    """How one training of one stage went: examinations after so many minutes, the last at its end."""

    minutes: float
    """What it was given."""
    points: list[Point]
    steps: int

    @property
    def end(self) -> float:
        """Its quality at its end."""
        return self.points[-1][1]


# In a process of their own


def ours(clips: list[str], run: str, minutes: float, size: int, model: str, threads: int) -> dict[str, Any]:
    """Train a `vae` run; what was examined, by stage, in minutes since the start, and its steps."""
    import reroll
    from benchmarks.speed.exam import Exam
    from reroll.training import loop
    from reroll.training.trainer import Trainer

    os.environ["REROLL_CACHE"] = str(Path(run).parent / "cache")
    began = time.monotonic()
    courses: dict[str, list[Point]] = {stage: [] for stage in STAGES}
    exams: list[Exam] = []

    def examine(trainer: Trainer, *_: object) -> dict[str, float]:
        if not exams:
            exams.append(Exam(trainer.data.store, trainer.plan.strides))
        trainer.ema.eval()
        of = exams[0].flow if trainer.on_latents else exams[0].psnr
        value = of(trainer.ema, trainer.autocast())
        courses[trainer.stage_name].append(((time.monotonic() - began) / 60, value))
        if trainer.on_latents and len(courses["prior"]) == 1:  # the Encoder's at its end
            courses["autoencoder"].append(
                (courses["prior"][0][0], exams[0].psnr(trainer.ema, trainer.autocast()))
            )
        return {}

    loop.preview = examine  # type: ignore[assignment]
    record = reroll.train(clips, run, recipe="vae", minutes=minutes, size=size, model=model, threads=threads)
    steps = {stage.name: stage.steps for stage in record.plan.stages}
    took = (time.monotonic() - began) / 60
    return {"courses": courses, "steps": steps, "of": exams[0].of, "minutes": took}


def plain(run: str, stage: str, minutes: float, threads: int) -> dict[str, Any]:
    """Train a stage of the plain loop on the footage of a run; the prior behind the Encoder of that run."""
    from benchmarks.speed.exam import Exam
    from benchmarks.speed.plain import open_loop
    from reroll.training.run import load_model, read_record

    record = read_record(Path(run))
    loop = open_loop(record.store, record.plan.model, threads, mirror=record.plan.mirror)
    if stage == "prior":
        theirs = load_model(Path(run), record)[0].state_dict()
        new = loop.model.state_dict()
        loop.model.load_state_dict({k: new[k] if k.startswith("motion_prior.") else theirs[k] for k in new})
    exam = Exam(loop.windows.store, loop.strides)
    of = exam.psnr if stage == "autoencoder" else exam.flow
    points: list[Point] = []
    began, free = time.monotonic(), 0.0

    def spent() -> float:
        return (time.monotonic() - began - free) / 60

    def examine(progress: float, steps: int) -> None:
        nonlocal free
        if progress * EXAMINATIONS >= len(points) + 1:
            at = spent()
            points.append((at, of(loop.model, nullcontext())))
            free += (spent() - at) * 60

    losses = loop.train(stage, lambda _: spent() / minutes, examine)
    points.append((spent(), of(loop.model, nullcontext())))
    return {"points": points, "steps": len(losses)}


# Here


def minutes_needed(courses: Sequence[Course], target: float, sign: int) -> float | None:
    """Minutes after which the plain loop is as good as `target`, or None if it never is.

    Read between the ends of trainings of different lengths, and before the end of the shortest between its own
    examinations.
    """
    points = [*courses[0].points, *((course.minutes, course.end) for course in courses[1:])]
    before: Point | None = None
    for minutes, value in points:
        if sign * (value - target) >= 0:
            if before is None or value == before[1]:
                return minutes
            share = (target - before[1]) / (value - before[1])
            return before[0] + share * (minutes - before[0])
        before = (minutes, value)
    return None


def run_plain(
    run: Path, stage: str, minutes: float, budgets: Sequence[float], target: float, threads: int
) -> list[Course]:
    """Trainings of the plain loop of ever more times the minutes, until one is as good as `target`."""
    sign, courses = STAGES[stage][1], []
    for budget in budgets:
        found = in_child("race", who="plain", run=run, stage=stage, minutes=budget * minutes, threads=threads)
        courses.append(Course(budget * minutes, [(a, b) for a, b in found["points"]], found["steps"]))
        if sign * (courses[-1].end - target) >= 0:
            break
    return courses


def tables(bench: Bench) -> list[Table]:
    """Who was how good when, and how long the plain loop takes to be as good."""
    minutes, threads = bench.minutes, bench.engine.threads
    shares = {spec.name: spec.share for spec in RECIPES["vae"].stages}
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        found = in_child(
            "race", who="ours", clips=[str(clip.absolute()) for clip in bench.footage.clips], run=run,
            minutes=minutes, size=bench.size, model=bench.model, threads=threads,
        )  # fmt: skip
        mine = {
            stage: Course(
                share * minutes, [(a, b) for a, b in found["courses"][stage]], found["steps"][stage]
            )
            for stage, share in shares.items()
        }
        theirs = {
            stage: run_plain(run, stage, mine[stage].minutes, bench.budgets, mine[stage].end, threads)
            for stage in shares
        }
    note = (
        f"On {found['of']}; size {bench.size}, model {bench.model}, {threads} threads, {minutes:g} minutes, of"
        f" which ours took {found['minutes']:.2f}."
    )
    return [
        Table("Quality against time", course_rows(mine, theirs), note),
        Table("Equal quality", verdict_rows(mine, theirs), note),
    ]


def course_rows(mine: dict[str, Course], theirs: dict[str, list[Course]]) -> list[dict[str, Any]]:
    """One row for each training and examination; minutes of ours count from the start of the command."""
    return [
        {
            "who": who, "stage": stage, "minutes given": course.minutes, "steps": course.steps,
            "after minutes": minutes, "of": STAGES[stage][0], "value": value,
        }
        for stage in mine
        for who, courses in (("ours", [mine[stage]]), ("plain", theirs[stage]))
        for course in courses
        for minutes, value in course.points
    ]  # fmt: skip


def verdict_rows(mine: dict[str, Course], theirs: dict[str, list[Course]]) -> list[dict[str, Any]]:
    """Each stage, and the whole training: the sum of the minutes."""
    rows: list[dict[str, Any]] = []
    given = least = 0.0
    all_reached = True
    for stage, course in mine.items():
        last = theirs[stage][-1]
        needed = minutes_needed(theirs[stage], course.end, STAGES[stage][1])
        reached, minutes = needed is not None, last.minutes if needed is None else needed
        given, least, all_reached = given + course.minutes, least + minutes, all_reached and reached
        rows.append(
            {
                "stage": stage, "of": STAGES[stage][0], "minutes": course.minutes, "ours": course.end,
                "plain in the same": theirs[stage][0].end,
                "plain needs minutes": minutes if reached else f"not reached: {last.end:.3g} after {minutes:.3g}",
                "times as fast": _at_least(minutes / course.minutes, reached),
            }
        )  # fmt: skip
    blank: dict[str, Any] = dict.fromkeys(rows[0])
    return [
        *rows,
        blank | {
            "stage": "whole", "minutes": given, "plain needs minutes": _at_least(least, all_reached),
            "times as fast": _at_least(least / given, all_reached),
        },
    ]  # fmt: skip


def _at_least(value: float, reached: bool) -> float | str:
    """The value, or that it is more, where the plain loop was not as good at the end of what it was given."""
    return value if reached else f"more than {value:.3g}"


def _answer(who: str, **options: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"ours": ours, "plain": plain}[who](**options)


if __name__ == "__main__":
    answer(_answer)

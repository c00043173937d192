"""Several runs side by side: what is read of another run's report, and the table on the page.

In: paths of runs or of their `report.json`, as given to `--compare`, and the numbers of this run. Out: one row a run,
and the sentence that says which did best (the rule is in `verdict.py`). A report that cannot be read, or is not one,
is a UsageError before anything is sampled.
"""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from reroll.errors import UsageError
from reroll.evaluation.distances import Interval
from reroll.evaluation.verdict import Standing, best_run, clearly_nearest

FORMAT = 3  # of report.json
MOST_BYTES = 64 << 20  # of report.json: what is longer is something else


class _Part(BaseModel):
    """A part of a report: fields that are not needed here are passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class _Distance(_Part):
    space: str
    frechet: Interval
    multiple: float | None


class _Detail(_Part):
    space: float


class _Originality(_Part):
    copy_rate: float | None


class _Reconstruction(_Part):
    psnr_db: float | None


class _Judgement(_Part):
    motion_ratio: float
    detail: _Detail
    originality: _Originality
    reconstruction: _Reconstruction | None
    distances: tuple[_Distance, ...]


class OtherReport(_Part):
    """What a comparison takes from a `report.json`."""

    title: str
    recipe: str
    comparable: str
    judgement: _Judgement

    @property
    def psnr(self) -> float | None:
        """Of its reconstructions, in decibels, if there are any."""
        rebuilt = self.judgement.reconstruction
        return rebuilt.psnr_db if rebuilt else None

    def standing(self) -> Standing:
        """Its figures for the verdict."""
        j = self.judgement
        return Standing(
            title=self.title,
            motion=j.motion_ratio,
            detail=j.detail.space,
            copies=j.originality.copy_rate,
            distances={d.space: d.frechet for d in j.distances},
            multiples={d.space: d.multiple for d in j.distances},
        )


def read_reports(paths: Sequence[Path], own: str) -> list[OtherReport]:
    """The reports at `paths`; one whose title is not its alone, `own` being taken, is called by its path."""
    reports = [read_report(path) for path in paths]
    often = Counter([own, *(report.title for report in reports)])
    return [
        report if often[report.title] == 1 else report.model_copy(update={"title": str(path)})
        for path, report in zip(paths, reports, strict=True)
    ]


def read_report(path: Path) -> OtherReport:
    """The report at `path`, a run's folder or its `report.json`; UsageError if there is none to compare with."""
    file = path / "report.json" if path.is_dir() else path
    again = f"make it again with `reroll report {shlex.quote(str(file.parent))}`"
    if not file.is_file():
        raise UsageError(f"--compare {path}: no report there; make it with `reroll report {path}`.")
    try:
        with file.open("rb") as source:
            content = json.loads(source.read(MOST_BYTES))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"--compare {path}: {file.name} cannot be read ({reason}).") from None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or "judgement" not in content:
        if file.name == "report.json":
            raise UsageError(f"--compare {path}: report.json is damaged; {again}.")
        raise UsageError(f"--compare {path}: that is no report; give a run's folder or its report.json.")
    if content.get("format") != FORMAT:
        raise UsageError(f"--compare {path}: the report of another version of reroll; {again}.")
    try:
        return OtherReport.model_validate(content)
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise UsageError(f"--compare {path}: {file.name} is damaged at {where}; {again}.") from None


@dataclass(frozen=True)
class Row:
    """A run in the table. `same`: its figures may be compared with this run's; `nearest`: spaces to mark."""

    run: Standing
    recipe: str
    psnr: float | None
    same: bool
    nearest: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """This run and the others, and in one sentence which did best."""

    rows: list[Row]
    sentence: str


def beside(numbers: Mapping[str, Any], others: Sequence[OtherReport]) -> Comparison | None:
    """This run's `numbers` (as in `report.json`) beside those of other runs; None without any."""
    if not others:
        return None
    reports = [OtherReport.model_validate(numbers), *others]
    runs = [report.standing() for report in reports]
    same = [report.comparable == reports[0].comparable for report in reports]
    alike = [run for run, fits in zip(runs, same, strict=True) if fits]
    marked = {space: clearly_nearest(alike, space) for space in runs[0].distances}
    rows = [
        Row(
            run=run,
            recipe=report.recipe,
            psnr=report.psnr,
            same=fits,
            nearest=tuple(space for space, nearest in marked.items() if nearest is run),
        )
        for report, run, fits in zip(reports, runs, same, strict=True)
    ]
    return Comparison(rows, best_run(alike))

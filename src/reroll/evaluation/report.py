"""The report: one HTML page to read, watch and send, and the same numbers as JSON.

In: a ReportInput, which the caller fills from a run (samples and footage as uint8 RGB `N T H W 3`, metrics
and events as rows). Out: `report.html`, one self-contained file (H.264 clips, posters and curves are inside
it; it loads nothing), and `report.json` beside it. The page's text and style are in `report.html.j2`, filled
in by Jinja with autoescaping on, so that no file name or setting can become markup.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from reroll.evaluation.charts import DotRow, dot_chart, line_chart
from reroll.evaluation.comparison import FORMAT, Comparison, OtherReport, beside
from reroll.evaluation.judge import Judgement, cut, judge
from reroll.evaluation.motion import Drift
from reroll.evaluation.nearest import Nearest, Place, TrainingFootage
from reroll.evaluation.verdict import Answer, answers, two_sentences
from reroll.export.media import atomic_path, video_data_uri

Frames = NDArray[np.uint8]
JSON = dict[str, "JSON"] | list["JSON"] | str | int | float | bool | None

MOST_CLIPS = 6  # of each kind on the page
MOST_SECONDS = 10.0  # of each clip on the page
NOT_CURVES = {"step", "stage", "time", "seconds", "frames", "frames_seen", "eta_seconds"}


@dataclass(frozen=True)
class FootageNote:
    """Where footage came from: what is needed to know it again, and its licence where it is known."""

    name: str
    sha256: str
    licence: str | None = None


@dataclass(frozen=True, eq=False)
class ReportInput:
    """All that a report is made from. Windows are uint8 RGB `M T' H W 3` at the samples' size and `fps`.

    `footage_clips` are longer stretches `T H W 3` for watching; without them windows are shown. `rebuilt` is
    (original, reconstructed) windows and `rebuilt_of` says which footage that is. `places` are where the
    training windows were taken, one each; `searched` is all the footage that was trained on, in which copies are
    looked for (without it, the training windows); `long` and `footage_drifts` are as for the judge. `other_runs` are
    reports of other runs to stand beside.
    """

    run_dir: Path
    title: str
    recipe: str
    settings: Mapping[str, Any]
    fps: float
    samples: Frames
    train_windows: Frames
    heldout_windows: Frames
    split_reason: str
    metrics: Sequence[Mapping[str, Any]] = ()
    events: Sequence[Mapping[str, Any]] = ()
    health: Sequence[str] = ()
    footage_files: Sequence[FootageNote] = ()
    commands: Sequence[str] = ()
    loop: Frames | None = None
    long: Frames | None = None
    footage_drifts: Sequence[Drift] = ()
    rebuilt: tuple[Frames, Frames] | None = None
    rebuilt_of: str = ""
    places: Sequence[Place] | None = None
    searched: TrainingFootage | None = None
    footage_clips: Sequence[Frames] = field(default_factory=tuple)
    other_runs: Sequence[OtherReport] = ()


def make_report(given: ReportInput) -> Path:
    """Measure, write `report.json` and `report.html` into the run directory, and return the page's path."""
    searched = given.searched or TrainingFootage.of_windows(given.train_windows, given.places)
    judgement = judge(
        given.samples,
        given.train_windows,
        given.heldout_windows,
        fps=given.fps,
        loop=given.loop,
        rebuilt=given.rebuilt,
        rebuilt_of=given.rebuilt_of,
        places=given.places,
        searched=searched,
        long=given.long,
        footage_drifts=given.footage_drifts,
    )
    numbers = report_numbers(given, judgement)
    comparison = beside(numbers, given.other_runs)
    numbers["comparison"] = comparison.sentence if comparison else None
    with atomic_path(given.run_dir / "report.json") as temporary:
        temporary.write_text(json.dumps(numbers, indent=1, allow_nan=False) + "\n", "utf-8")
    page = render(given, judgement, searched, comparison)
    with atomic_path(given.run_dir / "report.html") as temporary:
        temporary.write_text(page, "utf-8", "backslashreplace")  # names of files need not be Unicode
    return given.run_dir / "report.html"


def report_numbers(given: ReportInput, judgement: Judgement) -> dict[str, JSON]:
    """What `report.json` holds: plain JSON values; numbers that are not finite are null."""
    numbers = {
        "format": FORMAT,
        "title": given.title,
        "recipe": given.recipe,
        "verdict": two_sentences(judgement),
        "answers": answers(judgement),
        "judgement": judgement,
        "comparable": _comparable_key(given),
        "settings": given.settings,
        "split": given.split_reason,
        "footage": given.footage_files,
        "health": given.health,
        "commands": given.commands,
    }
    return {name: plain(value) for name, value in numbers.items()}


def plain(value: object) -> JSON:
    """Dataclasses, arrays, paths and mappings as JSON values; NaN and infinities as None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray | list | tuple | set):
        return [plain(v) for v in value]
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value if value is None or isinstance(value, str) else str(value)


def _comparable_key(given: ReportInput) -> str:
    """Reports with the same key had as many samples and the very same windows, so their numbers compare."""
    digest = hashlib.sha256(repr((given.fps, given.samples.shape)).encode())
    for windows in (given.train_windows, given.heldout_windows):
        digest.update(repr(windows.shape).encode() + np.ascontiguousarray(windows).tobytes())
    return digest.hexdigest()[:16]


def render(
    given: ReportInput, judgement: Judgement, searched: TrainingFootage, comparison: Comparison | None
) -> str:
    """The page as text."""
    environment = Environment(
        loader=PackageLoader("reroll", "evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = figure
    environment.filters["tojson_plain"] = lambda row: json.dumps(plain(row), ensure_ascii=False)
    pages = {
        "given": given,
        "j": judgement,
        "verdict": two_sentences(judgement),
        "answers": answers(judgement),
        "footage": _footage_clips(given),
        "samples": [_clip(s, given.fps) for s in given.samples[:MOST_CLIPS]],
        "loop": _clip(given.loop, given.fps) if given.loop is not None else None,
        "rebuilt": _rebuilt_clips(given),
        "pairs": _nearest_pairs(given, judgement, searched),
        "distances": Markup(dot_chart(_dot_rows(judgement), _axis(judgement))),  # charts escape their text
        "curves": _curves(given.metrics),
        "comparison": comparison,
        "settings": flat(given.settings),
        "answer_names": {"good": "good", "fair": "fair", "poor": "poor", "unknown": "not measurable"},
    }
    return environment.get_template("report.html.j2").render(pages)


def figure(value: float | None, digits: int = 3) -> str:
    """A number for a table: three significant digits, or a dash."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}g}"


def flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as rows of (dotted name, value)."""
    rows: list[tuple[str, str]] = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            rows += flat(value, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", str(value)))
    return rows


@dataclass(frozen=True)
class EmbeddedClip:
    """A clip inside the page: addresses of its video and first picture, and its size in pixels."""

    video: str
    poster: str
    width: int
    height: int
    caption: str


def _clip(frames: Frames, fps: float | Fraction, caption: str = "") -> EmbeddedClip:
    frames = frames[: max(1, round(MOST_SECONDS * float(fps)))]
    picture = cv2.imencode(".jpg", frames[0][..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()
    poster = "data:image/jpeg;base64," + base64.b64encode(picture).decode("ascii")
    height, width = frames.shape[1:3]
    return EmbeddedClip(video_data_uri(frames, fps), poster, width, height, caption)


def _footage_clips(given: ReportInput) -> list[EmbeddedClip]:
    """Footage to watch beside the samples: the stretches given, or windows evenly chosen."""
    stretches = list(given.footage_clips)
    if not stretches:
        every = np.concatenate([given.train_windows, given.heldout_windows])
        stretches = [
            every[i] for i in np.linspace(0, len(every) - 1, min(MOST_CLIPS, len(every))).round().astype(int)
        ]
    return [_clip(s, given.fps) for s in stretches[:MOST_CLIPS]]


def _rebuilt_clips(given: ReportInput) -> list[tuple[EmbeddedClip, EmbeddedClip]]:
    if given.rebuilt is None:
        return []
    return [
        (_clip(a, given.fps), _clip(b, given.fps))
        for a, b in zip(*(x[:3] for x in given.rebuilt), strict=True)
    ]


def _nearest_pairs(
    given: ReportInput, judgement: Judgement, searched: TrainingFootage
) -> list[tuple[EmbeddedClip, EmbeddedClip, bool]]:
    """For each sample its frames nearest to the footage, and that footage, in step; at half speed, being short."""
    nearest, frames = judgement.originality.nearest, judgement.window_frames
    windows = cut(given.samples, frames)
    per_sample = len(windows) // len(given.samples)
    threshold = judgement.originality.threshold
    pairs = []
    for sample in range(min(MOST_CLIPS, len(given.samples))):
        index = sample * per_sample + int(nearest.distance[sample * per_sample :][:per_sample].argmin())
        start, distance = int(nearest.start[index]), float(nearest.distance[index])
        seconds = (index % per_sample * frames + start) / given.fps
        mine = windows[index][start : start + nearest.frames.shape[1]]
        theirs, source = _found(searched, nearest, index)
        pairs.append(
            (
                _clip(mine, given.fps / 2, f"sample {sample + 1}, {seconds:.1f} s"),
                _clip(theirs, given.fps / 2, f"{source} · {distance:.1f} levels apart"),
                threshold is not None and distance < threshold,
            )
        )
    return pairs


def _found(searched: TrainingFootage, nearest: Nearest, index: int) -> tuple[Frames, str]:
    """The footage nearest to a window, as `T H W 3` the way it was compared, and in words where it is from."""
    frames, place = searched.read(nearest.frames[index]), nearest.places[index]
    assert place is not None  # only footage's own windows may be compared with nothing
    source = f"{place.file}, {place.seconds:.1f} s"
    if nearest.mirrored[index]:
        return np.ascontiguousarray(frames[:, :, ::-1]), f"{source}, mirrored"
    return frames, source


def _dot_rows(judgement: Judgement) -> list[DotRow]:
    """Distances in multiples of the null's median where there is a null, else as they are."""
    rows = []
    for d in judgement.distances:
        unit = d.frechet_null.median if d.frechet_null else 1.0
        null = (d.frechet_null.low / unit, d.frechet_null.high / unit) if d.frechet_null else None
        marks = {fault: at[d.space] / unit for fault, at in judgement.planted.items()}
        median, low, high = (v / unit for v in (d.frechet.median, d.frechet.low, d.frechet.high))
        rows.append(DotRow(d.space, median, low, high, null, marks))
    return rows


def _axis(judgement: Judgement) -> str:
    if not any(d.frechet_null for d in judgement.distances):
        return "Fréchet distance to the training footage (no unit; lower is nearer)"
    return "Fréchet distance in multiples of clean footage against clean footage (lower is nearer)"


def _curves(metrics: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[Markup]]]:
    """Every numeric column of the metrics over steps, stage by stage in the order they came."""
    stages: dict[str, dict[str, tuple[list[float], list[float]]]] = {}
    for row in metrics:
        columns = stages.setdefault(str(row.get("stage", "training")), {})
        for name, value in row.items():
            if name in NOT_CURVES or isinstance(value, bool) or not isinstance(value, int | float):
                continue
            steps, values = columns.setdefault(name, ([], []))
            steps.append(float(row.get("step", len(steps))))
            values.append(float(value))
    drawn = [
        (s, [Markup(c) for n, xy in cols.items() if (c := line_chart(n, *xy))]) for s, cols in stages.items()
    ]
    return [(stage, charts) for stage, charts in drawn if charts]


__all__ = ["Answer", "FootageNote", "Place", "ReportInput", "make_report", "plain", "report_numbers"]

"""`reroll evaluate`: anything that made video, against any footage.

In: the samples of runs, or of any other tool, and a store of footage at their size. Out: a Judgement each, all against
the same windows, and one table. The reference is all of the footage that is given; its null is one half of its windows
against the other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from reroll.errors import UsageError
from reroll.evaluation.collect import Sampled
from reroll.evaluation.judge import Judgement, judge
from reroll.evaluation.reference import Reference
from reroll.evaluation.report import plain
from reroll.evaluation.verdict import two_sentences
from reroll.export.media import atomic_path
from reroll.footage import Span, Split, Store
from reroll.training.budget import WINDOW_FRAMES

Frames = NDArray[np.uint8]


def reference_of(store: Store, fps: float) -> Reference:
    """All of a store's footage, a window at every frame; UsageError if it is too short for two windows."""
    spans = [Span(shot.start, shot.stop) for shot in store.shots]
    if max(span.stop - span.start for span in spans) < WINDOW_FRAMES + 1:
        raise UsageError(
            f"--footage: no shot of it has the {WINDOW_FRAMES + 1} frames that a comparison needs."
        )
    everything = Split(spans, [], "nothing is held out: all of the footage is compared with")
    return Reference.of(store, everything, WINDOW_FRAMES, fps, every=1)


def judge_samples(
    sampled: Sampled,
    footage: Reference,
    rebuilt: tuple[Frames, Frames] | None = None,
    rebuilt_of: str = "the footage given",
    i3d: torch.jit.ScriptModule | None = None,
) -> Judgement:
    """Judge samples against the windows that are trained on (`evaluate`: all there are); multiples are of their own
    halves' distance."""
    return judge(
        sampled.samples, footage.train, footage.heldout, fps=footage.fps, loop=sampled.loop, long=sampled.long,
        rebuilt=rebuilt, rebuilt_of=rebuilt_of, places=footage.places, searched=footage.searched,
        footage_drifts=footage.drifts, halves=True, i3d=i3d,
    )  # fmt: skip


def row(j: Judgement) -> dict[str, str]:
    """What the table says of one judgement: distances in multiples of the null, ratios to the footage."""
    rung = [alarm.name for alarm in j.alarms if alarm.raised]
    return {
        **{d.space: _figure(d.multiple if d.multiple is not None else d.frechet.median) for d in j.distances},
        "motion": _figure(j.motion_ratio),
        "detail": f"{_figure(j.detail.space)} / {_figure(j.detail.time)}",
        "variety": _figure(j.diversity),
        "copies": "–" if j.originality.copy_rate is None else f"{j.originality.copy_rate:.0%}",
        "loop": "–" if j.seam is None else "hidden" if j.seam.hidden else f"{j.seam.worst:.2f}× the limit",
        "PSNR": "–" if j.reconstruction is None else f"{j.reconstruction.psnr_db:.1f} dB",
        "alarms": ", ".join(rung) or "none",
    }


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def write_judgements(path: Path, judgements: Mapping[str, Judgement], footage: Sequence[str]) -> None:
    """All figures as JSON."""
    judged = {name: {"verdict": two_sentences(j), **vars(j)} for name, j in judgements.items()}
    content = plain({"footage": footage, "judgements": judged})
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", "utf-8")

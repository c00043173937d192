"""The judgement in words: two sentences, a light for each question a creator asks, which of several runs did best.

In: a Judgement, or the Standings of several runs. Out: text. The limits stand here and nowhere else, so that a reader
can disagree with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from reroll.evaluation.distances import Interval
from reroll.evaluation.judge import Judgement
from reroll.evaluation.motion import MOTION_RANGE, moves_alike

Light = Literal["good", "fair", "poor", "unknown"]

DETAIL_RANGE = (0.6, 1.4)  # share of the footage's moving detail that passes for sharp
DETAIL_POOR = 0.3
MOTION_POOR = (0.4, 2.2)
FLICKER_RATIO = 1.3  # of flicker, over the footage's
FREEZE_POOR = 0.25  # share of still steps, beyond the footage's own
LEAP_FAIR = 0.005  # share of steps that are larger than almost all of the footage's
COPY_FAIR = 0.2
COPY_MOST = 0.5  # share of copies above which a run cannot be called best
DETAIL_MARGIN = 1.5  # a factor by which detail has to be nearer to the footage's to be clearly nearer
DIVERSITY_RANGE = (0.3, 0.6)  # below the first all samples are nearly one clip


@dataclass(frozen=True)
class Answer:
    """One question answered: a light, the number behind it, and a line in words."""

    question: str
    light: Light
    figure: str
    words: str


def answers(j: Judgement) -> list[Answer]:
    """The questions in the order a creator asks them."""
    found = [_motion(j), _sharp(j), _original(j), _varied(j)]
    if any(not alarm.name.startswith("drift") for alarm in j.alarms):
        found.append(_rung(j))
    if j.drifts:
        found.append(_steady(j))
    if j.seam is not None:
        found.append(_loop(j))
    return found


def _motion(j: Judgement) -> Answer:
    low, high = MOTION_RANGE
    ratio, still = j.motion_ratio, float(np.mean([f.share for f in j.freezes]))
    words = "about as much as the footage" if low <= ratio <= high else "too much: jitter, or noise"
    light: Light = "good" if low <= ratio <= high else "fair"
    if ratio < low:
        words = "too little" if ratio >= MOTION_POOR[0] else "hardly at all"
    if not MOTION_POOR[0] <= ratio <= MOTION_POOR[1]:
        light = "poor"
    if still > j.footage_still_share + FREEZE_POOR:
        light, words = "poor", f"{words}, and stand still for {still:.0%} of the time"
    faults = []
    if j.continuity and j.continuity.flicker > FLICKER_RATIO * j.continuity.footage_flicker:
        faults.append("with flicker")
    if j.leap_share > LEAP_FAIR:
        faults.append(f"and jump in {j.leap_share:.1%} of steps")
    if faults and light == "good":
        light = "fair"
    words = ", ".join([words, *faults])
    return Answer("Does it move right?", light, f"{ratio:.2f}× the motion", f"The samples move {words}")


def _sharp(j: Judgement) -> Answer:
    if j.motion_ratio < MOTION_POOR[0]:
        ratio = j.sharpness_ratio
        words = "Too little moves to judge its detail; still pictures have this much of the footage's"
        return Answer("Is it sharp?", "unknown", f"{ratio:.2f}× the gradient", words)
    low, high = DETAIL_RANGE
    share = j.detail.space
    light: Light = "good" if low <= share <= high else "fair" if DETAIL_POOR <= share <= 2 * high else "poor"
    if light == "good":
        words = "about as sharp as the footage in what moves"
    elif share < low:
        words = "softer in what moves" if light == "fair" else "blurred in what moves"
    else:
        words = "grainier than the footage" if light == "fair" else "noisy"
    return Answer("Is it sharp?", light, f"{share:.2f}× the fine detail", f"They are {words}")


def _original(j: Judgement) -> Answer:
    rate = j.originality.copy_rate
    if rate is None:
        nearest, step = float(np.median(j.originality.nearest.distance)), j.originality.footage_step
        scale = (
            f"They lie {nearest:.1f} levels from the nearest footage; its frames are {step:.1f} levels apart."
        )
        return Answer("Is it new?", "unknown", "not measurable", f"{j.originality.reason} {scale}")
    count = len(j.originality.nearest.distance)
    light: Light = "good" if rate <= 0.05 else "fair" if rate <= COPY_FAIR else "poor"
    words = f"{round(rate * count)} of {count} windows lie nearer to the training footage than unseen footage"
    return Answer("Is it new?", light, f"{rate:.0%} copies", words)


def _varied(j: Judgement) -> Answer:
    question = "Do the samples differ?"
    if j.diversity is None:
        return Answer(
            question, "unknown", "not measurable", "It takes two samples and two windows of footage."
        )
    low, high = DIVERSITY_RANGE
    light: Light = "poor" if j.diversity < low else "fair" if j.diversity < high else "good"
    words = {
        "poor": "hardly differ",
        "fair": "differ less than the footage",
        "good": "differ as the footage does",
    }
    return Answer(question, light, f"{j.diversity:.2f}× the variety", f"The samples {words[light]}")


def _steady(j: Judgement) -> Answer:
    """The worst of the alarms of drift, over the samples and over the long one."""
    drifts = [alarm for alarm in j.alarms if alarm.name.startswith("drift")]
    worst = max(drifts, key=lambda alarm: alarm.value / alarm.limit)
    share = worst.value / worst.limit
    light: Light = "poor" if share > 2 else "fair" if worst.raised else "good"
    ends = "differ in colour, sharpness or motion more than" if worst.raised else "differ no more than"
    longest = max(d.seconds for d in j.drifts)
    words = f"The last two seconds and the first {ends} two parts of a shot of the footage"
    return Answer(
        "Does it hold up to the end?", light, f"{share:.2f}× the limit, over {longest:.0f} s", words
    )


def _rung(j: Judgement) -> Answer:
    """The alarms but for those of drift, which have a question of their own."""
    kinds = [alarm for alarm in j.alarms if not alarm.name.startswith("drift")]
    rung = [alarm.name for alarm in kinds if alarm.raised]
    figure = ", ".join(rung) if rung else "no alarm"
    words = f"{len(rung)} of {len(kinds)} alarms ({', '.join(alarm.name for alarm in kinds)}) rang"
    return Answer("Does it stand still, run back, repeat itself?", "poor" if rung else "good", figure, words)


def _loop(j: Judgement) -> Answer:
    assert j.seam is not None
    seam, question = j.seam, "Does the loop close?"
    figure = f"{seam.worst:.2f}× the limit"
    if seam.worst <= 1 and not seam.measurable:
        moves = f"The loop moves {seam.motion_ratio:.2f}× as much as the footage"
        words = f"{moves}, so a hidden seam would mean nothing"
        return Answer(question, "unknown", figure, words)
    if seam.hidden:
        words = "No step of it is much larger than the footage's largest"
    else:
        words = "Somewhere, where it closes or on its way, it jumps further than the footage does"
    return Answer(question, "good" if seam.hidden else "poor", figure, words)


def two_sentences(j: Judgement) -> str:
    """Does it move right and is it sharp; does it copy and repeat itself."""
    motion, sharp, original, varied = answers(j)[:4]
    first = f"{motion.words} ({motion.figure}), and {_lower(sharp.words)} ({sharp.figure})."
    if sharp.light == "unknown":
        first = f"{motion.words} ({motion.figure}), which is too little to judge how sharp moving things are."
    if original.light == "unknown":
        second = f"Whether they are copies cannot be said here; {_lower(varied.words)} ({varied.figure})."
    else:
        rate = j.originality.copy_rate
        copies = (
            f"{rate:.0%} of their windows copy the training footage" if rate else "None of them is a copy"
        )
        second = f"{copies}, and {_lower(varied.words)} ({varied.figure})."
    return f"{first} {second}"


def _lower(words: str) -> str:
    return words[:1].lower() + words[1:].rstrip(".")


@dataclass(frozen=True)
class Standing:
    """A run beside others. Ratios are over the footage's; `copies` is None where it could not be measured.

    `distances` are Fréchet's by space, `multiples` these over the clean null's (None where there is none).
    """

    title: str
    motion: float
    detail: float
    copies: float | None
    distances: Mapping[str, Interval]
    multiples: Mapping[str, float | None]


def best_run(runs: Sequence[Standing]) -> str:
    """Which of several runs, all measured against the same windows, did best and why: one sentence.

    The rule. A run counts if it moves about as much as the footage (MOTION_RANGE) and at most COPY_MOST of its windows
    are copies. The best of those that count is, against each other one, clearly nearer to the footage in one respect
    at least and in none clearly farther (`clearly_nearer`); if there is no such run, none is clearly best. A run that
    would have been best but for its copies is named.
    """
    if len(runs) < 2:
        return "No other run was measured against the same windows, so none can be called best."
    if not all(run.distances for run in runs):
        return "The distances could not be measured, so none of these runs can be called best."
    moving = [run for run in runs if moves_alike(run.motion)]
    count = [run for run in moving if not _copies_most(run)]
    nearest, best = _leader(moving) if len(moving) > 1 else None, _leader(count)
    said = []
    if nearest and _copies_most(nearest):
        said.append(f"{nearest.title} lies nearest, but {nearest.copies:.0%} of its windows are copies")
    if best:
        said.append(_why(best, [run for run in count if run is not best]))
    else:
        said.append(f"{'no' if said else 'No'} run is clearly best{_why_none(count)}")
    said += [f"{run.title} does not count: {_why_not(run)}" for run in runs if run not in (*count, nearest)]
    return "; ".join(said) + "."


def clearly_nearer(one: Standing, other: Standing) -> list[str]:
    """Respects in which `one` is clearly nearer to the footage than `other`.

    A distance is if its interval lies wholly below the other's, detail if its ratio is nearer to 1 by DETAIL_MARGIN.
    """
    spaces = [s for s, d in one.distances.items() if s in other.distances and d.high < other.distances[s].low]
    off, other_off = (abs(np.log(max(run.detail, 1e-3))) for run in (one, other))
    return spaces + ["detail"] * bool(off + np.log(DETAIL_MARGIN) < other_off)


def clearly_nearest(runs: Sequence[Standing], space: str) -> Standing | None:
    """The run to mark in a space: its interval clears every other's, and it moves about as much as the footage."""
    there = sorted((run for run in runs if space in run.distances), key=lambda r: r.distances[space].median)
    if len(there) < 2 or not moves_alike(there[0].motion):
        return None
    clear = all(there[0].distances[space].high < other.distances[space].low for other in there[1:])
    return there[0] if clear else None


def _leader(runs: Sequence[Standing]) -> Standing | None:
    """The run that is clearly nearer than each other one and clearly farther than none."""

    def ahead(one: Standing, other: Standing) -> bool:
        return bool(clearly_nearer(one, other)) and not clearly_nearer(other, one)

    return next((one for one in runs if all(ahead(one, other) for other in runs if other is not one)), None)


def _copies_most(run: Standing) -> bool:
    return run.copies is not None and run.copies > COPY_MOST


def _why(best: Standing, others: Sequence[Standing]) -> str:
    """Why it is the best of those that count."""
    copies = "how much it copies could not be measured"
    if best.copies is not None:
        copies = f"{best.copies:.0%} of its windows are copies"
    also = f"it moves {best.motion:.2f}× as much as the footage, and {copies}"
    if not others:
        return f"{best.title} did best, as the only run that counts: {also}"
    than = _listed(f"{other.title} ({_respects(best, other)})" for other in others)
    return (
        f"{best.title} did best: it is clearly nearer to the footage than {than}, and clearly farther in no respect;"
        f" {also}"
    )


def _respects(one: Standing, other: Standing) -> str:
    """What `one` is clearly nearer in, with both figures: multiples of clean footage's distance where there are any."""
    words = []
    for respect in clearly_nearer(one, other):
        mine, theirs = one.multiples.get(respect), other.multiples.get(respect)
        if respect == "detail":
            words.append(f"detail {one.detail:.2f}× against {other.detail:.2f}× the footage's")
        elif mine is not None and theirs is not None:
            words.append(f"{respect} {mine:.1f}× against {theirs:.1f}× clean footage's distance")
        else:
            medians = (run.distances[respect].median for run in (one, other))
            words.append(f"{respect} {' against '.join(f'{median:.3g}' for median in medians)}")
    return ", ".join(words)


def _why_none(count: Sequence[Standing]) -> str:
    """Why there is no best among those that count, if any do."""
    if not count:
        return ""
    return (
        f": of {_listed(run.title for run in count)} none is, against each other one, clearly nearer to the footage in"
        " one respect and clearly farther in none"
    )


def _why_not(run: Standing) -> str:
    if not moves_alike(run.motion):
        return f"it moves {run.motion:.2f}× as much as the footage"
    return f"{run.copies:.0%} of its windows are copies"


def _listed(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last

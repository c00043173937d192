"""The judgement in words: two sentences, and a light for each question a creator asks.

In: a Judgement. Out: text. The limits stand here and nowhere else, so that a reader can disagree with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from reroll.evaluation.judge import Judgement
from reroll.evaluation.motion import MOTION_RANGE

Light = Literal["good", "fair", "poor", "unknown"]

DETAIL_RANGE = (0.6, 1.4)  # share of the footage's moving detail that passes for sharp
DETAIL_POOR = 0.3
MOTION_POOR = (0.4, 2.2)
FLICKER_RATIO = 1.3  # of flicker, over the footage's
FREEZE_POOR = 0.25  # share of still steps, beyond the footage's own
DRIFT_COLOUR_LEVELS = 12.0
DRIFT_RATIO = 1.4  # of sharpness or motion, either way
COPY_FAIR = 0.2
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
    if j.continuity and j.continuity.flicker > FLICKER_RATIO * j.continuity.footage_flicker:
        light, words = "poor" if light == "poor" else "fair", f"{words}, with flicker"
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
    colour = max(d.colour_levels for d in j.drifts)
    off = max(abs(np.log(r)) for d in j.drifts for r in (d.sharpness_ratio, d.motion_ratio))
    drifts = colour > DRIFT_COLOUR_LEVELS or off > np.log(DRIFT_RATIO)
    far = colour > 2 * DRIFT_COLOUR_LEVELS or off > 2 * np.log(DRIFT_RATIO)
    light: Light = "poor" if far else "fair" if drifts else "good"
    words = f"In the worst sample the last two seconds differ from the first by {colour:.0f} levels of colour"
    words += f" and a factor of {np.exp(off):.2f} in sharpness or motion"
    return Answer("Does it hold up to the end?", light, f"over {j.drifts[0].seconds:.0f} s", words)


def _loop(j: Judgement) -> Answer:
    assert j.seam is not None
    seam, question = j.seam, "Does the loop close?"
    worst = max(seam.change / (seam.change_limit + 1e-6), seam.velocity_jump / (seam.velocity_limit + 1e-6))
    figure = f"{worst:.2f}× the limit"
    if worst <= 1 and not seam.measurable:
        moves = f"The loop moves {seam.motion_ratio:.2f}× as much as the footage"
        words = f"{moves}, so a hidden seam would mean nothing"
        return Answer(question, "unknown", figure, words)
    words = (
        "The joint is no larger a step than the footage's own" if seam.hidden else "The joint shows as a jump"
    )
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

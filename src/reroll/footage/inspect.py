"""What is in footage, before any training: shots, rates, sizes, motion, and what looks wrong.

In: files and folders. Out: an `Inspection`, also as JSON. A bounded number of frames is decoded, from a
bounded number of files spread evenly over all, so that an hour of film or ten thousand clips take seconds;
what was not decoded is said to be an estimate.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from pathlib import Path

import cv2
import numpy as np

from reroll.config import Frozen
from reroll.errors import FootageError
from reroll.footage.container import shown
from reroll.footage.decode import DecodedFrame
from reroll.footage.faults import Bars, Box, black_bars, static_overlays
from reroll.footage.guard import Decoder, probe
from reroll.footage.movement import MovementMeter, frames_apart
from reroll.footage.probe import FootageFile, Probe, Skipped, find_footage
from reroll.footage.shots import (
    GLANCE_PIXELS,
    CutFinder,
    DissolveFinder,
    Pending,
    StillFilter,
    glance,
    usual_gap,
)
from reroll.footage.store import PICTURE_SECONDS, frame_size

__all__ = ["FileInspection", "Inspection", "SkippedFile", "inspect_footage"]

SAMPLE_FILES = 64
"""Files looked into, when there are more."""

SAMPLE_PIXELS = 600_000_000
"""Pixels decoded in all, which bounds the time: about 2000 frames of 640x480, 290 of 1920x1080."""

SEGMENTS = 6
"""Places a long file is looked into."""

KEPT_FRAMES = 48
"""Frames of a file kept, small, for bars and overlays; up to twice as many while it is read."""

FLOW_PAIRS = 400
"""Pairs of frames whose flow is measured, over all files."""

SHORT_SECONDS = 1.0
"""A shorter clip is pointed out."""


class SkippedFile(Frozen):
    """A path that cannot be used, and why."""

    path: str
    reason: str


class FileInspection(Frozen):
    """One file that was looked into. Sizes, bars and boxes are in pixels of the upright picture; `motion`
    is the mean flow in short sides a frame; `unique_share` the part of the frames that are neither repeats
    nor stills; `complete` is False where only parts of the file were decoded, so that shots are at least
    those seen.
    """

    path: str
    label: str | None
    width: int
    height: int
    fps: float
    seconds: float
    frames_decoded: int
    complete: bool
    shots: int
    shot_seconds: tuple[float, ...]
    unique_share: float
    motion: float
    direction_degrees: float | None
    direction_dominance: float
    black_bars: Bars
    overlays: tuple[Box, ...]
    is_picture: bool
    codec: str
    suspicious: tuple[str, ...]


class Inspection(Frozen):
    """All footage. `seconds` is an estimate when not every file was looked into (`files_inspected` <
    `file_count`); `training_aspect` is the width over the height that training would use.
    """

    file_count: int
    files_inspected: int
    labels: tuple[str, ...]
    files: tuple[FileInspection, ...]
    skipped: tuple[SkippedFile, ...]
    seconds: float
    shots: int
    fps: float
    motion: float
    direction_degrees: float | None
    direction_dominance: float
    mirror: bool
    mirror_reason: str
    training_aspect: float
    notes: tuple[str, ...]


class _Sample:
    """What is gathered from one file while parts of it are decoded."""

    def __init__(self, frames_apart: int, pairs: int, expected_frames: float) -> None:
        self.meter = MovementMeter()
        self._apart, self._pairs = frames_apart, max(4, pairs)
        self._pair_every = max(1, int(expected_frames // self._pairs))
        self._keep_every = max(1, int(expected_frames // KEPT_FRAMES))
        self.kept: list[np.ndarray] = []
        self.gaps: list[float] = []
        self.shot_seconds: list[float] = []
        self.decoded = self.unique = self.segments = 0

    def segment(self, frames: Iterator[DecodedFrame]) -> None:
        """Take consecutive frames."""
        cut_finder, dissolves, stills = CutFinder(), DissolveFinder(), StillFilter()
        cuts: list[int] = []
        times: list[float] = []
        recent: deque[np.ndarray] = deque(maxlen=self._apart + 1)
        pairs: list[tuple[int, np.ndarray, np.ndarray]] = []
        for index, frame in enumerate(frames):
            image = frame.image
            small = glance(image)
            cuts += cut_finder.push(small)
            dissolves.push(small)
            self.unique += len(stills.push(Pending(index, frame.timestamp, small), small))
            times.append(frame.timestamp)
            recent.append(image)
            if len(recent) > self._apart and index % self._pair_every == 0:
                pairs.append((index, recent[0], image))
                if len(pairs) > 2 * self._pairs:  # more frames than were expected
                    pairs, self._pair_every = pairs[::2], 2 * self._pair_every
            if self.decoded % self._keep_every == 0:
                self.meter.scene(small)
                self.kept.append(image)
                if len(self.kept) > 2 * KEPT_FRAMES:
                    self.kept, self._keep_every = self.kept[::2], 2 * self._keep_every
            self.decoded += 1
        cuts += cut_finder.finish()
        cuts += [(start + stop) // 2 for start, stop in dissolves.spans]
        self.unique += len(stills.finish())
        for index, first, second in pairs:
            if not any(index - self._apart < cut <= index for cut in cuts):
                self.meter.pair(first, second, self._apart)
        self._close(np.asarray(times), sorted(set(cuts)))

    def _close(self, times: np.ndarray, cuts: list[int]) -> None:
        if not len(times):
            return
        gap = usual_gap(times)
        if gap:
            self.gaps.append(gap)
        edges = [float(times[0]), *(float(times[cut]) for cut in cuts), float(times[-1]) + gap]
        self.shot_seconds += list(np.diff(edges))
        self.segments += 1


def inspect_footage(
    paths: Sequence[Path | str],
    *,
    sample_files: int = SAMPLE_FILES,
    sample_pixels: int = SAMPLE_PIXELS,
) -> Inspection:
    """Look into footage; FootageError if there is none at all."""
    found, skipped = find_footage(paths)
    if not found:
        first = f"; {shown(skipped[0].path)}: {skipped[0].reason}" if skipped else ""
        first = first or "; give video files, pictures or folders that hold them"
        raise FootageError(f"no footage in {', '.join(shown(path) for path in paths)}{first}")
    chosen = _spread(found, sample_files)
    meter = MovementMeter()
    files: list[FileInspection] = []
    pixels = sample_pixels
    for number, file in enumerate(sorted(chosen, key=lambda file: os.path.getsize(file.path))):
        try:
            seen = probe(file.path)
            share = pixels // (len(chosen) - number)
            found_in = _inspect_file(file, seen, meter, share, FLOW_PAIRS // len(chosen))
            pixels -= (
                found_in.frames_decoded * seen.width * seen.height
            )  # what is left over, larger files get
            files.append(found_in)
        except (FootageError, OSError) as error:
            skipped.append(Skipped(file.path, str(error)))
    if not files:
        reason = skipped[-1].reason
        raise FootageError(
            reason if len(found) == 1 else f"none of {len(found)} files can be used; the last: {reason}"
        )
    order = {str(file.path): number for number, file in enumerate(chosen)}
    return _together(found, len(chosen), sorted(files, key=lambda file: order[file.path]), skipped, meter)


def _spread(files: Sequence[FootageFile], most: int) -> list[FootageFile]:
    """At most so many files, evenly over all."""
    if len(files) <= most:
        return list(files)
    return [files[int(at)] for at in np.linspace(0, len(files) - 1, most)]


def _inspect_file(
    file: FootageFile, seen: Probe, meter: MovementMeter, pixels: int, pairs: int
) -> FileInspection:
    """Decode parts of one file, all of it if it is short, and describe it."""
    budget = max(12, pixels // (seen.width * seen.height))
    expected = max(1.0, (seen.duration_seconds or 0.0) * (seen.fps or 25.0))
    complete = expected <= budget
    apart = frames_apart(1 / (seen.fps or 25.0))
    if seen.duration_seconds is not None:
        apart = min(apart, max(1, round(expected) - 1))
    sample = _Sample(apart, pairs, min(budget, expected))
    with Decoder(file.path, halved_to=2 * GLANCE_PIXELS) as decoder:
        if complete:
            count = _take(sample, decoder, 4 * budget)
            complete = count < 4 * budget
        else:
            places = max(1, min(SEGMENTS, budget // 12))
            for place in range(places):
                if place and not decoder.seek((seen.duration_seconds or 0.0) * place / places):
                    break
                _take(sample, decoder, budget // places)
        damaged = decoder.damage.packets
    meter.merge(sample.meter)
    return _describe(file, seen, sample, complete, damaged)


def _take(sample: _Sample, decoder: Decoder, count: int) -> int:
    """Feed at most `count` frames from where the decoder is."""
    before = sample.decoded
    try:
        sample.segment(islice(decoder, count))
    except FootageError:
        if not sample.decoded:
            raise
    return sample.decoded - before


def _describe(
    file: FootageFile, seen: Probe, sample: _Sample, complete: bool, damaged: int
) -> FileInspection:
    """Put one file's findings together."""
    movement = sample.meter.summary()
    fps = 1 / float(np.median(sample.gaps)) if sample.gaps else seen.fps or 25.0
    shape = sample.kept[0].shape[:2]
    kept = np.stack(
        [
            image if image.shape[:2] == shape else cv2.resize(image, shape[::-1])
            for image in sample.kept[: 2 * KEPT_FRAMES]
        ]
    )
    bars = black_bars(kept)
    boxes = static_overlays(kept, bars)
    scale = seen.width / shape[1]
    seconds = sum(sample.shot_seconds) if complete else seen.duration_seconds or sum(sample.shot_seconds)
    unique_share = sample.unique / max(1, sample.decoded)
    found = FileInspection(
        path=str(file.path),
        label=file.label,
        width=seen.width,
        height=seen.height,
        fps=fps,
        seconds=0.0 if seen.is_picture else seconds,
        frames_decoded=sample.decoded,
        complete=complete,
        shots=len(sample.shot_seconds) - sample.segments + 1,
        shot_seconds=tuple(round(length, 3) for length in sample.shot_seconds),
        unique_share=unique_share,
        motion=movement.strength,
        direction_degrees=movement.direction_degrees,
        direction_dominance=movement.dominance,
        black_bars=Bars(*(round(side * scale) for side in bars)),
        overlays=tuple(Box(*(round(side * scale) for side in box)) for box in boxes),
        is_picture=seen.is_picture,
        codec=seen.codec,
        suspicious=(),
    )
    return found.model_copy(update={"suspicious": tuple(_suspicions(found, seen, kept, damaged))})


def _suspicions(found: FileInspection, seen: Probe, kept: np.ndarray, damaged: int) -> Iterator[str]:
    """What about a file may spoil training, each with the reason."""
    declared = seen.duration_seconds
    if any(found.black_bars):
        top, bottom, left, right = found.black_bars
        yield f"black bars of {top}, {bottom}, {left}, {right} pixels (top, bottom, left, right): crop them"
    if found.overlays:
        places = ", ".join(f"{box.width}x{box.height} at {box.left},{box.top}" for box in found.overlays)
        yield f"static overlay ({places}), perhaps a logo or a clock, would be learnt: crop or blur it"
    if found.is_picture:
        return
    if found.motion < 0.0001 and found.frames_decoded > 1:
        yield "nothing moves"
    if found.unique_share < 0.7 and found.frames_decoded >= 12:
        yield f"only {found.unique_share:.0%} of its frames differ from the one before: stills and repeats are dropped"
    if found.frames_decoded == 1:
        yield "a single frame"
    elif found.complete and found.seconds < SHORT_SECONDS:
        yield f"only {found.seconds:.2f} s long"
    if found.complete and declared and found.seconds < 0.98 * declared and declared - found.seconds > 0.1:
        yield f"ends early: {found.seconds:.2f} s could be decoded of the {declared:.2f} s it declares"
    if damaged:
        yield f"damaged: {damaged} pieces could not be decoded"
    if float(kept.mean()) < 16:
        yield "almost black"
    elif float(kept[::4, ::4, ::4].std(axis=(1, 2)).mean()) < 4:
        yield "almost one flat colour"
    if seen.is_hdr:
        yield "high dynamic range: shown without tone mapping, it looks pale"
    if min(found.width, found.height) < 64:
        yield f"only {found.width}x{found.height} pixels"


def _together(
    found: Sequence[FootageFile],
    tried: int,
    files: Sequence[FileInspection],
    skipped: Sequence[Skipped],
    meter: MovementMeter,
) -> Inspection:
    """The whole footage from the files looked into, of which there are fewer than `tried` if some were unusable."""
    movement = meter.summary(overlays=sum(len(file.overlays) for file in files))
    height, width = frame_size([(f.width, f.height, f.seconds or PICTURE_SECONDS) for f in files], 128)
    factor = len(found) / tried
    notes = []
    if factor > 1:
        notes.append(f"{tried} of {len(found)} files were looked into; totals are estimates")
    partial = sum(not file.complete for file in files)
    if partial:
        notes.append(f"{partial} of the files were looked into in parts: their shots are at least those seen")
    shapes = {shape: len(list(group)) for shape, group in groupby(sorted((f.width, f.height) for f in files))}
    if len(shapes) > 1:
        listed = ", ".join(
            f"{w}x{h} ({count})" for (w, h), count in sorted(shapes.items(), key=lambda s: -s[1])[:4]
        )
        notes.append(f"frames of {len(shapes)} sizes: {listed}; those of another shape than most are cropped")
    return Inspection(
        file_count=len(found),
        files_inspected=len(files),
        labels=tuple(sorted({file.label for file in found if file.label is not None})),
        files=tuple(files),
        skipped=tuple(SkippedFile(path=shown(item.path), reason=item.reason) for item in skipped),
        seconds=sum(file.seconds for file in files) * factor,
        shots=round(sum(file.shots for file in files) * factor),
        fps=float(np.median([file.fps for file in files])),
        motion=movement.strength,
        direction_degrees=movement.direction_degrees,
        direction_dominance=movement.dominance,
        mirror=movement.mirror,
        mirror_reason=movement.mirror_reason,
        training_aspect=width / height,
        notes=tuple(notes),
    )

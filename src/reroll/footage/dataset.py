"""Windows of frames for training, and the split into training and held-out footage.

In: a `Store`. Out: `Batch`es of uint8 B T H W 3 with the true time of every frame. `Windows.batch` is a pure
function of the seed, the batch's index and its arguments, whatever was asked before and in whichever process,
so that a resumed run sees the same windows as one that never stopped. No window crosses a shot.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reroll.footage.shards import Shot, Store

HELDOUT_WINDOWS = 8
"""Fewer disjoint held-out windows than this are no split."""

HELDOUT_SHARE, HELDOUT_LIMIT = 0.12, 0.2
"""Share of the frames that is held out, and the most it may become."""

PICTURE_GAP_SECONDS = 1 / 25
"""Time step of the window made of a single picture."""


@dataclass(frozen=True)
class Span:
    """Consecutive frames of one shot, `start` to `stop` in the store; `label` indexes `Store.labels`."""

    start: int
    stop: int
    label: int | None = None


@dataclass(frozen=True)
class Split:
    """Spans to train on, spans held out (perhaps none), and in one sentence how they were chosen."""

    train: list[Span]
    heldout: list[Span]
    reason: str


@dataclass(frozen=True)
class Batch:
    """`frames` uint8 B T H W 3, `timestamps` float64 B T in seconds from each window's first frame, `labels`
    B int64 (-1: none).
    """

    frames: np.ndarray
    timestamps: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Draw:
    """Which frames a batch is made of: store `indices` int64 B T, `timestamps` and `labels` as in `Batch`, `mirrored`
    B bool, and `strides` int64 B as they were drawn, also where a shot is too short for them.
    """

    indices: np.ndarray
    timestamps: np.ndarray
    labels: np.ndarray
    mirrored: np.ndarray
    strides: np.ndarray


def disjoint_windows(spans: Sequence[Span], frames: int, stride: int = 1) -> list[tuple[int, int]]:
    """Windows of `frames` at `stride` that share no frame and cross no span: (start, stop) in the store."""
    extent = (frames - 1) * stride + 1
    return [(at, at + extent) for span in spans for at in range(span.start, span.stop - extent + 1, extent)]


def _paces(store: Store) -> np.ndarray:
    """The frame rate of each file in multiples of the median of all."""
    rates = np.asarray([file.fps for file in store.files])
    return rates / np.median(rates)


def usual_strides(store: Store) -> list[int]:
    """The stride at which each file shows about as many frames a second as most do."""
    strides: list[int] = np.maximum(1, np.rint(_paces(store))).astype(int).tolist()
    return strides


def _spans(shots: Sequence[Shot]) -> list[Span]:
    return [Span(shot.start, shot.stop, shot.label) for shot in shots]


def split(store: Store, window_frames: int) -> Split:
    """Hold footage out: whole clips when there are several, otherwise the end of the longest, after a gap.

    There is a held-out part only if it has `HELDOUT_WINDOWS` disjoint windows in a fifth of the frames or
    less.
    """
    by_clip = _split_by_clip(store, window_frames) if len(store.files) > 1 else None
    found = by_clip or _split_in_time(store, window_frames)
    if found:
        return found
    total = len(disjoint_windows(_spans(store.shots), window_frames))
    return Split(
        _spans(store.shots),
        [],
        f"nothing is held out: the footage has {total} disjoint windows of {window_frames} frames, and a"
        f" fifth of it would have fewer than {HELDOUT_WINDOWS}; figures are marked as on training footage",
    )


def _split_by_clip(store: Store, window_frames: int) -> Split | None:
    """Clips in the order of their content's hash until there is enough; every label keeps a clip to train
    on.
    """
    order = sorted(
        range(len(store.files)), key=lambda i: hashlib.sha256(store.files[i].sha256.encode()).digest()
    )
    strides = usual_strides(store)
    clips_left: dict[int | None, int] = {}
    for file in store.files:
        clips_left[file.label] = clips_left.get(file.label, 0) + 1
    shots_of: dict[int, list[Shot]] = {}
    for shot in store.shots:
        shots_of.setdefault(shot.file, []).append(shot)
    chosen: set[int] = set()
    frames = windows = 0
    for number in order:
        file = store.files[number]
        count = file.stop - file.start
        if windows >= HELDOUT_WINDOWS and frames >= HELDOUT_SHARE * store.frame_count:
            break
        if frames + count > HELDOUT_LIMIT * store.frame_count or clips_left[file.label] < 2:
            continue
        chosen.add(number)
        clips_left[file.label] -= 1
        frames += count
        windows += len(disjoint_windows(_spans(shots_of[number]), window_frames, strides[number]))
    if windows < HELDOUT_WINDOWS:
        return None
    return Split(
        _spans([shot for shot in store.shots if shot.file not in chosen]),
        _spans([shot for shot in store.shots if shot.file in chosen]),
        f"held out by clip: {len(chosen)} of {len(store.files)} clips, {windows} disjoint windows of"
        f" {window_frames} frames",
    )


def _split_in_time(store: Store, window_frames: int) -> Split | None:
    """The end of the clip with most frames, with a gap of one window before it that nobody sees."""
    number = max(range(len(store.files)), key=lambda i: store.files[i].stop - store.files[i].start)
    file = store.files[number]
    stride = usual_strides(store)[number]
    most = int(HELDOUT_LIMIT * store.frame_count)
    for share in np.linspace(HELDOUT_SHARE, HELDOUT_LIMIT, 9):
        cut = file.stop - min(most, round(share * store.frame_count))
        gap = cut - window_frames
        if gap <= file.start:
            return None
        heldout = [
            Span(max(shot.start, cut), shot.stop, shot.label)
            for shot in store.shots
            if shot.file == number and shot.stop > cut
        ]
        windows = len(disjoint_windows(heldout, window_frames, stride))
        if windows >= HELDOUT_WINDOWS:
            others = [shot for shot in store.shots if shot.file != number]
            before = [
                Span(shot.start, min(shot.stop, gap), shot.label)
                for shot in store.shots
                if shot.file == number and shot.start < gap
            ]
            train = sorted([*_spans(others), *before], key=lambda span: span.start)
            return Split(
                train,
                heldout,
                f"held out in time: the last {file.stop - cut} frames of a clip after a gap of"
                f" {window_frames}, {windows} disjoint windows of {window_frames} frames",
            )
    return None


class Windows:
    """Random and fixed windows over spans of a store. `notes` says how spans shorter than a window are
    used.

    Strides count frames at the median rate of the files, so that in footage of mixed rates they are steps of about
    the same time: a stride of 2 at 30 a second is one of 4 in a file of 60.
    """

    def __init__(self, store: Store, spans: Sequence[Span], *, seed: int, mirror: bool) -> None:
        if not spans:
            raise ValueError("no spans to draw windows from")
        self.store = store
        self.spans = list(spans)
        self.seed = seed
        self.mirror = mirror
        self._starts = np.asarray([span.start for span in spans], dtype=np.int64)
        self._lengths = np.asarray([span.stop - span.start for span in spans], dtype=np.int64)
        files = np.searchsorted([file.stop for file in store.files], self._starts, side="right")
        self._pace = _paces(store)[files]
        # Where each span begins and the last ends, one after the other, in frames at the median rate.
        self._begins = np.concatenate([[0.0], np.cumsum(self._lengths / self._pace)])
        self._tables: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}

    def notes(self, frames: int) -> list[str]:
        """How windows of so many frames use the spans that are shorter, in sentences; often none."""
        short = int(((self._lengths < frames) & (self._lengths > 1)).sum())
        single = int((self._lengths == 1).sum()) if frames > 1 else 0
        notes = []
        if short:
            notes.append(
                f"{short} of {len(self.spans)} shots are shorter than a window of {frames} frames: they are"
                " played forwards and backwards"
            )
        if single:
            notes.append(
                f"{single} of {len(self.spans)} shots are a single picture: it is held for the window"
            )
        return notes

    def draw(self, index: int, *, batch: int, frames: int, strides: Sequence[int]) -> Draw:
        """Batch number `index`: a shot is as likely as it is long, each start position in it equally; each window's
        stride is drawn from `strides` (where it does not fit, the largest that does); one that is in there twice is as
        often drawn.

        Were all start positions of the footage equally likely, a shot hardly longer than a window would hardly be seen:
        of 61 frames one window of keyframes begins, of 109 there are 49 (docs/log.md).
        """
        generator = np.random.Generator(np.random.Philox(np.random.SeedSequence([self.seed, index])))
        draws = generator.random((batch, 4))
        options = np.sort(np.asarray(strides, dtype=np.int64))
        if not len(options) or options[0] < 1 or frames < 1:
            raise ValueError(f"windows need frames >= 1 and strides >= 1, not {frames} and {list(strides)}")
        asked = options[(draws[:, 0] * len(options)).astype(np.int64)]
        chosen = [self._draw(row, frames, int(stride)) for row, stride in zip(draws, asked, strict=True)]
        labels = [self.spans[number].label for _, number in chosen]
        return Draw(
            np.stack([indices for indices, _ in chosen]),
            np.stack([self._times(indices) for indices, _ in chosen]),
            np.asarray([-1 if label is None else label for label in labels], dtype=np.int64),
            (draws[:, 3] < 0.5) & self.mirror,
            asked,
        )

    def batch(self, index: int, *, batch: int, frames: int, strides: Sequence[int]) -> Batch:
        """The frames of `draw` of the same arguments."""
        return self.read(self.draw(index, batch=batch, frames=frames, strides=strides))

    def read(self, drawn: Draw) -> Batch:
        """The frames of drawn windows."""
        rows = [self._frames(indices) for indices in drawn.indices]
        rows = [
            np.ascontiguousarray(row[:, :, ::-1]) if flipped else row
            for row, flipped in zip(rows, drawn.mirrored, strict=True)
        ]
        return Batch(np.stack(rows), drawn.timestamps, drawn.labels)

    def fixed(self, frames: int, every: int | None = None) -> list[tuple[int, int, int]]:
        """Windows of stride 1 for evaluation, (start, stop, step) for `Store.frames`; a new one begins every so many
        frames, or when the one before is over.
        """
        used, _ = self._table(frames, 1)
        found = []
        for span, step in zip(self.spans, used.tolist(), strict=True):
            extent = (frames - 1) * step + 1
            if step:
                starts = range(span.start, span.stop - extent + 1, every * step if every else extent)
                found += [(start, start + extent, step) for start in starts]
        return found

    def passes(self, frames: int, run: int) -> list[np.ndarray]:
        """Store indices in the orders in which windows of `frames` at stride 1 show them; every run of `run` frames
        that such a window can hold is in one of them.

        A span gives a pass for each frame its stride can begin at; one shorter than a window is played once to and
        fro.
        """
        used, _ = self._table(frames, 1)
        found: list[np.ndarray] = []
        for number, (span, step) in enumerate(zip(self.spans, used.tolist(), strict=True)):
            if step:
                found += [np.arange(first, span.stop, step) for first in range(span.start, span.start + step)]
            else:
                turn = max(1, 2 * (span.stop - span.start - 1))
                found.append(self._ping_pong(number, 0, turn + run - 1, backwards=False))
        return [indices for indices in found if len(indices) >= run]

    def _table(self, frames: int, stride: int) -> tuple[np.ndarray, np.ndarray]:
        """Stride used in each span (0: shorter than the window), and how many start positions there are in it."""
        if (frames, stride) not in self._tables:
            wanted = np.maximum(1, np.rint(stride * self._pace)).astype(np.int64)
            used = np.minimum(wanted, (self._lengths - 1) // max(1, frames - 1))
            positions = np.where(used > 0, self._lengths - (frames - 1) * used, self._lengths)
            self._tables[frames, stride] = used, positions
        return self._tables[frames, stride]

    def _draw(self, draws: np.ndarray, frames: int, stride: int) -> tuple[np.ndarray, int]:
        """Frame indices and the number of their span from uniform numbers: place (the second), direction if short
        (the third).
        """
        used, positions = self._table(frames, stride)
        place = draws[1] * self._begins[-1]
        number = int(np.searchsorted(self._begins[1:-1], place, side="right"))
        share = (place - self._begins[number]) / (self._begins[number + 1] - self._begins[number])
        offset = min(int(share * positions[number]), int(positions[number]) - 1)
        if used[number]:
            first = int(self._starts[number]) + offset
            return first + int(used[number]) * np.arange(frames), number
        return self._ping_pong(number, offset, frames, backwards=draws[2] < 0.5), number

    def _ping_pong(self, number: int, offset: int, frames: int, *, backwards: bool) -> np.ndarray:
        """Indices that run through a short span to and fro, from `offset` on."""
        length = int(self._lengths[number])
        if length == 1:
            return np.full(frames, self._starts[number])
        period = 2 * (length - 1)
        phase = (period - offset if backwards else offset) + np.arange(frames)
        folded = phase % period
        return self._starts[number] + np.where(folded < length, folded, period - folded)

    def _frames(self, indices: np.ndarray) -> np.ndarray:
        """Frames T H W 3 at store indices."""
        steps = np.diff(indices)
        if len(steps) and (steps == steps[0]).all() and steps[0] > 0:
            return self.store.frames(int(indices[0]), int(indices[-1]) + 1, int(steps[0]))
        low = int(indices.min())
        return self.store.frames(low, int(indices.max()) + 1)[indices - low]

    def _times(self, indices: np.ndarray) -> np.ndarray:
        """Seconds since the first of the frames at `indices`; time runs on where a span is played back."""
        gaps = np.abs(np.diff(np.asarray(self.store.timestamps[indices])))
        gaps[gaps == 0] = PICTURE_GAP_SECONDS
        return np.concatenate([[0.0], np.cumsum(gaps)])

"""The footage's side of a judgement: a store → windows to compare with, where they are from, and stretches to watch.

Windows are uint8 RGB `N T H W 3` at the footage's usual rate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reroll.evaluation.judge import evenly
from reroll.evaluation.motion import Drift, drift
from reroll.evaluation.nearest import RUN_FRAMES, Place, TrainingFootage
from reroll.footage import Split, Store, Windows
from reroll.footage.dataset import usual_strides

Frames = NDArray[np.uint8]

MOST_WINDOWS = 256
MOST_REBUILT = 8
STRETCHES, STRETCH_SECONDS = 40, 6.0
WATCHED = 3  # stretches that are kept for the page


@dataclass(frozen=True, eq=False)
class Reference:
    """What samples are compared with. `heldout` may have no windows; `places` are one for each of `train`;
    `searched` is all that copies are looked for in; `stretches` are some longer pieces of it, the longest shots first;
    `drifts` say how much the ends of more of these differ."""

    fps: float
    train: Frames
    heldout: Frames
    places: list[Place]
    searched: TrainingFootage
    stretches: list[Frames]
    drifts: list[Drift]

    @classmethod
    def of(
        cls,
        store: Store,
        parts: Split,
        frames: int,
        fps: float,
        *,
        every: int | None = None,
        mirrored: bool = False,
    ) -> Reference:
        """Windows of so many frames of a store, split as it was for training; those to train on begin every so many
        frames (a quarter of a window if not said), held-out ones where the one before is over."""
        trained_on = Windows(store, parts.train, seed=0, mirror=False)
        train, places = _windows(trained_on, frames, every or frames // 4)
        heldout = np.zeros((0, *train.shape[1:]), np.uint8)
        if parts.heldout:
            heldout = _windows(Windows(store, parts.heldout, seed=0, mirror=False), frames, every)[0]
        searched = _searched(trained_on, frames, mirrored=mirrored)
        stretches: list[Frames] = []
        drifts: list[Drift] = []
        for stretch in _stretches(store, round(STRETCH_SECONDS * fps)):
            if len(stretches) < WATCHED:
                stretches.append(stretch)
            if (found := drift(stretch, fps)) is not None:
                drifts.append(found)
        return cls(fps, train, heldout, places, searched, stretches, drifts)

    def to_rebuild(self) -> tuple[Frames, str]:
        """A few windows to put through an Encoder and Decoder, held-out ones if there are any, and which they are."""
        if len(self.heldout):
            return evenly(self.heldout, MOST_REBUILT), "held-out footage"
        return evenly(self.train, MOST_REBUILT), "training footage"


def _windows(windows: Windows, frames: int, every: int | None = None) -> tuple[Frames, list[Place]]:
    """Windows to measure distances to, evenly chosen of those that begin every so many frames, and their places.

    Where all shots are shorter than a window they are played to and fro, as in training.
    """
    store = windows.store
    found = [np.arange(*window) for window in windows.fixed(frames, every)] or [
        indices[start : start + frames]
        for indices in windows.passes(frames, frames)
        for start in range(0, len(indices) - frames + 1, every or frames)
    ]
    picked = [found[i] for i in np.linspace(0, len(found) - 1, min(MOST_WINDOWS, len(found))).astype(int)]
    firsts = np.asarray([int(i[0]) for i in picked])
    files, names = np.searchsorted([file.stop for file in store.files], firsts, side="right"), _names(store)
    places = [Place(names[f], float(store.timestamps[i])) for f, i in zip(files, firsts, strict=True)]
    return np.stack([_read(store, i) for i in picked]), places


def _names(store: Store) -> list[str]:
    """A name for each file by which it can be told from the others."""
    paths = [Path(file.path) for file in store.files]
    often = Counter(path.name for path in paths)
    return [path.name if often[path.name] == 1 else "/".join(path.parts[-2:]) for path in paths]


def _searched(windows: Windows, frames: int, *, mirrored: bool) -> TrainingFootage:
    """All that windows of so many frames can show of their footage, for the copy check."""
    store = windows.store
    return TrainingFootage(
        passes=windows.passes(frames, min(RUN_FRAMES, frames)),
        read=partial(_read, store),
        names=_names(store),
        file=np.repeat(np.arange(len(store.files)), [file.stop - file.start for file in store.files]),
        seconds=store.timestamps,
        mirrored=mirrored,
    )


def _read(store: Store, indices: np.ndarray) -> Frames:
    """Frames uint8 `T H W 3` at store indices in any order; neighbours are read together."""
    ends = np.flatnonzero(np.diff(indices) != 1) + 1
    return np.concatenate([store.frames(int(part[0]), int(part[-1]) + 1) for part in np.split(indices, ends)])


def _stretches(store: Store, length: int) -> Iterator[Frames]:
    """Longer pieces of footage, one at a time: of the longest shots the beginnings."""
    strides = usual_strides(store)
    longest = sorted(store.shots, key=lambda shot: (shot.start - shot.stop) / strides[shot.file])[:STRETCHES]
    for shot in longest:
        step = strides[shot.file]
        yield store.frames(shot.start, min(shot.stop, shot.start + length * step), step)

"""Takes: footage that samples start from, and what goes on from it.

In: a video or a picture. Out: its uint8 frames `T H W 3` at the model's size and any rate, and those of it that goes
on, without a jump where the model takes over.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
from rich.console import Console
from torch import Tensor

from reroll.footage import Probe, decode, probe, read_picture, resize
from reroll.footage.container import shown
from reroll.footage.guard import read_sound
from reroll.footage.shots import halving_end, usual_gap
from reroll.footage.sound import CHANNELS, RATE
from reroll.parts.decoder import HALO
from reroll.sampling.sampler import Sampler
from reroll.sampling.settings import SampleSettings
from reroll.sampling.timeline import frames_before, frames_between

RESIDUAL_SECONDS = 0.6
RATE_FRAMES = 48
LONGEST_GAP_SECONDS = 10.0
CONTEXT_KEYFRAMES = 8
SLOWEST, FASTEST = 1.0, 240.0  # frames a second


@dataclass(frozen=True)
class Take:
    """A video or a picture that can be read."""

    path: Path
    about: Probe

    @classmethod
    def open(cls, path: Path) -> "Take":
        """Look at a file; FootageError when it is no footage."""
        return cls(path, probe(path))

    @property
    def is_picture(self) -> bool:
        """Whether it has one frame and no rate."""
        return self.about.is_picture

    def sound(self, silence_seconds: float = 0.0) -> Callable[[], Iterator[np.ndarray]] | None:
        """What begins its sound anew, after so much silence; None if it has none."""
        if self.is_picture or not self.about.has_audio:
            return None

        def begin() -> Iterator[np.ndarray]:
            if count := round(silence_seconds * RATE):
                yield np.zeros((CHANNELS, count), np.float32)
            yield from read_sound(self.path)

        return begin

    @cached_property
    def sha256(self) -> str:
        """Of the file."""
        with open(self.path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    @cached_property
    def fps(self) -> float:
        """Frames a second: what its header says, unless its first frames are far from that (some containers say 1000
        for "it varies")."""
        gap = usual_gap(
            np.asarray(
                [frame.timestamp for frame in islice(decode(self.path, halving_end(1, 1)), RATE_FRAMES)]
            )
        )
        said = self.about.fps
        seen = 1 / gap if gap else said or 25.0
        return min(FASTEST, max(SLOWEST, said if said and 0.9 < said / seen < 1.1 else seen))

    def cropping(self, height: int, width: int) -> str | None:
        """What to say if its shape is not that of the model's frames: only its middle is used."""
        about = self.about
        surplus = (about.width * height) / (about.height * width)  # above 1: too wide
        side, length = ("width", width) if surplus > 1 else ("height", height)
        lost = 1 - min(surplus, 1 / surplus)
        if lost * length <= 1:  # rounding to whole pixels
            return None
        return (
            f"note: {shown(self.path.name)} is {about.width}x{about.height}, the run {width}x{height}: {lost:.0%} of"
            f" its {side} is cropped, the same on both sides."
        )

    def frames(self, fps: float, height: int, width: int) -> Iterator[np.ndarray]:
        """Frames `H W 3` at `fps`: at each output time the last that had begun. A gap of more than
        `LONGEST_GAP_SECONDS` is taken for a fault of the timestamps and counts as that, with a note."""
        if self.is_picture:
            yield from read_picture(self.path, height, width)
            return
        held: np.ndarray | None = None
        count, before, surplus = 0, 0.0, 0.0
        for frame in decode(self.path, halving_end(height, width)):  # as in a store
            if (gap := frame.timestamp - before) > LONGEST_GAP_SECONDS and held is not None:
                surplus += gap - LONGEST_GAP_SECONDS
                Console(stderr=True).print(
                    f"note: {shown(self.path.name)}: nothing for {gap:.0f} s after {before:.1f} s; the last frame is"
                    f" held for {LONGEST_GAP_SECONDS:.0f} s instead.",
                    soft_wrap=True, highlight=False, markup=False,
                )  # fmt: skip
            before = frame.timestamp
            while held is not None and count / fps < frame.timestamp - surplus - 0.5 / fps:
                yield held
                count += 1
            held = resize(frame.image, height, width)
        if held is not None:
            yield held


def extended(sampler: Sampler, take: Take, settings: SampleSettings) -> Iterator[np.ndarray]:
    """The take's frames, then `settings.frames` new ones, in chunks `T H W 3`."""
    tail: deque[np.ndarray] = deque(maxlen=_context(sampler, settings))
    for frame in _frames(sampler, take, settings):
        tail.append(frame)
        yield frame[None]
    given = sampler.encode(np.stack(tail))
    yield from faded(sampler.frames(settings, given), settings, after=_missed(sampler, given, tail, -1))


def preceded(sampler: Sampler, take: Take, settings: SampleSettings) -> Iterator[np.ndarray]:
    """`settings.frames` new frames, then the take's, in chunks `T H W 3`."""
    head = list(islice(_frames(sampler, take, settings), _context(sampler, settings)))
    given = sampler.encode(np.stack(head))
    made = frames_before(sampler, settings, given)
    yield from faded(made, settings, before=_missed(sampler, given, head, 0))
    for frame in _frames(sampler, take, settings):
        yield frame[None]


def joined(sampler: Sampler, first: Take, second: Take, settings: SampleSettings) -> Iterator[np.ndarray]:
    """One take's frames, `settings.frames` new ones, and another's, in chunks `T H W 3`."""
    yield from closed(sampler, first, second, settings)
    for frame in _frames(sampler, second, settings):
        yield frame[None]


def closed(sampler: Sampler, take: Take, into: Take, settings: SampleSettings) -> Iterator[np.ndarray]:
    """A take's frames and `settings.frames` new ones that lead to the beginning of another take, or of itself: then
    they play round and round."""
    context = _context(sampler, settings)
    head = list(islice(_frames(sampler, into, settings), context))
    tail: deque[np.ndarray] = deque(maxlen=context)
    for frame in _frames(sampler, take, settings):
        tail.append(frame)
        yield frame[None]
    one, other = sampler.encode(np.stack(tail)), sampler.encode(np.stack(head))
    made = frames_between(sampler, settings, one, other)
    yield from faded(
        made, settings, after=_missed(sampler, one, tail, -1), before=_missed(sampler, other, head, 0)
    )


def _frames(sampler: Sampler, take: Take, settings: SampleSettings) -> Iterator[np.ndarray]:
    """A take's frames as the model would have them."""
    size = sampler.model.config
    return take.frames(settings.fps, size.height, size.width)


def _context(sampler: Sampler, settings: SampleSettings) -> int:
    """How many frames of a take are given."""
    return CONTEXT_KEYFRAMES * max(1, round(sampler.key_gap_seconds * settings.fps)) + 1


def _missed(sampler: Sampler, given: Tensor, frames: Sequence[np.ndarray], at: int) -> np.ndarray:
    """What the Decoder misses of a frame, the first (0) or the last (-1) of those that were encoded: `H W 3`."""
    near = given[:, : HALO + 1] if at == 0 else given[:, -HALO - 1 :]
    rebuilt = next(sampler.decode(near))
    return frames[at].astype(np.float32) - rebuilt[at].astype(np.float32)


def faded(
    chunks: Iterable[np.ndarray], settings: SampleSettings, *, after: np.ndarray | None = None,
    before: np.ndarray | None = None,
) -> Iterator[np.ndarray]:  # fmt: skip
    """New frames `T H W 3` with what the Decoder misses of the given frame they come `after`, which fades out, and of
    the one they come `before`, which fades in: so that nothing jumps where the model takes over."""
    most = (
        RESIDUAL_SECONDS
        if after is None or before is None
        else min(RESIDUAL_SECONDS, settings.frames / settings.fps)
    )
    done = 0
    for chunk in chunks:
        made = chunk.astype(np.float32)
        number = np.arange(done, done + len(chunk))
        for residual, frames_away in ((after, number + 1), (before, settings.frames - number)):
            if residual is not None:
                share = np.clip(1 - frames_away / settings.fps / most, 0, 1)
                made += share[:, None, None, None] * residual
        done += len(chunk)
        yield made.clip(0, 255).round().astype(np.uint8)

"""Clip: what the library hands back, frames that know their rate and what they were made from."""

import html
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from reroll.errors import UsageError
from reroll.export.formats import choose, open_output
from reroll.export.media import Sound, checked_frames, exact_rate, video_data_uri
from reroll.export.provenance import Identity, sign

HTML_WIDTH = 512  # 64-pixel clips are shown this wide in a notebook
LONGEST_IN_MEMORY_BYTES = 2 << 30
Frames = NDArray[np.uint8]


class Clip:
    """A piece of video: `frames` uint8 RGB `T H W 3`, `fps`, and the `record` it can be made again from.

    Frames are there already, or are made when they are asked for; `save` writes them as they are made, in constant
    memory. In a notebook a clip plays by itself, looped and muted.
    """

    def __init__(
        self,
        frames: Frames | Callable[[], Iterator[Frames]],
        fps: float,
        record: dict[str, Any] | None = None,
        size: tuple[int, int] | None = None,
        count: int | None = None,
        takes: Sequence[Path] = (),
        sound: Callable[[], Sound] | None = None,
        footage: dict[str, Any] | None = None,
    ) -> None:
        """`size` (height, width) and, where it is known, `count` are needed of frames that are still to be made;
        `takes` are files that it is made from, which it must not replace; `sound` begins its sound anew; `footage` is
        what the model that made it was trained on."""
        self.footage = footage or {}
        self.fps, self.record, self.takes, self.sound = fps, record or {}, tuple(takes), sound
        self._count = count
        if callable(frames):
            assert size is not None
            self._make: Callable[[], Iterator[Frames]] | None = frames
            self.height, self.width = size
        else:
            self._frames: Frames = checked_frames(frames, "Clip")
            self._make, (self.height, self.width) = None, frames.shape[1:3]

    @property
    def frames(self) -> Frames:
        """All of them, `T H W 3`. UsageError if they are too many for the memory."""
        if self._make is not None:
            self._check_memory(self._count or 0)
            held: list[Frames] = []
            for chunk in self._make():
                held.append(chunk)
                self._check_memory(sum(map(len, held)))
            self._frames, self._make = np.concatenate(held), None
        return self._frames

    @property
    def seconds(self) -> float:
        """Duration: the number of frames over the frame rate."""
        return len(self.frames) / float(exact_rate(self.fps))

    def chunks(self) -> Iterator[Frames]:
        """The frames in pieces `T H W 3`, made one after the other if they are not there already."""
        return iter([self._frames]) if self._make is None else self._make()

    def save(self, path: Path | str, format: str | None = None, identity: Identity | None = None) -> Path:
        """Write a file that carries the record, in the format asked for or that of its ending, signed if there is an
        `identity`; returns its path."""
        path = Path(path)
        chosen = choose(path, format)
        if path.exists() and any(take.exists() and path.samefile(take) for take in self.takes):
            raise UsageError(f"-o {path}: that is the take itself, which would be lost; choose another name.")
        sound = self.sound() if self.sound is not None and chosen.has_sound else None
        if self.sound is not None and sound is None:
            note = f"note: {path.name} is silent: {chosen.name} holds no sound."
            Console(stderr=True).print(note, soft_wrap=True, highlight=False, markup=False)
        with open_output(path, chosen, self.fps, self.height, self.width, self.record, sound) as writer:
            for chunk in self.chunks():
                writer.write(chunk)
        if identity is not None:
            sign(path, self.record, self.footage, identity)
        return path

    def _check_memory(self, frames: int) -> None:
        needed = frames * self.height * self.width * 3
        if needed > LONGEST_IN_MEMORY_BYTES:
            raise UsageError(
                f"a clip of {frames} frames or more needs {needed / 1e9:.1f} GB as a whole; use its `save`, which"
                " writes it as it is made."
            )

    def __repr__(self) -> str:
        frames, height, width = self.frames.shape[:3]
        return f"Clip({frames} frames, {width}×{height}, {self.fps:g} fps, {self.seconds:.2f} s)"

    def _repr_html_(self) -> str:
        pixelated = "image-rendering:pixelated;" if self.width < HTML_WIDTH else ""
        return (
            f'<video controls loop autoplay muted playsinline title="{html.escape(repr(self))}" '
            f'style="width:{max(HTML_WIDTH, self.width)}px;max-width:100%;{pixelated}" '
            f'src="{video_data_uri(self.frames, self.fps)}"></video>'
        )

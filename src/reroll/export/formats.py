"""Formats: how an output is written, by `--format` or by the ending of its name, and how its record is read back.

In: uint8 RGB frames `T H W 3` as they come, a frame rate and a record. Out: a file (for `png` a folder of them) that
appears whole or not at all, with the record in it, and `<name>.json` beside it with the same record.

Videos are encoded as they come. For the others frames wait in a temporary file until the last has come, so memory does
not grow with the length either.
"""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reroll.errors import FootageError, RerollError, UsageError
from reroll.export import animation, pictures
from reroll.export.media import (
    H264,
    PRORES,
    VP9,
    Codec,
    Sound,
    VideoWriter,
    atomic_folder,
    atomic_path,
    checked_frames,
    exact_rate,
)
from reroll.footage.guard import read_tags

Frames = NDArray[np.uint8]
Encode = Callable[[Path, Frames, Fraction, str, Path], None]
"""Where to write, all frames, their rate, a comment, and under what name it will be found."""


class Writer(Protocol):
    """Takes frames in pieces."""

    def write(self, frames: Frames) -> None:
        """Append uint8 RGB frames `T H W 3` (or one, `H W 3`)."""


@dataclass(frozen=True)
class Format:
    """A name as in `--format`, the ending of its files (none: a folder), and what writes it."""

    name: str
    ending: str
    by: Codec | Encode
    fastest: int = 1000
    """Frames a second: a GIF counts in hundredths, and players take a hundredth for a tenth."""

    @property
    def has_sound(self) -> bool:
        """Whether it is a video, which may have sound."""
        return isinstance(self.by, Codec)


FORMATS = {
    each.name: each
    for each in (
        Format("mp4", ".mp4", H264),
        Format("webm", ".webm", VP9),
        Format("prores", ".mov", PRORES),
        Format("gif", ".gif", animation.write_gif, 50),
        Format("apng", ".apng", animation.write_apng),
        Format("webp", ".webp", animation.write_webp),
        Format("png", "", pictures.write_sequence),
        Format("sprite", ".png", pictures.write_sprites),
        Format("sheet", ".png", pictures.write_contact_sheet),
    )
}
OF_PICTURES = {".mkv", ".avi", ".jpg", ".jpeg", ".m4v", ".tif", ".tiff", ".bmp"}
"""Endings of files that cannot be written, and of no folder."""


def choose(output: Path, asked: str | None) -> Format:
    """The format of `-o OUTPUT` with `--format ASKED`. UsageError if they do not go together or are not known."""
    ending = output.suffix.lower()
    if asked is not None and asked not in FORMATS:
        raise UsageError(f"--format {asked}: give one of {', '.join(FORMATS)}.")
    fitting = [each for each in FORMATS.values() if each.ending and each.ending == ending]
    if asked is not None:
        chosen = FORMATS[asked]
        if (fitting or ending in OF_PICTURES) and chosen not in fitting:
            wanted = f"a name that ends in {chosen.ending}" if chosen.ending else "the name of a folder"
            raise UsageError(f"-o {output}: --format {asked} is written to {wanted}.")
        return chosen
    if len(fitting) > 1:
        names = " or ".join(each.name for each in fitting)
        raise UsageError(f"-o {output}: give --format {names}; a folder with --format png for single frames.")
    if not fitting and ending in OF_PICTURES:
        known = ", ".join(sorted({each.ending for each in FORMATS.values() if each.ending}))
        raise UsageError(
            f"-o {output}: {ending} is not written here; give a folder, or a name that ends in {known}."
        )
    return fitting[0] if fitting else FORMATS["mp4"]


def format_of(output: Path) -> str | None:
    """The name of the format an output is in; None if its ending says it."""
    if output.is_dir():
        return "png"
    if output.suffix.lower() != ".png":
        return None
    return "sprite" if output.with_suffix(".json").exists() else "sheet"


def is_folder(output: Path) -> bool:
    """Whether `-o OUTPUT` names a folder for outputs, not one output."""
    return output.suffix.lower() not in {each.ending for each in FORMATS.values() if each.ending}


class CollectingWriter:
    """Collects frames and has them written by `encode` when its block ends; see `VideoWriter`."""

    def __init__(
        self, encode: Encode, place: Callable[[Path], AbstractContextManager[Path]], path: Path,
        fps: float | Fraction, height: int, width: int, record: Mapping[str, Any],
    ) -> None:  # fmt: skip
        self.path, self.rate = path, exact_rate(fps)
        self.height, self.width, self.frame_count = height, width, 0
        self._encode, self._place = encode, place
        self._text = json.dumps(dict(record), default=str) if record else ""

    def __enter__(self) -> "CollectingWriter":
        with ExitStack() as resources:
            self._temporary = resources.enter_context(self._place(self.path))
            self._held = resources.enter_context(tempfile.TemporaryFile())
            self._resources = resources.pop_all()
        return self

    def write(self, frames: Frames) -> None:
        """Append uint8 RGB frames `T H W 3` (or one, `H W 3`)."""
        frames = checked_frames(frames[None] if frames.ndim == 3 else frames, str(self.path))
        if frames.shape[1:3] != (self.height, self.width):
            given = f"{frames.shape[1]}×{frames.shape[2]}"
            raise UsageError(f"{self.path}: opened for {self.height}×{self.width}, given {given}")
        self._held.write(np.ascontiguousarray(frames).tobytes())
        self.frame_count += len(frames)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._resources:
            if error is not None:
                raise error
            if not self.frame_count:
                raise RerollError(f"{self.path}: no frames were given, so there is nothing to write")
            self._held.flush()
            shape = self.frame_count, self.height, self.width, 3
            frames = np.memmap(self._held, np.uint8, "r", shape=shape)
            self._encode(self._temporary, frames, self.rate, self._text, self.path)


@contextmanager
def open_output(
    path: Path | str, chosen: Format, fps: float | Fraction, height: int, width: int,
    record: Mapping[str, Any] | None = None, sound: Sound | None = None,
) -> Iterator[Writer]:  # fmt: skip
    """A writer in the format chosen; when its block ends without an error the output is there, and its sidecar. Formats
    that are no videos have no sound."""
    path, held = Path(path), dict(record or {})
    if exact_rate(fps) > chosen.fastest:
        raise UsageError(
            f"{path}: {chosen.name} shows at most {chosen.fastest} frames a second, not {float(fps):g}; give --fps."
        )
    if isinstance(chosen.by, Codec):
        writer: Any = VideoWriter(path, fps, height, width, held, chosen.by, sound)
    else:
        place = atomic_path if chosen.ending else atomic_folder
        writer = CollectingWriter(chosen.by, place, path, fps, height, width, held)
    with writer:
        yield writer
    if held:
        with atomic_path(sidecar(path)) as temporary:
            temporary.write_text(json.dumps(held, indent=1, default=str) + "\n", encoding="utf-8")


def sidecar(path: Path) -> Path:
    """The file beside an output that holds its record, too."""
    return path.with_name(path.name + ".json")


def read_record(path: Path | str) -> dict[str, Any]:
    """The record in an output of reroll, of any format; empty if there is none."""
    path = Path(path)
    if path.is_dir():
        path = path / "frame-00000.png"
    try:
        record = json.loads(_comment(path))
    except (ValueError, OSError, FootageError):  # no JSON; no picture (Pillow's errors are both); no video
        return {}
    return record if isinstance(record, dict) else {}


def _comment(path: Path) -> str:
    """The text that was written into a file."""
    if path.suffix.lower() in (".gif", ".png", ".apng", ".webp"):
        with Image.open(path) as image:
            if path.suffix.lower() == ".webp":
                return str(image.getexif().get(animation.IMAGE_DESCRIPTION, ""))
            image.load()
            comment = (
                image.info.get("comment", b"") if image.format == "GIF" else image.info.get("Comment", "")
            )
            return comment.decode("latin-1") if isinstance(comment, bytes) else str(comment)
    return read_tags(path).get("comment", "")

"""First stage of the pipeline: which files are footage, and what is in each.

In: paths of files and folders, in any mixture. Out: `FootageFile`s in a fixed order with the label their
folder gives them, `Skipped` paths with the reason, and for one file a `Probe`, taken from a decoded frame and
not from the header's promises.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from reroll.footage.container import (
    declared_fps,
    declared_seconds,
    no_such,
    nothing_decoded,
    open_container,
    video_stream,
    why_not,
)
from reroll.footage.decode import PICTURE_DEMUXERS, orientation_of, raw_frames, square_size


@dataclass(frozen=True)
class FootageFile:
    """One file to take frames from; `label` is the name of the subfolder it came from, when there are
    several.
    """

    path: Path
    label: str | None = None


@dataclass(frozen=True)
class Skipped:
    """A path that was passed over, and why, in words that fit after a colon."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Probe:
    """What one decoded frame and the header say of a file.

    `width` and `height` are those of the upright picture with square pixels. `fps` and `duration_seconds` are
    the header's claims (None where it makes none): decode and count where it matters. `rotation_degrees` is
    what has to be turned, counter-clockwise, to stand upright.
    """

    width: int
    height: int
    fps: float | None
    duration_seconds: float | None
    rotation_degrees: int
    sample_aspect_ratio: Fraction
    interlaced: bool
    bit_depth: int
    codec: str
    container: str
    has_audio: bool
    is_picture: bool
    has_alpha: bool
    is_hdr: bool


def _walk(folder: Path, skipped: list[Skipped]) -> Iterator[Path]:
    """Footage under `folder`, names in order. Links to folders are not followed, so no loop can arise."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        skipped.append(Skipped(folder, f"cannot list the folder: {(error.strerror or str(error)).lower()}"))
        return
    for entry in entries:
        path = Path(entry.path)
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False) and os.path.isfile(path / "run.json"):
            skipped.append(Skipped(path, "a run of reroll, whose previews are not footage"))
        elif entry.is_dir(follow_symlinks=False):
            yield from _walk(path, skipped)
        elif entry.is_symlink() and os.path.isdir(path):
            skipped.append(Skipped(path, "a link to a folder is not followed; give that folder itself"))
        elif reason := why_not(path):
            skipped.append(Skipped(path, reason))
        else:
            yield path


def _in_folder(folder: Path, skipped: list[Skipped]) -> list[FootageFile]:
    """Files under a folder argument; immediate subfolders are labels when at least two of them hold
    footage.
    """
    found = list(_walk(folder, skipped))
    first_parts = [path.relative_to(folder).parts for path in found]
    subfolders = {parts[0] for parts in first_parts if len(parts) > 1}
    if len(subfolders) < 2:
        return [FootageFile(path) for path in found]
    return [
        FootageFile(path, parts[0] if len(parts) > 1 else None)
        for path, parts in zip(found, first_parts, strict=True)
    ]


def find_footage(paths: Sequence[Path | str]) -> tuple[list[FootageFile], list[Skipped]]:
    """Footage among files and folders, in the order given and by name within a folder, each file once.

    Kind and first bytes decide here, cheaply enough for ten thousand files; what a decoder alone can tell
    (sound only, damage) comes out when the file is probed. Names that begin with a dot are passed over.
    """
    files: list[FootageFile] = []
    skipped: list[Skipped] = []
    for given in paths:
        path = Path(given)
        if path.is_dir():
            files += _in_folder(path, skipped)
        elif not os.path.lexists(path):
            raise no_such(path)
        elif reason := why_not(path):
            skipped.append(Skipped(path, reason))
        else:
            files.append(FootageFile(path))
    once: dict[str, FootageFile] = {}
    for file in files:
        once.setdefault(os.path.realpath(file.path), file)
    return list(once.values()), skipped


def local_probe(path: Path | str) -> Probe:
    """`guard.probe` in this process: open a file, decode one frame and describe it."""
    with open_container(path) as container:
        stream = video_stream(container, path)
        frame = next(raw_frames(container, stream), None)
        if frame is None:
            raise nothing_decoded(path)
        aspect = stream.sample_aspect_ratio or Fraction(1)
        width, height = square_size(frame.width, frame.height, aspect)
        if orientation_of(frame).transpose:
            width, height = height, width
        components = frame.format.components
        return Probe(
            width=width,
            height=height,
            fps=declared_fps(stream),
            duration_seconds=declared_seconds(container, stream),
            rotation_degrees=round(frame.rotation / 90) % 4 * 90,
            sample_aspect_ratio=aspect,
            interlaced=frame.interlaced_frame,
            bit_depth=max((component.bits for component in components), default=8),
            codec=stream.codec_context.name,
            container=container.format.name,
            has_audio=bool(container.streams.audio),
            is_picture=container.format.name in PICTURE_DEMUXERS,
            has_alpha=any(component.is_alpha for component in components),
            is_hdr=int(frame.color_trc) in (16, 18),
        )

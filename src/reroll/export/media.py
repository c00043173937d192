"""Frames out: the files everybody watches.

In: uint8 RGB frames `T H W 3` (the edge format of the whole project) and a frame rate. Out: an H.264 mp4 that
plays in browsers, phones and notebooks (yuv420p, faststart, BT.709 limited range both converted and tagged,
exact frame count and rate), or a PNG contact sheet. Frames are encoded as they come, so memory does not grow
with the length. Every file appears whole or not at all: it is written beside its place and renamed.

The matrix and range are those of Rec. ITU-R BT.709-6, section 3; the tags are the H.264 VUI code points of
ITU-T H.273. Untagged or BT.601-converted files are what makes videos look washed out after an editor.
"""

from __future__ import annotations

import base64
import errno
import html
import json
import os
import secrets
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from reroll.errors import RerollError, SpaceError, UsageError

BT709 = 1  # the code point of BT.709 primaries, transfer and matrix alike (H.273, tables 2 to 4)
CRF = 16  # visually lossless for x264; small frames need it more than large ones
NTSC_TOLERANCE = 0.005  # 23.976, 23.98 and 29.97 are spellings of 24000/1001 and 30000/1001
HTML_WIDTH = 512  # 64-pixel clips are shown this wide in a notebook


def exact_rate(fps: float | Fraction) -> Fraction:
    """The rational frame rate that `fps` means: 23.976 is 24000/1001, 12.5 is 25/2.

    Raises UsageError unless 0.01 <= fps <= 1000.
    """
    if not isinstance(fps, Fraction) and not np.isfinite(fps):
        raise UsageError(f"a frame rate of {fps} cannot be written: give frames per second, such as 24")
    if not 0.01 <= fps <= 1000:
        raise UsageError(f"a frame rate of {float(fps):g} cannot be written: give 0.01 to 1000 per second")
    if isinstance(fps, Fraction):
        return fps
    for whole in (24, 30, 48, 60, 120):
        ntsc = Fraction(whole * 1000, 1001)
        if abs(fps - ntsc) < NTSC_TOLERANCE and fps != whole:
            return ntsc
    return Fraction(fps).limit_denominator(1001)


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """A sibling of `path` to write to: replaces `path` when the block ends, and is gone if the block fails.

    Missing parent folders are made. A full disk becomes a SpaceError that names `path`, a place that cannot be
    written to a UsageError.
    """
    path = Path(path)
    if path.is_dir():
        raise UsageError(f"{path} is a folder; give the name of a file in it")
    temporary = path.with_name(f".{secrets.token_hex(6)}{path.suffix}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
    except OSError as error:
        cause = "a file is in the way" if path.parent.is_file() else (error.strerror or str(error)).lower()
        raise UsageError(f"{path} cannot be written: {cause}; choose another place") from None
    try:
        yield temporary
        with open(temporary, "rb+") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise SpaceError(f"{path}: the disk is full; free some space or write elsewhere") from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _checked_frames(frames: NDArray[np.uint8], what: str) -> NDArray[np.uint8]:
    """`frames` itself if it is uint8 `T H W 3`; a UsageError that names `what` if not."""
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
        raise UsageError(f"{what}: frames must be uint8 T H W 3, not {frames.dtype} {tuple(frames.shape)}")
    return frames


class VideoWriter:
    """Writes an H.264 mp4 in constant memory; use as a context manager, `write` frames `T H W 3` or `H W 3`.

    The file appears under `path` when the block ends without an error and never otherwise. `metadata` (what
    is needed to make the clip again) is stored as JSON in the file's `comment` tag; see `read_record`.
    """

    def __init__(
        self,
        path: Path | str,
        fps: float | Fraction,
        height: int,
        width: int,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = Path(path)
        self.rate = exact_rate(fps)
        if height < 2 or width < 2 or height % 2 or width % 2:
            raise UsageError(f"{self.path}: H.264 needs an even height and width, not {height}×{width}")
        self.height, self.width = height, width
        self.frame_count = 0
        self._comment = json.dumps(dict(metadata), default=str) if metadata else ""
        self._reformatter = VideoReformatter()

    def __enter__(self) -> VideoWriter:
        with ExitStack() as resources:
            temporary = resources.enter_context(atomic_path(self.path))
            self._container = resources.enter_context(
                av.open(str(temporary), "w", format="mp4", options={"movflags": "+faststart"})
            )
            if self._comment:
                self._container.metadata["comment"] = self._comment
            self._stream = self._open_stream()
            self._resources = resources.pop_all()
        return self

    def _open_stream(self) -> VideoStream:
        options = {
            "crf": str(CRF),
            "mbtree": "0",
        }  # x264's mbtree made different files of the same small frames
        stream = self._container.add_stream("libx264", rate=self.rate, options=options)
        stream.width, stream.height, stream.pix_fmt = self.width, self.height, "yuv420p"
        context = stream.codec_context
        context.time_base = 1 / self.rate
        context.color_primaries = context.color_trc = context.colorspace = BT709
        context.color_range = ColorRange.MPEG
        return stream

    def write(self, frames: NDArray[np.uint8]) -> None:
        """Append uint8 RGB frames `T H W 3` (or one, `H W 3`)."""
        if frames.ndim == 3:
            frames = frames[None]
        _checked_frames(frames, str(self.path))
        if frames.shape[1:3] != (self.height, self.width):
            given = f"{frames.shape[1]}×{frames.shape[2]}"
            raise UsageError(f"{self.path}: opened for {self.height}×{self.width}, given {given}")
        for image in frames:
            self._container.mux(self._stream.encode(self._to_yuv(image)))
            self.frame_count += 1

    def _to_yuv(self, image: NDArray[np.uint8]) -> av.VideoFrame:
        """One RGB image as a BT.709 limited-range yuv420p frame with its timestamp."""
        rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame = self._reformatter.reformat(
            rgb,
            format="yuv420p",
            src_color_range=ColorRange.JPEG,
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP,
            threads=1,
        )
        frame.pts, frame.time_base = self.frame_count, 1 / self.rate
        return frame

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._finish()
        except BaseException:
            self._resources.__exit__(*sys.exc_info())
            raise
        self._resources.__exit__(kind, error, trace)

    def _finish(self) -> None:
        if not self.frame_count:
            raise RerollError(f"{self.path}: no frames were given, so there is no video to write")
        self._container.mux(self._stream.encode())


def write_video(
    path: Path | str,
    frames: NDArray[np.uint8],
    fps: float | Fraction,
    metadata: Mapping[str, Any] | None = None,
) -> Path:
    """Write uint8 RGB frames `T H W 3` as an H.264 mp4 and return its path."""
    _checked_frames(frames, str(path))
    with VideoWriter(path, fps, frames.shape[1], frames.shape[2], metadata) as writer:
        writer.write(frames)
    return Path(path)


def read_record(path: Path | str) -> dict[str, Any]:
    """The record stored in a video written by reroll; empty if there is none."""
    with av.open(str(path)) as container:
        comment = container.metadata.get("comment", "")
    try:
        record = json.loads(comment)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def write_grid(
    path: Path | str, clips: NDArray[np.uint8] | Sequence[NDArray[np.uint8]], columns: int
) -> Path:
    """Write a PNG contact sheet of `N T H W 3`: one row a clip, `columns` frames evenly spaced in time."""
    rows = []
    for clip in clips:
        _checked_frames(clip, str(path))
        chosen = np.linspace(0, len(clip) - 1, columns).round().astype(int)
        rows.append(np.concatenate(list(clip[chosen]), axis=1))
    if not rows:
        raise RerollError(f"{path}: no clips were given, so there is no contact sheet to write")
    encoded = cv2.imencode(".png", np.concatenate(rows, axis=0)[..., ::-1])[1]
    with atomic_path(path) as temporary:
        temporary.write_bytes(encoded.tobytes())
    return Path(path)


def video_bytes(
    frames: NDArray[np.uint8], fps: float | Fraction, metadata: Mapping[str, Any] | None = None
) -> bytes:
    """The bytes of the mp4 that `write_video` would write for frames `T H W 3`."""
    with tempfile.TemporaryDirectory() as folder:
        return write_video(Path(folder) / "clip.mp4", frames, fps, metadata).read_bytes()


def video_data_uri(frames: NDArray[np.uint8], fps: float | Fraction) -> str:
    """An mp4 of frames `T H W 3` as a `data:` address for the `src` of a `<video>`."""
    return "data:video/mp4;base64," + base64.b64encode(video_bytes(frames, fps)).decode("ascii")


@dataclass(frozen=True, eq=False)
class Clip:
    """A piece of video: `frames` uint8 RGB `T H W 3`, `fps`, and the `record` it can be made again from.

    In a notebook it plays by itself, looped and muted.
    """

    frames: NDArray[np.uint8]
    fps: float
    record: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _checked_frames(self.frames, "Clip")

    @property
    def seconds(self) -> float:
        """Duration: the number of frames over the frame rate."""
        return len(self.frames) / float(exact_rate(self.fps))

    def save(self, path: Path | str) -> Path:
        """Write an H.264 mp4 that carries the record, and return its path."""
        return write_video(path, self.frames, self.fps, self.record)

    def __repr__(self) -> str:
        frames, height, width = self.frames.shape[:3]
        return f"Clip({frames} frames, {width}×{height}, {self.fps:g} fps, {self.seconds:.2f} s)"

    def _repr_html_(self) -> str:
        pixelated = "image-rendering:pixelated;" if self.frames.shape[2] < HTML_WIDTH else ""
        return (
            f'<video controls loop autoplay muted playsinline title="{html.escape(repr(self))}" '
            f'style="width:{max(HTML_WIDTH, self.frames.shape[2])}px;max-width:100%;{pixelated}" '
            f'src="{video_data_uri(self.frames, self.fps)}"></video>'
        )

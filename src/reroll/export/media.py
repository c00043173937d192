"""Frames out: the files everybody watches.

In: uint8 RGB frames `T H W 3` (the edge format of the whole project) and a frame rate. Out: a video (H.264 in mp4,
which plays in browsers, phones and notebooks; VP9 in WebM; ProRes 4444 in QuickTime; BT.709 limited range both
converted and tagged, exact frame count and rate), or a PNG contact sheet. Frames are encoded as they come, so memory
does not grow with the length. Every file appears whole or not at all: it is written beside its place and renamed.

The matrix and range are those of Rec. ITU-R BT.709-6, section 3; the tags are the code points of ITU-T H.273.
Untagged or BT.601-converted files are what makes videos look washed out after an editor.
"""

from __future__ import annotations

import base64
import errno
import json
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import cv2
import numpy as np
from av.audio.stream import AudioStream
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from reroll.errors import NO_SPACE, RerollError, SpaceError, UsageError

BT709 = 1  # the code point of BT.709 primaries, transfer and matrix alike (H.273, tables 2 to 4)
NTSC_TOLERANCE = 0.005  # 23.976, 23.98 and 29.97 are spellings of 24000/1001 and 30000/1001


@dataclass(frozen=True)
class Codec:
    """How a video is written: FFmpeg's names of container, encoder, pixel format and the encoder of its sound, and the
    options of encoder and container."""

    container: str
    encoder: str
    pixels: str
    sound: str
    options: Mapping[str, str]
    container_options: Mapping[str, str]


FASTSTART = {"movflags": "+faststart"}
# Visually lossless: small frames need it more than large ones. x264's mbtree made different files of the same small
# frames.
H264 = Codec("mp4", "libx264", "yuv420p", "aac", {"crf": "16", "mbtree": "0"}, FASTSTART)
VP9 = Codec(
    "webm", "libvpx-vp9", "yuv420p", "libopus",
    {"crf": "18", "b": "0", "deadline": "good", "cpu-used": "2"}, {"fflags": "+bitexact"},
)  # fmt: skip
PRORES = Codec(
    "mov", "prores_ks", "yuv444p10le", "pcm_s16le", {"profile": "4444", "vendor": "apl0"}, FASTSTART
)
SOUND_RATE = 48_000
Sound = Iterator[NDArray[np.float32]]
"""Stereo samples `2 N` in [-1, 1] in pieces, `SOUND_RATE` a second, from the first frame on."""


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
def _full_disk_said(path: Path) -> Iterator[None]:
    """A full disk becomes a SpaceError that names `path`."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_SPACE:
            cause = (
                "the disk is full" if error.errno == errno.ENOSPC else (error.strerror or str(error)).lower()
            )
            raise SpaceError(f"{path}: {cause}; free some space or write elsewhere") from error
        raise


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
        with _full_disk_said(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.touch()
    except OSError as error:
        cause = "a file is in the way" if path.parent.is_file() else (error.strerror or str(error)).lower()
        raise UsageError(f"{path} cannot be written: {cause}; choose another place") from None
    try:
        with _full_disk_said(path):
            yield temporary
            with open(temporary, "rb+") as written:
                os.fsync(written.fileno())
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path | str) -> Iterator[Path]:
    """A sibling folder of `path` to fill: takes its place when the block ends, and is gone if the block fails.

    A folder that is there already is replaced if all in it are PNG frames; else UsageError.
    """
    path = Path(path)
    if path.exists() and not (path.is_dir() and all(each.suffix == ".png" for each in path.iterdir())):
        raise UsageError(f"{path} exists, and is not a folder of PNG frames; choose another name")
    temporary, old = (path.with_name(f".{secrets.token_hex(6)}.part") for _ in range(2))
    try:
        temporary.mkdir(parents=True)
    except OSError as error:
        cause = (error.strerror or str(error)).lower()
        raise UsageError(f"{path} cannot be written: {cause}; choose another place") from None
    try:
        with _full_disk_said(path):
            yield temporary
            if path.exists():
                os.replace(path, old)
            os.replace(temporary, path)
    finally:
        for each in (temporary, old):
            shutil.rmtree(each, ignore_errors=True)


def checked_frames(frames: NDArray[np.uint8], what: str) -> NDArray[np.uint8]:
    """`frames` itself if it is uint8 `T H W 3`; a UsageError that names `what` if not."""
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
        raise UsageError(f"{what}: frames must be uint8 T H W 3, not {frames.dtype} {tuple(frames.shape)}")
    return frames


class VideoWriter:
    """Writes a video in constant memory; use as a context manager, `write` frames `T H W 3` or `H W 3`.

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
        codec: Codec = H264,
        sound: Sound | None = None,
    ) -> None:
        self.path, self.codec = Path(path), codec
        self._sound, self._samples = sound, 0
        self.rate = exact_rate(fps)
        if height < 2 or width < 2 or height % 2 or width % 2:
            raise UsageError(f"{self.path}: a video needs an even height and width, not {height}×{width}")
        self.height, self.width = height, width
        self.frame_count = 0
        self._comment = json.dumps(dict(metadata), default=str) if metadata else ""
        self._reformatter = VideoReformatter()

    def __enter__(self) -> VideoWriter:
        with ExitStack() as resources:
            temporary = resources.enter_context(atomic_path(self.path))
            self._container = resources.enter_context(
                av.open(
                    str(temporary),
                    "w",
                    format=self.codec.container,
                    options=dict(self.codec.container_options),
                )
            )
            if self._comment:
                self._container.metadata["comment"] = self._comment
            self._stream = self._open_stream()
            if self._sound is not None:
                stream = self._container.add_stream(self.codec.sound, rate=SOUND_RATE, layout="stereo")
                assert isinstance(stream, AudioStream)
                self._sound_stream = stream
            self._resources = resources.pop_all()
        return self

    def _open_stream(self) -> VideoStream:
        stream = self._container.add_stream(
            self.codec.encoder, rate=self.rate, options=dict(self.codec.options)
        )
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = self.width, self.height, self.codec.pixels
        context = stream.codec_context
        context.time_base = 1 / self.rate
        context.color_primaries = context.color_trc = context.colorspace = BT709
        context.color_range = ColorRange.MPEG
        return stream

    def write(self, frames: NDArray[np.uint8]) -> None:
        """Append uint8 RGB frames `T H W 3` (or one, `H W 3`)."""
        if frames.ndim == 3:
            frames = frames[None]
        checked_frames(frames, str(self.path))
        if frames.shape[1:3] != (self.height, self.width):
            given = f"{frames.shape[1]}×{frames.shape[2]}"
            raise UsageError(f"{self.path}: opened for {self.height}×{self.width}, given {given}")
        for image in frames:
            self._container.mux(self._stream.encode(self._to_yuv(image)))
            self.frame_count += 1
            self._write_sound()

    def _write_sound(self) -> None:
        """Sound up to the end of the last frame."""
        until = int(self.frame_count * SOUND_RATE / self.rate)
        while self._sound is not None and self._samples < until:
            piece = next(self._sound, None)
            if piece is None:
                self._sound = None
                return
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(piece), format="fltp", layout="stereo")
            frame.sample_rate, frame.pts, frame.time_base = SOUND_RATE, self._samples, Fraction(1, SOUND_RATE)
            self._samples += piece.shape[1]
            self._container.mux(self._sound_stream.encode(frame))

    def _to_yuv(self, image: NDArray[np.uint8]) -> av.VideoFrame:
        """One RGB image as a BT.709 limited-range frame with its timestamp."""
        rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame = self._reformatter.reformat(
            rgb,
            format=self.codec.pixels,
            src_color_range=ColorRange.JPEG,
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP,
            threads=1,
        )
        frame.pts, frame.time_base = self.frame_count, 1 / self.rate
        frame.color_primaries = frame.color_trc = BT709  # ProRes takes its tags from the frames
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
        if self._samples:
            self._container.mux(self._sound_stream.encode())


def write_video(
    path: Path | str,
    frames: NDArray[np.uint8],
    fps: float | Fraction,
    metadata: Mapping[str, Any] | None = None,
) -> Path:
    """Write uint8 RGB frames `T H W 3` as an H.264 mp4 and return its path."""
    checked_frames(frames, str(path))
    with VideoWriter(path, fps, frames.shape[1], frames.shape[2], metadata) as writer:
        writer.write(frames)
    return Path(path)


def write_grid(
    path: Path | str, clips: NDArray[np.uint8] | Sequence[NDArray[np.uint8]], columns: int
) -> Path:
    """Write a PNG contact sheet of `N T H W 3`: one row a clip, `columns` frames evenly spaced in time."""
    rows = []
    for clip in clips:
        checked_frames(clip, str(path))
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

"""Decoding: a file in, upright RGB frames with square pixels and true timestamps out; in this process, which is the
decoding child's (`guard.py` is what others call).

PyAV applies nothing by itself, so this is where a display matrix, a sample aspect ratio, the colour matrix
and range, 10-bit samples, alpha and interlacing are honoured, and where missing, repeated or backward
timestamps are repaired. Frames are uint8 H W 3; timestamps are seconds, from 0, strictly increasing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import av.container
import av.filter
import av.video.frame
import av.video.stream
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from reroll.footage.container import (
    DEMUXERS,
    MOST_DAMAGED_PACKETS,
    declared_fps,
    declared_seconds,
    nothing_decoded,
    open_container,
    packets_of,
    video_stream,
)

PICTURE_DEMUXERS = frozenset(name for name in DEMUXERS.split(",") if name.endswith("_pipe")) - {
    "yuv4mpegpipe"
}
"""FFmpeg demuxers of single pictures."""

MOST_STRETCHED = 4
"""Sample aspect ratios beyond this, either way, are taken for damage and ignored."""


@dataclass(frozen=True)
class DecodedFrame:
    """One upright frame: `image` uint8 H W 3 RGB with square pixels, `timestamp` in seconds from the
    first.
    """

    image: np.ndarray
    timestamp: float


class Orientation(NamedTuple):
    """How a stored picture becomes upright: swap rows and columns, then mirror in x, then in y."""

    transpose: bool = False
    mirror_x: bool = False
    mirror_y: bool = False


def orientation_of(frame: av.video.frame.VideoFrame) -> Orientation:
    """What the display matrix asks for (quarter turns and mirrors; anything between is rounded to them)."""
    try:
        data: Any = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV does not know every kind of side data, a photograph's EXIF for one
        quarters = round(frame.rotation / 90) % 4
        return Orientation(quarters % 2 == 1, quarters in (2, 3), quarters in (1, 2))
    if data is None or data.buffer_size < 36:
        return Orientation()
    a, b, _, c, d = np.frombuffer(data, np.int32)[:5].tolist()  # x' = a x + c y, y' = b x + d y
    if a == b == c == d == 0:
        return Orientation()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(False, a < 0, d < 0)
    return Orientation(True, c < 0, b < 0)


def square_size(width: int, height: int, aspect: Fraction) -> tuple[int, int]:
    """Width and height with square pixels: the smaller direction is stretched, nothing is lost."""
    if not 1 / MOST_STRETCHED <= aspect <= MOST_STRETCHED:
        return width, height
    if aspect >= 1:
        return max(1, round(width * aspect)), height
    return width, max(1, round(height / aspect))


def raw_frames(
    container: av.container.InputContainer,
    stream: av.video.stream.VideoStream,
    damage: Damage | None = None,
) -> Iterator[av.video.frame.VideoFrame]:
    """Every frame that can be decoded, stepping over damaged packets and counting them in `damage`."""
    damage = damage if damage is not None else Damage()
    in_a_row = 0
    packets = packets_of(container, stream)
    while in_a_row < MOST_DAMAGED_PACKETS:
        try:
            packet = next(packets, None)
        except (av.FFmpegError, OSError, ValueError):
            damage.packets += 1
            yield from _flush(stream)
            return
        if packet is None:
            return
        try:
            frames = packet.decode()
        except (av.FFmpegError, OSError, ValueError):
            damage.packets += 1
            in_a_row += 1
            continue
        in_a_row = 0 if frames else in_a_row
        for frame in frames:
            if frame.is_corrupt:
                damage.packets += 1
            else:
                yield frame


def _flush(stream: av.video.stream.VideoStream) -> list[av.video.frame.VideoFrame]:
    """Frames the decoder still holds when the file breaks off."""
    try:
        return [frame for frame in stream.codec_context.decode(None) if not frame.is_corrupt]
    except (av.FFmpegError, OSError, ValueError):
        return []


@dataclass
class Damage:
    """How many packets or frames could not be decoded."""

    packets: int = 0


class Deinterlacer:
    """Passes progressive frames through; from the first interlaced one on, bwdif makes whole frames of
    fields.
    """

    def __init__(self, stream: av.video.stream.VideoStream) -> None:
        self._stream = stream
        self._graph: av.filter.Graph | None = None
        self._shape: tuple[int, int, str] | None = None

    def push(self, frame: av.video.frame.VideoFrame) -> Iterator[av.video.frame.VideoFrame]:
        """Feed one frame; yields the frames that are ready."""
        shape = (frame.width, frame.height, frame.format.name)
        if self._graph is not None and shape != self._shape:
            yield from self.flush()
        if self._graph is None:
            if not frame.interlaced_frame or min(frame.width, frame.height) < 8:
                yield frame
                return
            self._graph, self._shape = self._build(frame), shape
        self._graph.vpush(frame)
        yield from self._pull()

    def flush(self) -> Iterator[av.video.frame.VideoFrame]:
        """The frames still inside; the filter ends."""
        if self._graph is not None:
            self._graph.vpush(None)
            yield from self._pull()
            self._graph = None

    def _build(self, frame: av.video.frame.VideoFrame) -> av.filter.Graph:
        graph = av.filter.Graph()
        source = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
        )
        graph.link_nodes(
            source, graph.add("bwdif", "mode=send_frame:deint=interlaced"), graph.add("buffersink")
        ).configure()
        return graph

    def _pull(self) -> Iterator[av.video.frame.VideoFrame]:
        assert self._graph is not None
        while True:
            try:
                yield self._graph.vpull()
            except (av.BlockingIOError, av.EOFError):
                return


class Clock:
    """Timestamps in seconds from 0, strictly increasing, from whatever the file gives.

    Missing ones follow the declared rate. One that repeats or steps back a little is set half a frame after
    the last; one that jumps back (a joined recording, a wrapped counter) starts a new origin one frame on.
    """

    def __init__(self, fps: float | None) -> None:
        self._gap = 1 / (fps or 25.0)
        self._origin: float | None = None
        self._last = 0.0

    def stamp(self, frame: av.video.frame.VideoFrame) -> float:
        """The repaired time of the next frame."""
        raw = float(frame.pts * frame.time_base) if frame.pts is not None and frame.time_base else None
        if self._origin is None:
            self._origin = raw if raw is not None else 0.0
            return 0.0
        now = raw - self._origin if raw is not None else self._last + self._gap
        if now <= self._last - 1.0:
            assert raw is not None
            now = self._last + self._gap
            self._origin = raw - now
        elif now <= self._last:
            now = self._last + self._gap / 2
        self._last = now
        return now


def _matrix(frame: av.video.frame.VideoFrame) -> int:
    """The YUV matrix; where the file does not say, BT.709 from 720 lines on and BT.601 below, as players
    do.
    """
    named = {1: Colorspace.ITU709, 4: Colorspace.FCC, 5: Colorspace.ITU601, 6: Colorspace.SMPTE170M}
    named |= {7: Colorspace.SMPTE240M, 9: Colorspace.BT2020, 10: Colorspace.BT2020}
    default = Colorspace.ITU709 if min(frame.width, frame.height) >= 720 else Colorspace.ITU601
    return int(named.get(int(frame.colorspace), default))


def to_rgb(frame: av.video.frame.VideoFrame) -> np.ndarray:
    """uint8 H W 3 of a frame as stored (not yet turned); transparent parts over black."""
    layout = frame.format
    has_alpha = layout.has_palette or any(component.is_alpha for component in layout.components)
    target = "rgba" if has_alpha else "rgb24"
    if layout.is_rgb or layout.has_palette:
        image = frame.reformat(format=target).to_ndarray()
    else:
        full = (
            layout.name.startswith("yuvj")
            or int(frame.color_range) == ColorRange.JPEG
            or layout.name == "gray"
        )
        image = frame.reformat(
            format=target,
            src_colorspace=_matrix(frame),
            src_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
            dst_color_range=ColorRange.JPEG,
        ).to_ndarray()
    if has_alpha:
        alpha = image[..., 3:].astype(np.uint16)
        image = ((image[..., :3] * alpha + 127) // 255).astype(np.uint8)
    return image


def upright(image: np.ndarray, orientation: Orientation, aspect: Fraction) -> np.ndarray:
    """Square the pixels of a stored image, then turn and mirror it."""
    height, width = image.shape[:2]
    square = square_size(width, height, aspect)
    if square != (width, height):
        image = cv2.resize(image, square, interpolation=cv2.INTER_LINEAR)
    if orientation.transpose:
        image = image.transpose(1, 0, 2)
    if orientation.mirror_x:
        image = image[:, ::-1]
    if orientation.mirror_y:
        image = image[::-1]
    return np.ascontiguousarray(image)


class LocalDecoder:
    """`guard.Decoder` in this process: iterate over a file's `DecodedFrame`s once."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.damage = Damage()
        self._container = open_container(path)
        try:
            self._stream = video_stream(self._container, path)
        except BaseException:
            self._container.close()
            raise
        self.fps = declared_fps(self._stream)
        self.declared_seconds = declared_seconds(self._container, self._stream)

    def __enter__(self) -> LocalDecoder:
        return self

    def __exit__(self, *exc: object) -> None:
        self._container.close()

    def seek(self, seconds: float) -> bool:
        """Go on from a key frame at or before `seconds`; False where the file cannot be searched. Times
        begin at 0 again, at the first frame that follows.
        """
        try:
            offset = (self._stream.start_time or 0) + round(seconds / float(self._stream.time_base or 1))
            self._container.seek(offset, stream=self._stream)
        except (av.FFmpegError, OSError, ValueError, OverflowError):
            return False
        return True

    def _whole_frames(self) -> Iterator[av.video.frame.VideoFrame]:
        deinterlacer = Deinterlacer(self._stream)
        for frame in raw_frames(self._container, self._stream, self.damage):
            yield from deinterlacer.push(frame)
        yield from deinterlacer.flush()

    def __iter__(self) -> Iterator[DecodedFrame]:
        clock = Clock(self.fps)
        orientation: Orientation | None = None
        count = 0
        for frame in self._whole_frames():
            if orientation is None:
                orientation = orientation_of(frame)
            aspect = self._stream.sample_aspect_ratio or Fraction(1)
            image = upright(to_rgb(frame), orientation, aspect)
            yield DecodedFrame(image, clock.stamp(frame))
            count += 1
        if not count:
            raise nothing_decoded(self.path)


def crop_to_aspect(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """The largest centred part of `image` with the aspect of `height` x `width`; at most a pixel is left
    uncropped.
    """
    have_height, have_width = image.shape[:2]
    keep_width = min(have_width, max(1, round(have_height * width / height)))
    keep_height = min(have_height, max(1, round(have_width * height / width)))
    top, left = (have_height - keep_height) // 2, (have_width - keep_width) // 2
    return image[top : top + keep_height, left : left + keep_width]


def halve(image: np.ndarray, at_least: int) -> np.ndarray:
    """`image` averaged 2x2 as often as its short side stays `at_least`: area averaging, several times as
    fast.
    """
    while min(image.shape[:2]) >= 2 * at_least:
        height, width = image.shape[0] // 2, image.shape[1] // 2
        image = cv2.resize(image[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)
    return image


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """`image` (H W 3 uint8) at another size, centre-cropped to its aspect first; area-averaged when
    shrinking.
    """
    image = crop_to_aspect(image, height, width)
    if image.shape[:2] == (height, width):
        return image.copy()
    shrinks = height <= image.shape[0] and width <= image.shape[1]
    if shrinks:
        image = halve(np.ascontiguousarray(image), 2 * min(height, width))
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return cv2.resize(np.ascontiguousarray(image), (width, height), interpolation=method)

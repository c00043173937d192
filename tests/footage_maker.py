"""Small clips made with PyAV for tests: each function writes one file and returns its path.

Frames are uint8 T H W 3. `moving_square` is the picture most clips show: a coloured square that travels over
a soft background, with the four corners of the frame marked red, green, blue and white (top left, top right,
bottom left, bottom right), so that a turned or mirrored frame is seen at once. `write_clip` writes any frames
with the options that footage in the wild has: rotation, sample aspect ratio, own timestamps, pixel format,
interlacing, colour tags.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

RED, GREEN, BLUE, WHITE = (220, 30, 30), (30, 200, 30), (30, 30, 220), (235, 235, 235)
CORNERS = {"top left": RED, "top right": GREEN, "bottom left": BLUE, "bottom right": WHITE}


def background(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A soft random picture, H W 3 uint8, another one for every seed."""
    coarse = np.random.default_rng(seed).integers(40, 200, (4, 5, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def mark_corners(image: np.ndarray) -> np.ndarray:
    """Paint the corners of H W 3 in `CORNERS`' colours, in place; each mark is a quarter of the frame's
    side.
    """
    height, width = image.shape[0] // 4, image.shape[1] // 4
    image[:height, :width], image[:height, -width:] = RED, GREEN
    image[-height:, :width], image[-height:, -width:] = BLUE, WHITE
    return image


def moving_square(
    frames: int = 24,
    height: int = 48,
    width: int = 64,
    *,
    step: float = 2.0,
    seed: int = 0,
    corners: bool = False,
) -> np.ndarray:
    """T H W 3 uint8: a yellow square travels `step` pixels a frame to the right over `background(seed)`,
    and wraps.
    """
    clip = np.repeat(background(height, width, seed)[None], frames, axis=0)
    side = max(2, height // 4)
    for number, image in enumerate(clip):
        if corners:
            mark_corners(image)
        columns = (np.arange(side) + round(number * step)) % width
        image[height // 2 - side // 2 : height // 2 - side // 2 + side, columns] = (230, 220, 40)
    return clip


def shaking(frames: int = 24, height: int = 48, width: int = 64, *, seed: int = 0) -> np.ndarray:
    """T H W 3 uint8: a square swings to and fro, so that there is motion and no dominant direction."""
    clip = np.repeat(background(height, width, seed)[None], frames, axis=0)
    side = height // 3
    for number, image in enumerate(clip):
        left = round((width - side) * (0.5 + 0.45 * np.sin(number * 0.5)))
        image[height // 2 - side // 2 : height // 2 - side // 2 + side, left : left + side] = (230, 220, 40)
    return clip


def panning(
    frames: int = 30, height: int = 48, width: int = 64, *, step: int = 2, seed: int = 0
) -> np.ndarray:
    """T H W 3 uint8: a camera that pans over a textured wide picture; the picture moves `step` pixels a
    frame to the left.
    """
    coarse = np.random.default_rng(seed).integers(20, 235, (8, 8 + frames, 3), dtype=np.uint8)
    wide = cv2.resize(coarse, (width + step * frames, height), interpolation=cv2.INTER_CUBIC)
    return np.stack([wide[:, step * n : step * n + width] for n in range(frames)])


def with_cuts(lengths: Sequence[int] = (20, 16, 18), height: int = 48, width: int = 64) -> np.ndarray:
    """T H W 3 uint8: shots of the given lengths, each over another background."""
    return np.concatenate(
        [moving_square(length, height, width, seed=10 + number) for number, length in enumerate(lengths)]
    )


def with_still(
    before: int = 20, still: int = 30, after: int = 20, height: int = 48, width: int = 64
) -> np.ndarray:
    """T H W 3 uint8: motion, then `still` equal frames, then motion that goes on from there."""
    clip = moving_square(before + after, height, width)
    return np.concatenate([clip[:before], np.repeat(clip[before - 1 : before], still, axis=0), clip[before:]])


def write_clip(
    path: Path,
    frames: np.ndarray,
    *,
    fps: Fraction | int = 25,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    rotation_degrees: int = 0,
    sample_aspect_ratio: Fraction | None = None,
    times: Sequence[float] | None = None,
    interlaced: bool = False,
    full_range: bool = False,
    colorspace: int | None = None,
    audio_seconds: float = 0.0,
    container_format: str | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Write T H W 3 uint8 (or T H W 4 for formats with alpha) frames.

    `times` are seconds for each frame (variable rate), `rotation_degrees` goes into the display matrix,
    `colorspace` is FFmpeg's number of the YUV matrix (1: BT.709, 5: BT.601), `options` go to the encoder.
    """
    rate = Fraction(fps)
    with av.open(str(path), "w", format=container_format) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], pix_fmt
        # a time base fine enough for any `times`
        stream.codec_context.time_base = Fraction(1, 90000) if times is not None else 1 / rate
        quality = {"crf": "8", "preset": "ultrafast"} if codec == "libx264" else {}
        stream.options = {**quality, **({"flags": "+ildct+ilme"} if interlaced else {}), **(options or {})}
        if sample_aspect_ratio is not None:
            stream.codec_context.sample_aspect_ratio = sample_aspect_ratio
        if colorspace is not None:
            stream.codec_context.colorspace = colorspace
        if full_range:
            stream.codec_context.color_range = 2
        if rotation_degrees:
            stream.set_display_rotation(rotation_degrees)
        if audio_seconds:
            add_tone(container, audio_seconds)
        for number, image in enumerate(frames):
            frame = _as_frame(image, pix_fmt, full_range, colorspace)
            frame.time_base = stream.codec_context.time_base
            frame.pts = number if times is None else round(times[number] * 90000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def _as_frame(
    image: np.ndarray, pix_fmt: str, full_range: bool = False, colorspace: int | None = None
) -> av.VideoFrame:
    """An array as a frame in `pix_fmt`, with the matrix and range asked for."""
    frame = av.VideoFrame.from_ndarray(
        np.ascontiguousarray(image), "rgba" if image.shape[-1] == 4 else "rgb24"
    )
    if pix_fmt in ("rgb24", "rgba", "rgb8", "bgra"):
        return frame.reformat(format=pix_fmt)
    return frame.reformat(
        format=pix_fmt,
        dst_colorspace=colorspace or 5,
        src_color_range=2,
        dst_color_range=2 if full_range else 1,
    )


def add_tone(container: av.container.OutputContainer, seconds: float) -> None:
    """Write a sound track: a tone of so many seconds."""
    stream = container.add_stream("aac", rate=16000)
    stream.layout = "mono"
    wave = (0.1 * np.sin(np.arange(int(16000 * seconds)) * 0.1)).astype(np.float32)
    for start in range(0, len(wave) - 1023, 1024):
        frame = av.AudioFrame.from_ndarray(wave[None, start : start + 1024], format="fltp", layout="mono")
        frame.sample_rate = 16000
        frame.pts = start
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def write_audio_only(path: Path, seconds: float = 0.5) -> Path:
    """A file that holds sound and no picture."""
    with av.open(str(path), "w") as container:
        add_tone(container, seconds)
    return path


def interlace(frames: np.ndarray) -> np.ndarray:
    """Weave 2n frames into n interlaced ones: even lines from the earlier frame, odd lines from the later."""
    woven = frames[0::2].copy()
    woven[:, 1::2] = frames[1::2, 1::2]
    return woven


def write_picture(path: Path, image: np.ndarray, codec: str = "png", pix_fmt: str = "rgb24") -> Path:
    """Write one picture, H W 3 (or H W 4) uint8."""
    with av.open(str(path), "w", format="image2pipe") as container:
        stream = container.add_stream(codec, rate=1)
        stream.width, stream.height, stream.pix_fmt = image.shape[1], image.shape[0], pix_fmt
        container.mux(stream.encode(_as_frame(image, pix_fmt, full_range=True)))
        container.mux(stream.encode(None))
    return path


def turn_by_exif(path: Path, orientation: int) -> Path:
    """Give a JPEG the EXIF orientation a camera held sideways writes (6: a quarter turn clockwise makes it upright)."""
    tag = struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0)
    exif = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", 1) + tag + struct.pack(">I", 0)
    content = path.read_bytes()
    path.write_bytes(content[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + content[2:])
    return path

"""Pictures that move, for pages and chats: GIF, APNG and animated WebP.

In: uint8 RGB frames `T H W 3` and a frame rate. Out: one file that plays round and round, with every frame and the
comment that was given. The palette of a GIF is made for all frames at once and dithered in a fixed pattern, so that
what stands still does not flicker.
"""

import struct
import zlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.filter import Graph
from av.filter.context import FilterContext
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image

IMAGE_DESCRIPTION = 0x010E  # the Exif tag
PNG_HEADER_BYTES = 33  # signature and IHDR
Frames = NDArray[np.uint8]


def ticks(count: int, rate: Fraction, per_second: int) -> list[int]:
    """When each of so many frames begins and the last ends, in whole ticks: `count + 1` of them."""
    return [round(number * per_second / rate) for number in range(count + 1)]


def write_gif(path: Path, frames: Frames, rate: Fraction, comment: str, _: Path) -> None:
    """A GIF of frames `T H W 3`, times in hundredths of a second."""
    starts = ticks(len(frames), rate, 100)
    last = {"final_delay": str(starts[-1] - starts[-2])}
    with av.open(str(path), "w", format="gif", options=last) as container:
        stream = container.add_stream("gif", rate=rate)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, stream.codec_context.time_base = "pal8", Fraction(1, 100)
        for image, start, stop in zip(_paletted(frames), starts[:-1], starts[1:], strict=True):
            image.pts, image.time_base, image.duration = start, Fraction(1, 100), stop - start
            container.mux(stream.encode(image))
        container.mux(stream.encode())
    if comment:
        head = path.read_bytes()[:13]  # signature, screen, and whether and how large a palette follows
        palette = 3 << (head[10] & 7) + 1 if head[10] & 0x80 else 0
        _insert(path, 13 + palette, _gif_comment(comment.encode("ascii")))


def _paletted(frames: Frames) -> Iterator[av.VideoFrame]:
    """The frames with one palette of their own (FFmpeg's palettegen and paletteuse)."""
    height, width = frames.shape[1:3]
    graph = Graph()
    graph.link_nodes(
        _source(graph, width, height, "rgb24"),
        graph.add("palettegen", "stats_mode=full:reserve_transparent=0"),
        graph.add("buffersink"),
    ).configure()
    for image in _images(frames):
        graph.push(image)
    graph.push(None)
    palette = graph.pull()

    graph = Graph()
    video, colours = _source(graph, width, height, "rgb24"), _source(graph, 16, 16, "rgb32")
    apply, sink = graph.add("paletteuse", "dither=bayer:bayer_scale=4"), graph.add("buffersink")
    video.link_to(apply, 0, 0)
    colours.link_to(apply, 0, 1)
    apply.link_to(sink, 0, 0)
    graph.configure()
    palette.pts = 0
    colours.push(palette)
    colours.push(None)
    for image in _images(frames):
        video.push(image)
        paletted = sink.pull()
        assert isinstance(paletted, av.VideoFrame)
        yield paletted


def _source(graph: Graph, width: int, height: int, pixels: str) -> FilterContext:
    """Where frames are pushed into a graph."""
    return graph.add_buffer(
        width=width, height=height, format=av.VideoFormat(pixels, width, height), time_base=Fraction(1, 100)
    )


def write_apng(path: Path, frames: Frames, rate: Fraction, comment: str, _: Path) -> None:
    """An animated PNG of frames `T H W 3`."""
    with av.open(str(path), "w", format="apng", options={"plays": "0"}) as container:
        stream = container.add_stream("apng", rate=rate, options={"pred": "mixed"})
        assert isinstance(stream, VideoStream)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, stream.codec_context.time_base = "rgb24", 1 / rate
        for number, image in enumerate(_images(frames)):
            image.pts, image.time_base, image.duration = number, 1 / rate, 1
            container.mux(stream.encode(image))
        container.mux(stream.encode())
    if comment:
        data = b"tEXt" + b"Comment\0" + comment.encode("ascii")
        chunk = struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))
        _insert(path, PNG_HEADER_BYTES, chunk)


def write_webp(path: Path, frames: Frames, rate: Fraction, comment: str, _: Path) -> None:
    """An animated WebP of frames `T H W 3`, times in milliseconds."""
    starts = ticks(len(frames), rate, 1000)
    exif = Image.Exif()
    if comment:
        exif[IMAGE_DESCRIPTION] = comment
    images = (Image.fromarray(np.ascontiguousarray(frame)) for frame in frames)
    next(images).save(
        path, "WEBP", save_all=True, append_images=images, loop=0, quality=92, method=4, exif=exif,
        duration=np.diff(starts).tolist(), minimize_size=False,
    )  # fmt: skip


def _images(frames: Frames) -> Iterator[av.VideoFrame]:
    """The frames as FFmpeg's, numbered."""
    for number, frame in enumerate(frames):
        image = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        image.pts, image.time_base = number, Fraction(1, 100)
        yield image


def _gif_comment(text: bytes) -> bytes:
    """A GIF comment extension: the text in blocks of at most 255 bytes."""
    blocks = [text[at : at + 255] for at in range(0, len(text), 255)]
    return b"!\xfe" + b"".join(bytes([len(block)]) + block for block in blocks) + b"\0"


def _insert(path: Path, at: int, piece: bytes) -> None:
    """Put a piece into a file, so many bytes after its beginning."""
    whole = path.read_bytes()
    path.write_bytes(whole[:at] + piece + whole[at:])

"""Opening a file safely: what it is by its first bytes, then by path with what it may touch limited.

In: a path. Out: an open PyAV container and the stream to decode. Only demuxers that read the one file they
are given are allowed, and only the `file` protocol, so that no playlist, `concat:` or address inside a file
reaches another file or a host; frames beyond `MOST_PIXELS` are refused from the header.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import av
import av.audio.stream
import av.container
import av.packet
import av.video.stream
from av.stream import Disposition

from reroll.errors import FootageError

Stream = TypeVar("Stream", av.video.stream.VideoStream, av.audio.stream.AudioStream)

MOST_PIXELS = 36_000_000
"""Largest frame that is decoded, in pixels: 8K passes (33 million), a decompression bomb does not."""

MOST_DAMAGED_PACKETS = 500
"""Undecodable packets in a row after which the rest of a file is given up."""

DEMUXERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,m4v,h263,h264,hevc,vvc,av1,obu,ivf,flv,live_flv,"
    "asf,asf_o,ogg,mxf,dv,gxf,nut,nuv,rm,wtv,amv,apng,gif,mjpeg,yuv4mpegpipe,y4m,cine,dirac,dnxhd,vc1,vc1test,"
    "dhav,cavsvideo,avs2,avs3,evc,apv,film_cpk,flic,smk,bink,roq,4xm,idcin,webp,jpegxl_anim,"
    "png_pipe,jpeg_pipe,jpegls_pipe,jpegxl_pipe,jpegxs_pipe,j2k_pipe,bmp_pipe,webp_pipe,tiff_pipe,gif_pipe,"
    "dpx_pipe,exr_pipe,hdr_pipe,qoi_pipe,pam_pipe,pbm_pipe,pgm_pipe,ppm_pipe,pfm_pipe,psd_pipe,sgi_pipe,"
    "sunrast_pipe,dds_pipe,pcx_pipe,xbm_pipe"
)
"""FFmpeg demuxers that read the one file they are given and nothing else."""

_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "png_pipe"),
    (0, b"\xff\xd8\xff", "jpeg_pipe"),
    (0, b"BM", "bmp_pipe"),
    (0, b"II*\x00", "tiff_pipe"),
    (0, b"MM\x00*", "tiff_pipe"),
    (0, b"qoif", "qoi_pipe"),
)
"""(offset, signature, demuxer) of pictures, whose demuxer is named so that `a%03d.png` is one plain name."""

_NOT_FOOTAGE: tuple[tuple[bytes, str], ...] = (
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive; unpack it"),
    (b"\x1f\x8b", "a gzip archive; unpack it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive; unpack it"),
    (b"Rar!", "a RAR archive; unpack it"),
    (b"#EXTM3U", "a playlist; give the video files themselves"),
    (b"ffconcat", "a playlist; give the video files themselves"),
    (b"v=0\r\n", "a stream description; give the video file itself"),
    (b"<MPD", "a playlist; give the video files themselves"),
    (b"\x7fELF", "a program"),
    (b"RIFF????WAVE", "sound only"),
    (b"ID3", "sound only"),
    (b"fLaC", "sound only"),
)


def shown(path: Path | str) -> str:
    """A path as it may be printed: one line, no control characters, no bytes that are not text."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _looks_like_text(head: bytes) -> bool:
    if b"\0" in head:
        return False
    control = sum(byte < 32 and byte not in b"\t\n\r\x0c\x1b" for byte in head)
    try:
        head[: len(head) - 4].decode("utf-8") if len(head) > 64 else head.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start > len(head) - 8 and not control
    return control == 0


def _wrong_content(head: bytes) -> str | None:
    """Why a file that begins with `head` is no footage, or None if it may be."""
    if not head:
        return "the file is empty"
    for signature, what in _NOT_FOOTAGE:
        if signature == b"RIFF????WAVE":
            if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
                return what
        elif head.startswith(signature):
            return what
    netpbm = head[:1] == b"P" and head[1:2] in b"1234567" and head[2:3].isspace()
    if _looks_like_text(head) and not netpbm and not head.startswith((b"YUV4MPEG2", b"#define")):
        return "it is text, not a video or a picture"
    return None


def read_head(path: Path, count: int = 512) -> bytes:
    """The first bytes of a regular file; never blocks on a FIFO or a device."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    handle = os.open(path, flags)
    try:
        return os.read(handle, count)
    finally:
        os.close(handle)


def why_not(path: Path) -> str | None:
    """Why `path` cannot be footage as far as its kind and first bytes tell, or None."""
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):
            kinds = {
                stat.S_IFDIR: "a folder",
                stat.S_IFIFO: "a FIFO",
                stat.S_IFSOCK: "a socket",
                stat.S_IFCHR: "a device",
                stat.S_IFBLK: "a device",
            }
            return f"it is {kinds.get(stat.S_IFMT(mode), 'something else')}, not a file"
        return _wrong_content(read_head(path))
    except PermissionError:
        return "no permission to read it"
    except OSError as error:
        return (error.strerror or str(error)).lower()


def no_such(path: Path | str) -> FootageError:
    """The error for a path that does not exist."""
    return FootageError(f"no such file or folder: {shown(path)}; check the spelling and the current folder")


def open_container(path: Path | str) -> av.container.InputContainer:
    """Open a file for decoding: by absolute path, whitelisted demuxers, the `file` protocol, bounded
    frames.
    """
    where = Path(path)
    if not os.path.lexists(where):
        raise no_such(where)
    if reason := why_not(where):
        raise FootageError(f"cannot use {shown(where)}: {reason}; leave it out")
    head = read_head(where)
    named = next((fmt for offset, magic, fmt in _MAGIC if head[offset:].startswith(magic)), None)
    if named == "bmp_pipe" and head[6:10] != b"\0\0\0\0":
        named = None
    options = {
        "format_whitelist": DEMUXERS,
        "protocol_whitelist": "file",
        "max_pixels": str(MOST_PIXELS),
        "err_detect": "ignore_err" if named else "",
    }
    try:
        return av.open(
            os.path.abspath(where),
            "r",
            format=named,
            options={key: value for key, value in options.items() if value},
            metadata_errors="replace",
        )
    except (av.FFmpegError, ValueError, OSError) as error:
        raise FootageError(
            f"cannot use {shown(where)}: {_plain_cause(error, head)}; leave it out or export it again"
        ) from None


def _plain_cause(error: BaseException, head: bytes) -> str:
    """An FFmpeg error in words a person can act on."""
    if head[4:8] == b"ftyp" and isinstance(error, av.InvalidDataError):
        return "the file is cut short or was never finished (its MP4 index is missing or damaged)"
    if isinstance(error, av.InvalidDataError):
        return "it is not a video or a picture, or it is damaged from the start"
    if isinstance(error, av.error.ArgumentError | av.error.DecoderNotFoundError):
        return "its format is not one that is read (playlists and stream addresses are refused)"
    return str(getattr(error, "strerror", None) or error).splitlines()[0].lower()


def video_stream(container: av.container.InputContainer, path: Path | str) -> av.video.stream.VideoStream:
    """The stream to take frames from: the largest that is no cover picture; bounded in pixels."""
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        what = "it holds only sound" if container.streams.audio else "it holds no video"
        raise FootageError(f"cannot use {shown(path)}: {what}; leave it out")
    streams = [s for s in streams if s.codec_context is not None]
    if not streams:
        raise FootageError(
            f"cannot use {shown(path)}: its video is in a format that cannot be decoded; convert it"
        )
    stream = max(streams, key=lambda s: s.codec_context.width * s.codec_context.height)
    context = stream.codec_context
    if context.width * context.height > MOST_PIXELS:
        raise FootageError(
            f"cannot use {shown(path)}: its frames of {context.width}x{context.height} pixels exceed"
            f" {MOST_PIXELS // 1_000_000} million; scale it down first"
        )
    context.options = {"max_pixels": str(MOST_PIXELS)}
    context.thread_type = "AUTO"
    return stream


def packets_of(container: av.container.InputContainer, stream: Stream) -> Iterator[av.packet.Packet[Stream]]:
    """A stream's packets. Those of streams that begin in the middle are passed over: PyAV knows only those that are
    there when a file is opened, and ends with an IndexError."""
    packets, passed_over = container.demux(stream), 0
    while passed_over < MOST_DAMAGED_PACKETS:
        try:
            packet = next(packets, None)
        except IndexError:
            packets, passed_over = container.demux(stream), passed_over + 1
            continue
        if packet is None:
            return
        passed_over = 0
        yield packet


def nothing_decoded(path: Path | str) -> FootageError:
    """The error for a file that opened but gave no frame."""
    return FootageError(
        f"cannot use {shown(path)}: not one frame can be decoded (it is damaged, or its frames exceed"
        f" {MOST_PIXELS // 1_000_000} million pixels); leave it out or export it again"
    )


def declared_seconds(
    container: av.container.InputContainer, stream: av.video.stream.VideoStream
) -> float | None:
    """The duration the header claims for the video, or None."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    hours, minutes, seconds = [*stream.metadata.get("DURATION", "").split(":"), "", "", ""][:3]
    if hours.isdigit() and minutes.isdigit() and seconds.replace(".", "", 1).isdigit():
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    if container.duration:
        return container.duration / av.time_base
    return None


def declared_fps(stream: av.video.stream.VideoStream) -> float | None:
    """The frame rate the header claims, or None when absent or absurd."""
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate and 0.01 <= float(rate) <= 1000:
            return float(rate)
    return None

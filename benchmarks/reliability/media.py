"""Rows 20 to 24: damaged, lying and huge footage."""

from __future__ import annotations

import hashlib
import struct
import subprocess
import sys
import time
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from benchmarks.reliability.rows import ROOT, Bench, claim, forget_peak, peak_bytes, row
from reroll.errors import FootageError
from reroll.footage import decode, find_footage, guard, ingest, probe
from reroll.footage.container import shown
from tests.footage_maker import interlace, moving_square, write_audio_only, write_clip, write_picture

CLIP = moving_square(20)
LONGEST_SECONDS = 10.0


def frames_or_line(path: Path) -> int | str:
    """How many frames a file gives, or its one line. BrokenError for a crash, a hang or a line that is none."""
    began = time.monotonic()
    try:
        found: int | str = sum(1 for _ in decode(path))
    except FootageError as error:
        found = str(error)
        claim("\n" not in found and shown(path.name) in found, f"{path.name}: {found!r}")
        claim("crashed" not in found and "too long" not in found, found)
    claim(time.monotonic() - began < LONGEST_SECONDS, f"{path.name}: {time.monotonic() - began:.0f} s")
    return found


def _odd(folder: Path) -> dict[Path, int | str | None]:
    """Odd files, with the frames each has to give, a word of its line, or None: either will do."""
    still, high = moving_square(1)[0], moving_square(20, 48, 64)
    alpha = np.concatenate([CLIP, np.full((*CLIP.shape[:3], 1), 128, np.uint8)], 3)

    def clip(name: str, frames: np.ndarray = CLIP, **options: object) -> Path:
        return write_clip(folder / name, frames, **options)  # type: ignore[arg-type]

    def raw(name: str, content: bytes) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    whole = clip("whole.mp4").read_bytes()
    zigzag = [0.0, 0.04, 0.04, 0.08, *(0.04 * n for n in range(4, 20))]
    files: dict[Path, int | str | None] = {
        folder / "whole.mp4": 20,
        clip("1x1.mkv", moving_square(5)[:, :1, :1], codec="ffv1", pix_fmt="bgr0"): 5,
        clip("33x17.mkv", moving_square(5)[:, :17, :33], codec="ffv1", pix_fmt="bgr0"): 5,
        clip("wide.mp4", np.repeat(CLIP[:3], 20, 2)[:, :16]): 3,
        clip("8k.mp4", np.repeat(np.repeat(CLIP[:2, :36, :], 120, 1), 120, 2)): 2,
        clip("one.mp4", CLIP[:1]): 1,
        clip("ten-bit.mp4", pix_fmt="yuv420p10le"): 20,
        clip("alpha.mov", alpha, codec="qtrle", pix_fmt="argb"): 20,
        clip("variable.mkv", times=[0.04 * n + 0.3 * (n > 7) for n in range(20)]): 20,
        clip("interlaced.mp4", interlace(moving_square(20)), interlaced=True): 10,
        clip("turned.mp4", rotation_degrees=90): 20,
        clip("stretched.mp4", sample_aspect_ratio=Fraction(2)): 20,
        clip("full-range.mp4", pix_fmt="yuvj420p", full_range=True): 20,
        clip("a.gif", codec="gif", pix_fmt="rgb8"): 20,
        clip("av1.mp4", high, codec="libsvtav1"): 20,
        clip("hevc.mp4", high, codec="libx265"): 20,
        clip("prores.mov", codec="prores_ks", pix_fmt="yuv422p10le"): 20,
        clip("vp9.webm", codec="libvpx-vp9"): 20,
        clip("old.avi", codec="mpeg4"): 20,
        clip("stream.ts", codec="mpeg2video", container_format="mpegts"): 20,
        clip("mislabelled.png", container_format="mp4"): 20,
        clip("repeated-times.mkv", times=zigzag): None,
        write_picture(folder / "picture.png", still): 1,
        write_audio_only(folder / "sound.mp4"): "only sound",
        raw("empty.mp4", b""): "empty",
        raw("words.mp4", b"just some words\n" * 9): "text",
        raw("archive.mp4", b"PK\x03\x04" + bytes(99)): "ZIP",
        raw("noise.mp4", np.random.default_rng(0).bytes(4000)): "not a video",
        raw("no-index.mp4", whole[: whole.rfind(b"moov") - 4]): "cut short",
        raw("halved.mp4", whole[: len(whole) // 2]): None,
        _two_sizes(folder / "two-sizes.ts"): None,
        _two_streams(folder / "two-streams.mkv"): 20,
    }
    return files


def _two_sizes(path: Path) -> Path:
    """A stream that changes its size in the middle."""
    parts = [
        write_clip(
            path.with_name(f"part{n}.ts"), frames, codec="mpeg2video", container_format="mpegts"
        ).read_bytes()
        for n, frames in enumerate((CLIP[:10], moving_square(10, 96, 128)))
    ]
    for n in range(2):
        path.with_name(f"part{n}.ts").unlink()
    path.write_bytes(b"".join(parts))
    return path


def _two_streams(path: Path) -> Path:
    """Two videos in one file; the larger counts."""
    with av.open(str(path), "w") as container:
        streams = []
        for height, width in ((24, 32), (48, 64)):
            stream = container.add_stream("mpeg4", rate=25)
            stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
            streams.append((stream, moving_square(20, height, width)))
        for number in range(20):
            for stream, frames in streams:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frames[number], "rgb24")))
        for stream, _ in streams:
            container.mux(stream.encode(None))
    return path


@row(20, "odd files, one at a time and all at once")
def odd_files(bench: Bench) -> str:
    folder = bench.folder / "odd"
    folder.mkdir(parents=True)
    files = _odd(folder)
    good: set[str] = set()
    for path, expected in files.items():
        found = frames_or_line(path)
        if isinstance(expected, str):
            claim(expected in str(found), f"{path.name}: {found}, not {expected!r}")
        elif expected is not None:
            claim(found == expected, f"{path.name}: {found} frames or line, not {expected}")
        if isinstance(found, int):
            good.add(hashlib.sha256(path.read_bytes()).hexdigest())
    listed, passed_over = find_footage([folder])
    store = ingest(listed, short_side=16, cache_dir=bench.folder / "cache")
    taken = {file.sha256 for file in store.files}
    claim(
        taken == good,
        f"{len(taken & good)} of {len(good)} good files were taken in together, and {len(taken - good)} more",
    )
    bad = len(passed_over) + len(store.skipped)
    return f"{len(files)} files: {len(files) - bad} give their frames, {bad} one clear line; all at once: the same"


@row(21, "files cut short and with flipped bits, in six containers")
def mutated(bench: Bench) -> str:
    bench.folder.mkdir(parents=True, exist_ok=True)
    count, tried, short, said = bench.count(5, 150), 0, 0, 0
    kinds: dict[str, dict] = {
        "a.mp4": {}, "a.mkv": {}, "a.avi": {"codec": "mpeg4"},
        "a.ts": {"codec": "mpeg2video", "container_format": "mpegts"},
        "a.webm": {"codec": "libvpx-vp9"}, "a.gif": {"codec": "gif", "pix_fmt": "rgb8"},
    }  # fmt: skip
    for name, options in kinds.items():
        whole = write_clip(bench.folder / name, moving_square(50), **options).read_bytes()
        for number in range(2 * count):
            if number % 2:
                content = whole[: int(bench.random.integers(1, len(whole)))]
            else:
                damaged = np.frombuffer(whole, np.uint8).copy()
                at = bench.random.integers(0, len(damaged), 8)
                damaged[at] ^= (1 << bench.random.integers(0, 8, 8)).astype(np.uint8)
                content = damaged.tobytes()
            broken = bench.folder / f"broken-{number}-{name}"
            broken.write_bytes(content)
            found = frames_or_line(broken)
            tried += 1
            declared = _declared_seconds(broken) if isinstance(found, int) else None
            if declared is not None and _seconds(broken) < min(0.98 * declared, declared - 0.06):
                short += 1
                said += _is_said(bench, broken)
            broken.unlink()
    claim(short == said, f"{short - said} of {short} clips shorter than declared were not reported")
    return f"{tried} files: 0 crashes, 0 hangs, {short} shorter than declared by more than 2 %, {said} of them reported"


def _seconds(path: Path) -> float:
    """What can be decoded, from its first frame to the end of its last."""
    *_, last = decode(path)
    return last.timestamp + 1 / 25


def _declared_seconds(path: Path) -> float | None:
    try:
        return probe(path).duration_seconds
    except FootageError:
        return None


def _is_said(bench: Bench, path: Path) -> bool:
    try:
        store = ingest(find_footage([path])[0], short_side=16, cache_dir=bench.folder / "cache")
    except FootageError:
        return False
    return any("ends early" in note for note in store.notes)


def _png_header(side: int) -> bytes:
    """A picture of one bit a pixel that says it is so large, its rows all black."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    rows = zlib.compress(bytes((side // 8 + 1) * side), 9)
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@row(22, "bombs: PNGs of 8192² and 16000², a GIF of 65535²; a frame of 8K is no bomb")
def bombs(bench: Bench) -> str:
    bench.folder.mkdir(parents=True, exist_ok=True)
    gif = bytearray(write_clip(bench.folder / "bomb.gif", CLIP[:2], codec="gif", pix_fmt="rgb8").read_bytes())
    gif[6:10] = b"\xff\xff\xff\xff"
    (bench.folder / "bomb.gif").write_bytes(gif)
    for side in (8192, 16000):
        (bench.folder / f"bomb-{side}.png").write_bytes(_png_header(side))
    _fresh_child(bench)
    slowest, before = 0.0, forget_peak()
    for name in ("bomb.gif", "bomb-8192.png", "bomb-16000.png"):
        began = time.monotonic()
        try:
            probe(bench.folder / name)
            claim(False, f"{name} was opened")
        except FootageError as error:
            claim("36 million pixels" in str(error), str(error))
        slowest = max(slowest, time.monotonic() - began)
    child, own = _child_peak(), peak_bytes() - before
    claim(slowest < 1, f"{slowest:.1f} s")
    claim(child < 300 << 20, f"{child >> 20} MB in the decoding process")
    claim(own < 50 << 20, f"{own >> 20} MB more here")
    large = np.zeros((1, 4320, 7680, 3), np.uint8)
    found = frames_or_line(write_clip(bench.folder / "8k.mp4", large))
    claim(found == 1, f"a frame of 8K: {found}")
    return (
        f"refused within {slowest:.2f} s, {child >> 20} MB in the decoding process; a frame of 8K is decoded"
    )


def _fresh_child(bench: Bench) -> None:
    """A decoding process that met nothing large before."""
    while guard._idle:
        guard._idle.pop().end()
    list(decode(write_clip(bench.folder / "warm.mp4", CLIP)))


def _child_peak() -> int:
    """Peak memory of the decoding processes that wait, in bytes."""
    return max([0, *(peak_bytes(child._process.pid) for child in guard._idle)])


@row(23, "lying headers: a hundred million frames, none a second, a gap of ten days, absurd shapes and turns")
def lying(bench: Bench) -> str:
    bench.folder.mkdir(parents=True, exist_ok=True)
    days = write_clip(bench.folder / "gap.mkv", CLIP[:3], times=[0, 0.04, 864_000.0])
    squeezed = write_clip(bench.folder / "squeezed.mkv", CLIP, sample_aspect_ratio=Fraction(1000, 1))
    counted = bytearray(write_clip(bench.folder / "counted.mp4", CLIP).read_bytes())
    at = counted.find(b"stts") + 12  # the first entry's count of frames
    counted[at : at + 4] = struct.pack(">I", 100_000_000)
    (bench.folder / "counted.mp4").write_bytes(counted)
    rateless = bytearray(write_clip(bench.folder / "rateless.avi", CLIP, codec="mpeg4").read_bytes())
    at = rateless.find(b"vids") + 20  # scale and rate of the stream
    rateless[at : at + 8] = bytes(8)
    (bench.folder / "rateless.avi").write_bytes(rateless)
    aslant = write_clip(bench.folder / "aslant.mp4", CLIP, rotation_degrees=37)
    _fresh_child(bench)
    before, child = forget_peak(), _child_peak()
    claim(frames_or_line(aslant) == 20, "turned by 37 degrees")
    claim(frames_or_line(bench.folder / "rateless.avi") == 20, "no frames a second")
    claim(frames_or_line(days) == 3, "a gap of ten days")
    claim(frames_or_line(squeezed) == 20, "pixels a thousand times as wide as high")
    found = frames_or_line(bench.folder / "counted.mp4")
    claim(isinstance(found, str) or found <= 20, f"a hundred million frames: {found}")
    store = ingest(find_footage([days])[0], short_side=16, cache_dir=bench.folder / "cache")
    claim(any("gap" in note for note in store.notes), f"the gap is not said: {store.notes}")
    grown = peak_bytes() - before + _child_peak() - child
    claim(grown < 100 << 20, f"{grown >> 20} MB more")
    return f"frames are counted, not believed; {grown >> 20} MB more"


COUNTED = """
import resource, sys, time
from pathlib import Path
from reroll.footage import find_footage, guard, ingest
began = time.monotonic()
store = ingest(find_footage([Path(sys.argv[1])])[0], short_side=16, cache_dir=Path(sys.argv[2]))
child = max(int(Path(f"/proc/{c._process.pid}/status").read_text().split("VmHWM:")[1].split()[0]) for c in guard._idle)
own = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
print(store.frame_count, own, child, time.monotonic() - began, len(list(Path("/proc/self/fd").iterdir())))
"""


@row(24, "length: a thousand to a million frames, a thousand files")
def length(bench: Bench) -> str:
    bench.folder.mkdir(parents=True, exist_ok=True)
    lengths = (1000, 20_000) if not bench.full else (1000, 100_000, 1_000_000)
    measured = []
    for count in lengths:
        path = bench.folder / f"{count}.mkv"
        _write_long(path, count)
        measured.append(_ingested(path, bench.folder / f"cache-{count}"))
        path.unlink()
    growth = max((each[1] + each[2] - measured[0][1] - measured[0][2]) >> 10 for each in measured)
    claim(growth < 50, f"{growth} MB more")
    rates = [count / each[3] for count, each in zip(lengths[1:], measured[1:], strict=True)]
    claim(min(rates) > 0.5 * max(rates), f"not linear: {rates} frames a second")
    many = bench.folder / "many"
    many.mkdir()
    content = write_clip(bench.folder / "small.mkv", CLIP[:5, :16, :16], codec="mpeg4").read_bytes()
    for number in range(bench.count(50, 1000)):
        (many / f"{number:04d}.mkv").write_bytes(content + number.to_bytes(4, "big"))
    files = _ingested(many, bench.folder / "cache-many")
    claim(files[4] <= 24, f"{files[4]} open files")
    return (
        f"{lengths[0]:,} to {lengths[-1]:,} frames: {growth} MB more, {min(rates):,.0f} frames a second;"
        f" {bench.count(50, 1000)} files in {files[3]:.1f} s"
    )


def _write_long(path: Path, count: int) -> None:
    """A wave that wanders for so many frames, without a cut: shots, which are known by name, may take memory."""
    phases = np.arange(16) / 16 + np.arange(50)[:, None] / 50
    rows = (128 + 100 * np.sin(2 * np.pi * phases)).astype(np.uint8)
    images = np.broadcast_to(rows[:, None, :, None], (50, 16, 16, 3))
    frames = [av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24") for image in images]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height = stream.width = 16
        stream.pix_fmt = "yuv420p"
        for number in range(count):
            frame = frames[number % len(frames)]
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _ingested(path: Path, cache: Path) -> tuple[int, int, int, float, int]:
    """Frames, peak KiB of this process and its decoding one, seconds, open files."""
    out = subprocess.run(
        [sys.executable, "-c", COUNTED, path, cache], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.split()
    return int(out[0]), int(out[1]), int(out[2]), float(out[3]), int(out[4])

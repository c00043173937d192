"""Files that are damaged, hostile or oddly named: right frames or one clear line, never a hang, never
another file.
"""

import http.server
import os
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from footage_maker import moving_square, write_clip, write_picture

from reroll.errors import FootageError
from reroll.footage import decode, find_footage, ingest, probe
from reroll.footage.container import shown


def frames_or_line(path: Path) -> int | str:
    """How many frames a file gives, or its one line."""
    try:
        return len(list(decode(path)))
    except FootageError as error:
        line = str(error)
    assert "\n" not in line
    assert shown(path.name) in line
    return line


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"just some words\n" * 20, "text"),
        (b"PK\x03\x04" + bytes(200), "ZIP"),
        (b"#EXTM3U\n#EXTINF:1,\nhttp://localhost/x.ts\n", "playlist"),
        (np.random.default_rng(0).bytes(5000), "not a video"),
        (bytes(4) + b"ftypisom" + bytes(500), "cut short or was never finished"),
    ],
)
def test_what_is_no_footage_says_so(tmp_path: Path, content, words):
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(FootageError, match=words):
        probe(path)
    assert words in str(frames_or_line(path))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", {}),
        ("a.mkv", {}),
        ("a.avi", {"codec": "mpeg4"}),
        ("a.ts", {"codec": "mpeg2video", "container_format": "mpegts"}),
        ("a.webm", {"codec": "libvpx-vp9"}),
        ("a.gif", {"codec": "gif", "pix_fmt": "rgb8"}),
    ],
)
def test_truncated_and_flipped_files_never_crash(tmp_path: Path, name, options):
    whole = write_clip(tmp_path / name, moving_square(20), **options).read_bytes()
    generator = np.random.default_rng(1)
    broken = tmp_path / f"broken_{name}"
    for attempt in range(16):
        if attempt % 2:
            content = whole[: int(generator.integers(1, len(whole)))]
        else:
            damaged = np.frombuffer(whole, np.uint8).copy()
            places = generator.integers(0, len(damaged), 8)
            damaged[places] ^= (1 << generator.integers(0, 8, 8)).astype(np.uint8)
            content = damaged.tobytes()
        broken.write_bytes(content)
        started = time.monotonic()
        result = frames_or_line(broken)
        assert time.monotonic() - started < 10
        assert isinstance(result, str) or 0 < result <= 40


def test_a_stream_that_begins_in_the_middle_is_passed_over(tmp_path: Path):
    """As in broadcasts; here a packet of another number, which a flipped bit makes (PyAV: IndexError)."""
    options = {"codec": "mpeg2video", "container_format": "mpegts"}
    whole = bytearray(write_clip(tmp_path / "whole.ts", moving_square(50), **options).read_bytes())
    starts = [
        at
        for at in range(0, len(whole), 188)
        if whole[at + 1] & 0x40 and whole[at + 1 : at + 3] == b"\x41\x00"
    ]
    whole[starts[-5] + 2] ^= 2
    (tmp_path / "damaged.ts").write_bytes(whole)
    assert 40 <= len(list(decode(tmp_path / "damaged.ts"))) <= 50


def test_a_clip_cut_short_is_noted_with_both_lengths(tmp_path: Path):
    noise = np.random.default_rng(0).integers(0, 256, (75, 48, 64, 3), dtype=np.uint8)
    path = write_clip(tmp_path / "long.mkv", noise)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    store = ingest(find_footage([path])[0], short_side=16, cache_dir=tmp_path / "cache")
    assert 10 < store.frame_count < 60
    assert any("ends early" in note and "3.00 s it declares" in note for note in store.notes), store.notes


def test_bombs_are_refused_from_the_header(tmp_path: Path):
    resource = pytest.importorskip("resource")
    path = write_picture(tmp_path / "bomb.png", np.zeros((6100, 6100, 3), np.uint8))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.monotonic()
    with pytest.raises(FootageError, match="36 million pixels"):
        probe(path)
    assert time.monotonic() - started < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_a_lying_picture_header_is_refused(tmp_path: Path):
    gif = bytearray(
        write_clip(tmp_path / "a.gif", moving_square(2), codec="gif", pix_fmt="rgb8").read_bytes()
    )
    gif[6:10] = b"\xff\xff\xff\xff"
    (tmp_path / "a.gif").write_bytes(gif)
    assert "36 million pixels" in str(frames_or_line(tmp_path / "a.gif"))


class _Canary(http.server.BaseHTTPRequestHandler):
    hits = 0

    def do_GET(self):
        type(self).hits += 1
        self.send_error(404)

    def log_message(self, *_):
        pass


def test_playlists_reach_no_other_file_and_no_host(tmp_path: Path):
    secret = write_clip(
        tmp_path / "secret.ts", moving_square(10), codec="mpeg2video", container_format="mpegts"
    )
    server = http.server.HTTPServer(("127.0.0.1", 0), _Canary)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/x.ts"
    lists = {
        "hls.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:9,\n{url}\n#EXTINF:9,\n{secret}\n#EXT-X-ENDLIST\n",
        "concat.mp4": "ffconcat version 1.0\nfile 'secret.ts'\n",
        "dash.mpd": f"<MPD><Period><BaseURL>{url}</BaseURL></Period></MPD>",
        "stream.sdp": "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\nm=video 5004 RTP/AVP 96\r\n",
        "binary.m3u8": "#EXTM3U\0\n#EXTINF:9,\nsecret.ts\n",
        "concat.txt": f"\n\nffconcat version 1.0\nfile '{secret}'\n\0",
    }
    try:
        for name, content in lists.items():
            (tmp_path / name).write_text(content)
            assert isinstance(frames_or_line(tmp_path / name), str), name
        for address in (
            f"concat:{secret}|{secret}",
            f"subfile,,start,0,end,100,,:{secret}",
            url,
            f"file:{secret}",
        ):
            with pytest.raises(FootageError):
                list(decode(address))
    finally:
        server.shutdown()
        server.server_close()
    assert _Canary.hits == 0


NAMES = [
    "-y.mp4",
    "%03d.mp4",
    "a b'c\"d.mp4",
    "pipe:1.mp4",
    "http:x.mp4",
    "new\nline.mp4",
    "<img onerror=x>.mp4",
    "\u202egnp.mp4",
    "é漢字.mp4",
    "x" * 251 + ".mp4",
    os.fsdecode(b"\xff\xfe.mp4"),
    "[glob]*?.mp4",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_are_plain_names(tmp_path: Path, monkeypatch, name):
    write_clip(tmp_path / "made.mp4", moving_square(5))
    os.rename(tmp_path / "made.mp4", tmp_path / name)
    (tmp_path / "000.mp4").write_bytes(b"another file")
    monkeypatch.chdir(tmp_path)
    assert len(list(decode(name))) == 5
    store = ingest(find_footage([Path(name)])[0], short_side=16, cache_dir=tmp_path / "cache")
    assert store.frame_count == 5
    assert shown(name).isprintable()


def test_folders_with_traps_are_walked_safely(tmp_path: Path):
    folder = tmp_path / "footage"
    (folder / "deep").mkdir(parents=True)
    write_clip(folder / "deep" / "good.mp4", moving_square(5))
    write_clip(folder / "b.mp4", moving_square(6))
    (folder / "loop").symlink_to(folder)
    (folder / "etc").symlink_to("/etc")
    (folder / "zero.mp4").symlink_to("/dev/zero")
    (folder / "gone.mp4").symlink_to(folder / "nowhere")
    (folder / "linked.mp4").symlink_to(folder / "b.mp4")
    (folder / "notes.txt").write_text("hello")
    (folder / ".hidden.mp4").write_bytes(b"x")
    os.mkfifo(folder / "fifo.mp4")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "socket.mp4"))
    started = time.monotonic()
    files, skipped = find_footage([folder])
    listener.close()
    assert time.monotonic() - started < 2
    assert [file.path.name for file in files] == ["b.mp4", "good.mp4"]
    reasons = {item.path.name: item.reason for item in skipped}
    assert set(reasons) == {"loop", "etc", "zero.mp4", "gone.mp4", "notes.txt", "fifo.mp4", "socket.mp4"}
    assert "device" in reasons["zero.mp4"]
    assert "FIFO" in reasons["fifo.mp4"]
    assert "socket" in reasons["socket.mp4"]


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 1)() == 0, reason="root may read everything")
def test_unreadable_files_are_skipped(tmp_path: Path):
    path = write_clip(tmp_path / "mine.mp4", moving_square(5))
    path.chmod(0)
    assert find_footage([tmp_path])[1][0].reason == "no permission to read it"


def test_a_folder_that_may_not_be_entered_is_skipped(tmp_path: Path, monkeypatch):
    write_clip(tmp_path / "mine.mp4", moving_square(5))
    (tmp_path / "lost+found").mkdir()

    def refuse(path, *arguments, original=os.stat, **options):
        if "lost+found" in str(path) and str(path).endswith("run.json"):
            raise PermissionError(13, "Permission denied", str(path))
        return original(path, *arguments, **options)

    monkeypatch.setattr(os, "stat", refuse)
    assert [file.path.name for file in find_footage([tmp_path])[0]] == ["mine.mp4"]


def test_opening_many_files_leaks_no_handles(tmp_path: Path):
    path = write_clip(tmp_path / "a.mp4", moving_square(4))
    (tmp_path / "bad.mp4").write_bytes(path.read_bytes()[:300])
    list(decode(path))
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(40):
        next(decode(path))
        frames_or_line(tmp_path / "bad.mp4")
    after = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    assert after <= before + 2

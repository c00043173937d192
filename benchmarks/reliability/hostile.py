"""Rows 25 to 28: footage that is turned or named oddly, playlists, folders with traps."""

from __future__ import annotations

import http.server
import threading
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from benchmarks.reliability.rows import Bench, by_tests, claim, row
from reroll.errors import FootageError
from reroll.footage import decode, find_footage, probe
from tests.footage_maker import moving_square, write_clip

HOSTILE = "tests/footage/test_hostile.py"

by_tests(
    25,
    "turned, stretched, interlaced, 10-bit, transparent, full-range footage",
    "tests/footage/test_decode.py",
)


class _Canary(http.server.ThreadingHTTPServer):
    """Counts who connects."""

    connections = 0

    def verify_request(self, *_: object) -> bool:
        self.connections += 1
        return False


@row(26, "playlists and addresses, with a canary host and a canary file beside them")
def playlists(bench: Bench) -> str:
    folder = bench.folder / "lists"
    folder.mkdir(parents=True)
    secret = write_clip(
        folder / "secret.ts", moving_square(20), codec="mpeg2video", container_format="mpegts"
    )
    server = _Canary(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/x.ts"
    hls = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:9,\n"
    contents: dict[str, str] = {
        "hls.m3u8": f"{hls}{url}\n#EXTINF:9,\n{secret}\n#EXT-X-ENDLIST\n",
        "hls-as.mp4": f"{hls}secret.ts\n#EXT-X-ENDLIST\n",
        "binary.m3u8": f"\0{hls}secret.ts\n",
        "concat.mp4": "ffconcat version 1.0\nfile 'secret.ts'\n",
        "concat.txt": f"\n\nffconcat version 1.0\nfile '{secret}'\n\0",
        "concat-url.mkv": f"ffconcat version 1.0\nfile '{url}'\n",
        "dash.mpd": f"<MPD><Period><BaseURL>{url}</BaseURL></Period></MPD>",
        "stream.sdp": "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\nm=video 5004 RTP/AVP 96\r\n",
        "picture.svg": f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{url}"/></svg>',
    }
    addresses: list[str] = [
        f"concat:{secret}|{secret}", f"subfile,,start,0,end,100,,:{secret}", f"file:{secret}", url, f"cache:{secret}",
        f"async:{secret}", f"crypto:{secret}",
    ]  # fmt: skip
    tries: list[Callable[[Path | str], object]] = [lambda path: sum(1 for _ in decode(path)), probe]
    try:
        for name, content in contents.items():
            (folder / name).write_text(content)
        for given in [*(folder / name for name in contents), *addresses]:
            for attempt in tries:
                claim(_refuses(attempt, given), f"{given} gave frames")
        listed = find_footage([folder])[0]
        claim(server.connections == 0, f"{server.connections} connections")
        with suppress(OSError):
            urllib.request.urlopen(url, timeout=5)
        claim(server.connections == 1, "the canary host sees nobody")
    finally:
        server.shutdown()
        server.server_close()
    taken = [file.path.name for file in listed if file.path != secret and _gives_frames(file.path)]
    claim(not taken, f"taken for footage: {taken}")
    return f"{len(contents)} files and {len(addresses)} addresses: 0 connections, 0 foreign frames"


def _refuses(attempt: Callable[[Path | str], object], given: Path | str) -> bool:
    try:
        attempt(given)
    except FootageError:
        return True
    return False


def _gives_frames(path: Path) -> bool:
    return not _refuses(lambda each: list(decode(each)), path)


by_tests(27, "names of files", HOSTILE, "-k", "names")
by_tests(
    28,
    "folders with loops, devices and FIFOs, files that may not be read",
    HOSTILE,
    "-k",
    "folder or unreadable",
)

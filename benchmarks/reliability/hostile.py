"""Rows 25 to 28: footage that is turned or named oddly, playlists, folders with traps."""

from __future__ import annotations

import http.server
import json
import os
import threading
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from benchmarks.reliability.media import frames_or_line
from benchmarks.reliability.processes import Toy, train
from benchmarks.reliability.rows import Bench, by_tests, claim, row
from reroll.errors import FootageError
from reroll.footage import decode, find_footage, ingest, probe
from reroll.footage.container import shown
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


PIECES = (
    "-", "--", "-y", "%03d", "%s", "pipe:", "http:", "file:", "concat:", "\n", "\t", "\r", "\x1b[31m", "\u202e", "é",
    "漢", "\udcff", "\udcfe", "<img src=x onerror=alert(1)>", "&amp;", "'", '"', "`id`", "$(id)", ";", "|", "*", "?",
    "[a]", "~", " ", "#", "\\", "=1+1", "@", "{{7*7}}", "{0}", "CON", "NUL", "x" * 90,
)  # fmt: skip
"""Of which names are made; lone surrogates stand for bytes that are no UTF-8."""


def _names(bench: Bench, count: int) -> list[str]:
    """So many different names, of up to 255 bytes; one has all of these."""
    found: set[str] = {"a" * (255 - len(".mp4")) + ".mp4"}
    while len(found) < count:
        pieces = [
            PIECES[at] for at in bench.random.integers(0, len(PIECES), int(bench.random.integers(1, 5)))
        ]
        name = "".join([*pieces, str(len(found)), ".mp4"])
        if len(os.fsencode(name)) <= 255:
            found.add(name)
    return sorted(found)


@row(27, "names of files: as on disk, in JSON, on the terminal and in the report")
def names(bench: Bench) -> str:
    names, clips = _names(bench, bench.count(40, 300)), bench.folder / "clips"
    clips.mkdir(parents=True)
    made = write_clip(bench.folder / "made.mp4", moving_square(40))
    before = Path.cwd()
    try:
        os.chdir(clips)
        for number, name in enumerate(names):
            Path(name).write_bytes(made.read_bytes() + number.to_bytes(4, "big"))
            claim(frames_or_line(Path(name)) == 40, f"{name!r} was not decoded")
            claim(shown(name).isprintable(), f"{name!r} is shown as it is")
    finally:
        os.chdir(before)
    store = ingest(find_footage([clips])[0], short_side=16, cache_dir=bench.folder / "cache")
    claim(
        {Path(file.path).name for file in store.files} == set(names),
        "not all were taken in under their names",
    )
    folder, run = bench.folder / "<img src=x onerror=alert(1)>", bench.folder / "run"
    folder.mkdir()
    for name in ("<b>.mp4", "-y\n.mp4", os.fsdecode(b"\xff.mp4")):
        (folder / name).write_bytes(made.read_bytes() + name.encode(errors="surrogateescape"))
    for name in ("\x1b[31mred.mp4", "\u202egnp.mp4", "new\nline.mp4"):
        (folder / name).write_bytes(b"no video")
    ended = train(bench, run, footage=folder, recipe="gan", steps=8, size=16).ended()
    claim(ended.code == 0, ended.last)
    claim(ended.said.count("skipped: ") == 3, f"three files were to be skipped: {ended.said}")
    claim(
        all(line.isprintable() for line in ended.said.split("\n")),
        "the terminal is told of control characters",
    )
    read = json.loads((run / "run.json").read_text())
    claim({Path(file["path"]).parent.name for file in read["footage"]} == {folder.name}, "not so in run.json")
    ended = Toy(
        bench, "report", run, "--samples", 3, "--seconds", 1, "--long-seconds", 0, "--threads", 1
    ).ended()
    claim(ended.code == 0, ended.last)
    (page,) = run.rglob("*.html")
    text = page.read_text()
    claim("&lt;img src=x" in text and "<img src=x" not in text, "a name is HTML in the report")
    return f"{len(names)} names: taken as they are, shown without control characters, escaped in the report"


by_tests(
    28,
    "folders with loops, devices and FIFOs, files that may not be read",
    HOSTILE,
    "-k",
    "folder or unreadable",
)

"""Fuzzing with atheris: `python -m benchmarks.reliability.fuzz footage|bundle [-max_total_time=600]`.

What is given is written to a file and opened as a user would. One line of ours is right; anything else (a traceback, a
decoder that crashes or hangs) ends the fuzzing, and libFuzzer leaves the file beside it. The corpus is made anew, a few
small files.
"""

import gc
import json
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["reroll.footage", "reroll.export.bundle"]):
    from reroll.errors import CheckpointError, FootageError
    from reroll.export.bundle import read_bundle
    from reroll.footage.decode import LocalDecoder
    from reroll.footage.probe import local_probe

from benchmarks.reliability.rows import ROOT
from tests.footage_maker import moving_square, write_clip, write_picture

MOST_BYTES = 1 << 16


def footage(path: Path) -> None:
    """Probe a file and decode it, here and not in the child: libFuzzer follows what it reaches."""
    try:
        local_probe(path)
        with LocalDecoder(path) as decoder:
            for _ in decoder:
                pass
    except FootageError as error:
        if "\n" in str(error):
            raise RuntimeError(str(error)) from error


def bundle(path: Path) -> None:
    """Read a file as a bundle."""
    try:
        read_bundle(path)
    except CheckpointError as error:
        if "\n" in str(error):
            raise RuntimeError(str(error)) from error


def corpus(folder: Path, target: str) -> None:
    """A few small files to begin with."""
    if target == "bundle":
        (folder / "empty").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
        header = b'{"__metadata__":{"reroll":"{\\"format\\":5,\\"step\\":1,\\"record\\":{}}"}}'
        (folder / "record").write_bytes(len(header).to_bytes(8, "little") + header)
        record = json.loads((ROOT / "tests" / "golden" / "format-5" / "run.json").read_text())
        content = json.dumps({"format": 5, "step": 1, "record": record, "card": ""})
        header = json.dumps({"__metadata__": {"reroll": content}}).encode()
        (folder / "whole-record").write_bytes(len(header).to_bytes(8, "little") + header)
        return
    frames = moving_square(3, 16, 16)
    for name, options in {
        "a.mp4": {}, "a.mkv": {}, "a.avi": {"codec": "mpeg4"}, "a.webm": {"codec": "libvpx-vp9"},
        "a.gif": {"codec": "gif", "pix_fmt": "rgb8"},
        "a.ts": {"codec": "mpeg2video", "container_format": "mpegts"},
    }.items():  # fmt: skip
        write_clip(folder / name, frames, **options)
    write_picture(folder / "a.png", frames[0])


def main() -> None:
    """Fuzz until an option of libFuzzer says enough."""
    target = sys.argv.pop(1)
    open_it = {"footage": footage, "bundle": bundle}[target]
    with tempfile.TemporaryDirectory() as folder:
        seeds = Path(folder) / "corpus"
        seeds.mkdir()
        corpus(seeds, target)
        given = Path(folder) / ("given.mp4" if target == "footage" else "given.reroll.safetensors")

        gc.freeze()

        def test_one_input(content: bytes) -> None:
            given.write_bytes(content)
            open_it(given)
            gc.collect()  # as the decoding child does

        atheris.Setup([*sys.argv, f"-max_len={MOST_BYTES}", str(seeds)], test_one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()

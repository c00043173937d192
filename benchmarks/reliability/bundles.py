"""Rows 29 to 32: bundles and checkpoints from strangers."""

import json
import os
import pickle
import shutil
import struct
import time
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

import reroll
from benchmarks.reliability.processes import Toy, reference
from benchmarks.reliability.rows import Bench, by_tests, claim, forget_peak, peak_bytes, row
from reroll.errors import RerollError
from reroll.footage import find_footage, ingest


class _Payload:
    """Unpickled, it makes a file: harmless, and seen."""

    def __init__(self, canary: Path) -> None:
        self._canary = canary

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self._canary),)


@row(29, "pickles that make a file when they are read, under every name")
def pickles(bench: Bench) -> str:
    folder = bench.folder / "pickles"
    folder.mkdir(parents=True)
    canary = bench.folder / "canary"
    raw = pickle.dumps(_Payload(canary))
    pickle.loads(raw)
    claim(canary.is_dir(), "the payload does nothing")
    canary.rmdir()
    torch.save({"model": _Payload(canary)}, folder / "saved.pt")
    np.savez(folder / "saved.npz", model=np.array([_Payload(canary)], object))
    saved = (folder / "saved.pt").read_bytes()
    for name in ("a.pt", "a.ckpt", "a.pth", "a.pkl", ".metadata", "a.json", "a.reroll.safetensors", "a.mp4"):
        (folder / name).write_bytes(raw)
        (folder / f"zip-{name.lstrip('.')}").write_bytes(saved)
    (folder / "run").mkdir()
    for name in ("run.json", "metrics.jsonl"):
        (folder / "run" / name).write_bytes(raw)
    run = bench.folder / "planted"
    shutil.copytree(reference(bench), run)
    for path in (run / "checkpoints").iterdir():
        for name in ("ema.safetensors", "state.json"):
            (path / name).write_bytes(raw if name.endswith("json") else saved)
    tried = 0
    for path in [*folder.iterdir(), run]:
        for attempt in (reroll.load, lambda path: reroll.evaluate([path], bench.footage), reroll.whence):
            try:
                attempt(path)
            except RerollError as error:
                claim("\n" not in str(error), f"{path.name}: not one line")
            tried += 1
        with suppress(RerollError):
            ingest(find_footage([path])[0], short_side=16, cache_dir=bench.folder / "cache")
    for path in (folder / "saved.pt", folder / "a.pkl", run):
        ended = Toy(
            bench, "train", bench.footage, "-o", bench.folder / "new", "--init", path, "--steps", 5
        ).ended()
        claim(ended.code in (2, 3, 4) and "Traceback" not in ended.said, f"--init {path.name}: {ended.last}")
        tried += 1
    claim(not canary.exists(), "a pickle was executed")
    return f"{tried} attempts on {len(list(folder.iterdir())) + 1} paths: the canary was never made"


def _headed(header: bytes, length: int | None = None, body: bytes = b"") -> bytes:
    """A safetensors file with this header, which may say another length."""
    return struct.pack("<Q", len(header) if length is None else length) + header + body


def _with_record(entry: dict, record: str) -> bytes:
    return _headed(json.dumps({"__metadata__": {"reroll": record}, "a": entry}).encode(), body=bytes(16))


@row(30, "safetensors that lie: lengths, overlaps, depth, names twice, zeros deflated")
def lying_bundles(bench: Bench) -> str:
    bench.folder.mkdir(parents=True, exist_ok=True)
    entry = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    huge = {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}
    attacks = {
        "nothing": b"",
        "a length of 2^63": _headed(b"{}", 1 << 63),
        "a header of 100 MB": _headed(b" " * 100_000_000),
        "a length beyond the file": _headed(b"{}", 1 << 20),
        "an array": _headed(b"[]"),
        "no UTF-8": _headed(b"\xff\xfe{}"),
        "deep JSON": _headed(b'{"__metadata__":{"reroll":"' + b"[" * 100_000 + b'"}}'),
        "deep header": _headed(b"[" * 100_000),
        "overlapping": _headed(json.dumps({"a": entry, "b": entry}).encode(), body=bytes(16)),
        "a hole": _headed(json.dumps({"a": entry | {"data_offsets": [16, 32]}}).encode(), body=bytes(32)),
        "a huge tensor": _headed(json.dumps({"a": huge}).encode(), body=bytes(16)),
        "negative": _headed(json.dumps({"a": entry | {"shape": [-4]}}).encode(), body=bytes(16)),
        "twice": _headed(b'{"a":%b,"a":%b}' % ((json.dumps(entry).encode(),) * 2), body=bytes(16)),
        "a number for a record": _with_record(entry, "7"),
        "an empty record": _with_record(entry, json.dumps({"format": 5, "step": 1, "record": {}})),
    }  # fmt: skip
    with zipfile.ZipFile(bench.folder / "deflated.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data", bytes(100_000_000))
    attacks["zeros deflated"] = (bench.folder / "deflated.zip").read_bytes()
    slowest, which, grown = 0.0, "", 0
    for name, content in attacks.items():
        path = bench.folder / "made.reroll.safetensors"
        path.write_bytes(content)
        before, began = forget_peak(), time.monotonic()
        try:
            reroll.load(path)
            claim(False, f"{name}: it was loaded")
        except RerollError as error:
            claim("\n" not in str(error) and error.exit_code == 4, f"{name}: {error}")
        slowest, which = max((slowest, which), (time.monotonic() - began, name))
        grown = max(grown, peak_bytes() - before)
    claim(slowest < 0.1, f"{which}: {slowest * 1000:.0f} ms")
    claim(grown < 50 << 20, f"{grown >> 20} MB more")
    return f"{len(attacks)} refused within {slowest * 1000:.0f} ms, {grown >> 20} MB more"


@row(31, "archives with names that lead elsewhere")
def archives(bench: Bench) -> str:
    folder = bench.folder / "archives"
    folder.mkdir(parents=True)
    for name in ("a.zip", "a.mp4", "a.reroll.safetensors"):
        with zipfile.ZipFile(folder / name, "w") as archive:
            for member in ("../canary", "/tmp/reroll-canary", "x/../../canary", "C:\\canary"):
                archive.writestr(member, "canary")
    for path in folder.iterdir():
        for attempt in (reroll.load, lambda path: reroll.evaluate([path], bench.footage)):
            try:
                attempt(path)
                claim(False, f"{path.name} was taken")
            except RerollError:
                pass
        claim(not find_footage([path])[0], f"{path.name} was taken for footage")
    left = [path for path in bench.folder.rglob("*canary*")]
    claim(not left and not Path("/tmp/reroll-canary").exists(), f"unpacked: {left}")
    return "none is ever unpacked: reroll reads no archive"


by_tests(
    32,
    "bundles of other models, other versions, with weights that are no numbers",
    "tests/recipes/test_bundle.py",
)

"""Rows 12, 13, 14, 15 and 17: numbers that are not finite, memory, decoders that die, clocks."""

import json
import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from torch import isfinite

from benchmarks.reliability.processes import Ended, Toy, reference, rows_of, state_hash, train
from benchmarks.reliability.rows import FPS, Bench, claim, row, swinging
from reroll.export.media import VideoWriter, write_video
from reroll.training import checkpoint

TERMS = {
    "vae": ("reconstruction", "kl", "flow"),
    "gan": (
        "redrawing", "energy", "latent adversary", "latent discriminator", "latent penalty", "adversary",
        "discriminator", "penalty",
    ),
    "vaegan": ("reconstruction", "kl", "flow", "adversary", "discriminator", "penalty"),
}  # fmt: skip
"""What the recipes' losses are made of."""


@row(12, "infinite batches and weights, loss terms that are no numbers, a rate of 1e20")
def not_finite(bench: Bench) -> str:
    plants: list[tuple[str, list]] = [
        ("vaegan", ["rate", 1e20]),
        ("vaegan", ["term", "reconstruction", 10]),
        ("gan", ["weight", "discriminator", 10]),
    ]
    if bench.full:
        plants += [("vaegan", ["batch", 10]), ("vae", ["batch", 50]), ("gan", ["batch", 10])]
        plants += [("vaegan", ["weight", name, 10]) for name in ("encoder", "decoder")]
        plants += [("vaegan", ["weight", name, 58]) for name in ("discriminator", "decoder", "motion_prior")]
        plants += [("gan", ["weight", name, 10]) for name in ("decoder", "motion_prior")]
        plants += [(recipe, ["term", name, 0]) for recipe, names in TERMS.items() for name in names]
    ends = {6: 0, 0: 0}
    for number, (recipe, fault) in enumerate(plants):
        run = bench.folder / f"run-{number}"
        ended = train(bench, run, recipe=recipe, faults=[fault]).ended()
        claim("Traceback" not in ended.said, f"{recipe} {fault}: a traceback")
        claim(ended.code in ends, f"{recipe} {fault}: exit code {ended.code}: {ended.last}")
        ends[ended.code] += 1
        said = [line for line in (run / "events.jsonl").read_text().splitlines() if '"rollback"' in line]
        claim(bool(said), f"{recipe} {fault}: nothing was noticed")
        claim(
            any(word in said[0] for word in (" is nan", " is inf", "not finite")),
            f"{recipe} {fault}: {said[0]}",
        )
        if fault[0] == "term":
            named = f"{fault[1]} is nan" in said[0] or (
                fault[1] == "adversary" and "the gradient beside" in said[0]
            )
            claim(named, f"{recipe} {fault}: the term is not named: {said[0]}")
        loaded = checkpoint.load_newest(run / "checkpoints")
        claim(loaded is not None and loaded.finite, f"{recipe} {fault}: the newest checkpoint is not finite")
        assert loaded is not None
        finite = all(
            bool(isfinite(value).all()) for group in loaded.tensors.values() for value in group.values()
        )
        claim(finite, f"{recipe} {fault}: weights that are not finite were saved")
    return f"{len(plants)} planted: {ends[6]} ended with exit code 6, {ends[0]} went on; all checkpoints are finite"


@row(13, "slow divergence: a discriminator that wins, a posterior that collapses, samples that stand still")
def diverging(bench: Bench) -> str:
    sick: list[tuple[str, str, int, list, Callable[[list[dict]], int | None]]] = [
        ("discriminator too strong", "gan", 400, ["rates", 1.0, 0.01], _won),
        ("posterior collapse", "vae", 1000, ["collapse"], _collapsed),
        ("frozen motion", "gan", 60, ["still"], _stood_still),
    ]
    late = []
    for fault, recipe, steps, planted, began in sick:
        run = bench.folder / fault.replace(" ", "-")
        ended = train(bench, run, recipe=recipe, steps=steps, faults=[planted]).ended()
        claim(ended.code in (0, 6), ended.last)
        first, warned = began(rows_of(run)), _warnings(run, fault)
        claim(first is not None, f"{fault}: it did not come to that")
        assert first is not None
        claim(bool(warned), f"{fault}: no warning in {steps - first} steps")
        claim(f"health: {fault}: " in ended.said, f"{fault}: nothing is said")
        late.append(warned[0] - first)
        if fault != "frozen motion":  # after so few steps a toy stands still anyway
            claim(
                not _warnings(reference(bench, recipe=recipe), fault),
                f"{fault}: a healthy run is warned of it",
            )
    claim(max(late) <= 50, f"warned {max(late)} steps after it")
    return (
        f"warned {', '.join(map(str, late))} steps after they begin (the last by the first preview after it)"
    )


def _warnings(run: Path, fault: str) -> list[int]:
    """The steps at which a run was warned of a fault."""
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    return [event["step"] for event in events if event.get("fault") == fault]


def _collapsed(rows: list[dict]) -> int | None:
    """The first step of the first 25 whose KL is nearly nil on average."""
    kl = [(line["step"], line["kl"]) for line in rows if "kl" in line]
    low = [sum(value for _, value in kl[at : at + 25]) / 25 < 0.01 for at in range(len(kl) - 25)]
    return int(kl[low.index(True)][0]) if True in low else None


def _stood_still(rows: list[dict]) -> int | None:
    """The first step: samples never move."""
    energies = [line["motion_energy"] for line in rows if "motion_energy" in line]
    return int(rows[0]["step"]) if energies and max(energies) < 0.01 else None


def _won(rows: list[dict]) -> int | None:
    """The first step of the first 25 in which the discriminator is right 97 % of the time."""
    right = [0.5 + (line["real_sign"] - line["fake_sign"]) / 4 for line in rows]
    for at in range(len(right) - 25):
        if sum(right[at : at + 25]) / 25 > 0.97:
            return int(rows[at]["step"])
    return None


@row(14, "little memory: frames too large to train, a sample of 10,000 frames")
def little_memory(bench: Bench) -> str:
    large = bench.folder / "large"
    write_video(large / "clip.mp4", swinging(20).repeat(8, 1).repeat(8, 2), FPS)
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (6 << 30, hard))
    try:
        ended = Toy(
            bench, "train", large, "-o", bench.folder / "huge", "--size", 1024, "--steps", 20, "--threads", 1,
            "--precision", "fp32", "--device", "cpu",
        ).ended()  # fmt: skip
        ended.require_clean_error(5, " GB of memory and ", " are free")
        sizes = [_sampled(bench, seconds) for seconds in (4, 400 if bench.full else 40)]
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    growth = (sizes[1] - sizes[0]) >> 20
    claim(growth < 50, f"{growth} MB more for a longer sample")
    times = bench.count(10, 100)
    return f"refused before it is allocated; {growth} MB more for a sample {times} times as long"


def _sampled(bench: Bench, seconds: float) -> int:
    """Peak memory, in bytes, of a sample so long."""
    process = Toy(
        bench, "sample", reference(bench), "--seconds", seconds, "--denoise-steps", 1, "--threads", 1, "-o",
        bench.folder / "sample.mp4",
    )  # fmt: skip
    peak = 0
    watched = psutil.Process(process.process.pid)
    while process.process.poll() is None:
        try:
            peak = max(peak, watched.memory_info().rss)
        except psutil.Error:
            break
        time.sleep(0.02)
    ended = process.ended()
    claim(ended.code == 0, ended.last)
    return peak


@row(15, "the decoding process killed, and stopped")
def decoder_dies(bench: Bench) -> str:
    slowest = 0.0
    for turn, number in enumerate((signal.SIGKILL, signal.SIGSTOP)):
        footage = bench.folder / f"footage-{turn}"
        footage.mkdir(parents=True)
        _long_clip(footage / "a.mp4", 6000 + turn)
        write_video(footage / "b.mp4", swinging(60), FPS)
        process = train(bench, bench.folder / f"run-{turn}", steps=24, footage=footage)
        children: list[psutil.Process] = []

        def decoding(children: list[psutil.Process] = children, process: Toy = process) -> bool:
            try:
                children[:] = psutil.Process(process.process.pid).children()
            except psutil.Error:
                return False
            return bool(children) and any(child.cpu_times().user > 0.8 for child in children)

        process.wait_for(decoding)
        claim(bool(children), "no decoding process was seen")
        began = time.monotonic()
        for child in children:
            os.kill(child.pid, number)
        process.wait_for(lambda: "decoder crashed" in _said(bench) or "takes too long" in _said(bench))
        slowest = max(slowest, time.monotonic() - began)
        ended: Ended = process.ended()
        claim(ended.code == 0, f"{number.name}: {ended.last}")
        claim("a.mp4" in ended.said, f"{number.name}: the file is not named")
    claim(slowest <= 30, f"it took {slowest:.0f} s")
    return f"the file is skipped by name, the next one used, within {slowest:.1f} s"


def _said(bench: Bench) -> str:
    return (bench.folder / "stderr.txt").read_text(errors="replace")


def _long_clip(path: Path, frames: int) -> None:
    height, width = swinging(1).shape[1:3]
    with VideoWriter(path, FPS, 8 * height, 8 * width) as writer:
        for _ in range(frames // 60):
            writer.write(swinging(60).repeat(8, 1).repeat(8, 2))


@row(17, "the wall clock jumps, checkpoints with equal and reversed times")
def clocks(bench: Bench) -> str:
    straight = reference(bench)
    jumps = (3600.0, -3.2e8, -7200.0)
    for number, jump in enumerate(jumps):
        run = bench.folder / f"run-{number}"
        ended = train(bench, run, faults=[["clock", jump, 20], ["stop", 40]]).ended()
        claim(ended.code == 130, ended.last)
        times = {0: (1e9, 1e9), 1: (2e9, 2e9), 2: (1e9, 1e9)}[number]
        for age, path in enumerate(checkpoint.checkpoints(run / "checkpoints")):
            for file in (path, *path.iterdir()):
                os.utime(file, (times[0] - age * (number == 1), times[1] - age * (number == 1)))
        claim(train(bench, run).ended().code == 0, "it does not go on")
        claim(state_hash(run) == state_hash(straight), "another state than with a steady clock")
    return f"{len(jumps)} jumps, the same state hash; the newest is by step"

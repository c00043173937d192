"""Rows 1, 2, 3, 8, 9, 18 and 19: kills, signals, resuming, locks."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.reliability.processes import (
    Toy,
    newest_step,
    reference,
    rows_of,
    state_hash,
    strays,
    train,
)
from benchmarks.reliability.rows import FPS, FRAMES, ROOT, Bench, claim, row, swinging
from reroll.export.media import write_video
from reroll.training import checkpoint


@row(1, "kill -9 of the process group at random times, restarted each time")
def killed(bench: Bench) -> str:
    steps, wanted = (60, 5) if not bench.full else (400, 100)
    straight, runs, kills, lives, redone = reference(bench, steps), 1, 0, 0, 0
    every = json.loads((straight / "run.json").read_text())["plan"]["checkpoint_every"]
    start_up, per_step = _pace(bench, steps)
    # so much training a life that about as many lives as wanted are needed
    longest = start_up + 2.2 * steps / wanted * per_step + 2 * every * per_step
    while True:
        run = bench.folder / f"killed-{runs}"
        process = train(bench, run, steps=steps)
        lives += 1
        if kills < wanted:
            until = time.monotonic() + bench.random.uniform(0, longest)
            while time.monotonic() < until and process.process.poll() is None:
                time.sleep(0.01)
            if process.process.poll() is None:
                process.kill()
                kills += 1
                rows = rows_of(run)
                redone = max(redone, (rows[-1]["step"] if rows else 0) - newest_step(run))
                continue
        ended = process.ended()
        claim(ended.code == 0, f"after {kills} kills: {ended.last}")
        claim(len(strays(run)) <= 1, f"left behind: {strays(run)}")
        claim(state_hash(run) == state_hash(straight), "another state than without kills")
        if kills == wanted:
            break
        runs += 1
    claim(redone <= every, f"{redone} steps were done again, checkpoints are {every} apart")
    return f"{kills} kills in {lives} lives of {runs} runs, {redone} of {every} steps redone, the same state hash"


def _pace(bench: Bench, steps: int) -> tuple[float, float]:
    """Seconds from the command to the first step, and for a step."""
    process = train(bench, bench.folder / "pace", steps=steps)
    began = time.monotonic()
    process.wait_for(lambda: bool(rows_of(bench.folder / "pace")))
    first = time.monotonic()
    process.ended()
    return first - began, (time.monotonic() - first) / steps


KILLED_SAVES = """
import os, sys
from pathlib import Path
import torch
from reroll.training.checkpoint import save

def die_at(limit):
    seen = 0
    def point(name, args=()):
        nonlocal seen
        if name in ("fsync", "os.remove", "os.rmdir") or (
            name in ("open", "os.rename", "os.mkdir") and "step-" in str(args[0])
        ):
            seen += 1
            if seen > limit:
                os._exit(9)
    sync = os.fsync
    os.fsync = lambda descriptor: (sync(descriptor), point("fsync"))
    sys.addaudithook(point)

def weights(value):
    return {"weights": {"a": torch.full((64,), value)}, "ema": {"a": torch.ones(3)}}

for limit in range(200):
    root = Path(sys.argv[1], f"{limit:03d}")
    save(root, 1, weights(1.0), {"step": 1})
    child = os.fork()
    if child == 0:
        die_at(limit)
        save(root, 2, weights(2.0), {"step": 2}, keep=1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code != 9:
        sys.exit(code)
"""
"""A process that dies after each file operation of a save in turn, with `keep=1`, the hardest case."""


@row(2, "a kill at every file operation of a save, TMPDIR on another file system too")
def killed_while_saving(bench: Bench) -> str:
    points = 0
    for turn in range(bench.count(1, 10)):
        for name, place in (("here", None), ("elsewhere", "/dev/shm")):
            if place is not None and not Path(place).is_dir():
                continue
            root = bench.folder / f"saves-{name}-{turn}"
            root.mkdir(parents=True)
            environment = os.environ | ({"TMPDIR": place} if place else {})
            subprocess.run([sys.executable, "-c", KILLED_SAVES, root], check=True, env=environment, cwd=ROOT)
            steps = []
            for each in sorted(root.iterdir()):
                refused: list[str] = []
                loaded = checkpoint.load_newest(each, refused.append)
                claim(loaded is not None and not refused, f"torn at {each.name}: {refused}")
                assert loaded is not None
                claim(loaded.state == {"step": loaded.step}, f"mixed at {each.name}")
                weights = loaded.tensors["weights"]["a"]
                claim(
                    bool((weights == loaded.step).all()) and len(weights) == 64,
                    f"other weights at {each.name}",
                )
                claim(len(list(each.iterdir())) <= 2, f"more than one stray at {each.name}")
                checkpoint.sweep(each)
                claim(all(checkpoint.load(path) for path in each.iterdir()), f"not swept at {each.name}")
                steps.append(loaded.step)
            claim(steps == sorted(steps) and set(steps) == {1, 2}, f"not from the old to the new: {steps}")
            claim(len(steps) > 20, "the save was not hooked")
            points += len(steps)
    return f"{points} kill points, 0 torn"


@row(3, "SIGTERM and SIGINT at random times, twice, and during a save")
def signalled(bench: Bench) -> str:
    steps = 400
    straight, run = reference(bench, steps), bench.folder / "signalled"
    sent, slowest, redone = 0, 0.0, 0
    for turn in range(bench.count(4, 50)):
        if run.exists() and json.loads((run / "run.json").read_text())["status"] == "finished":
            claim(state_hash(run) == state_hash(straight), "another state than without signals")
            shutil.rmtree(run)
        number = (signal.SIGTERM, signal.SIGINT)[turn % 2]
        before = len(rows_of(run))
        process = train(bench, run, steps=steps)
        process.wait_for(lambda before=before: len(rows_of(run)) > before)
        if turn % 4 == 3:
            _wait_for_save(run, process)
        else:
            time.sleep(float(bench.random.uniform(0, 1.0)))
        process.signal(number)
        if turn % 4 in (1, 2):
            time.sleep(float(bench.random.uniform(0, 0.05)))
            process.signal(number)
        began = time.monotonic()
        ended = process.ended(60)
        if ended.code == 0:  # it had just finished
            continue
        sent += 1
        slowest = max(slowest, time.monotonic() - began)
        claim(ended.code == 128 + number, f"exit code {ended.code}: {ended.last}")
        claim("Traceback" not in ended.said, f"a traceback: {ended.last}")
        claim(not process.is_alive(), "a process of it is left")
        redone = max(redone, rows_of(run)[-1]["step"] - newest_step(run))
    claim(sent >= bench.count(2, 40), f"only {sent} signals came before the end")
    claim(redone <= 1, f"{redone} steps are done again")
    claim(slowest <= 5, f"{slowest:.1f} s until the end")
    claim(train(bench, run, steps=steps).ended().code == 0, "it does not go on")
    claim(state_hash(run) == state_hash(straight), "another state than without signals")
    return f"{sent} signals, ended within {slowest:.1f} s, at most {redone} steps done again, the same state hash"


def _wait_for_save(run: Path, process: Toy) -> None:
    """Until a checkpoint is being written."""
    while process.process.poll() is None and not any(
        ".tmp-" in path.name for path in (run / "checkpoints").iterdir()
    ):
        time.sleep(0.0005)


@row(8, "stopped and resumed at every step")
def resumed(bench: Bench) -> str:
    steps = 60
    straight = reference(bench, steps)
    every = range(1, steps, bench.count(12, 1))
    run = bench.folder / "resumed"
    for step in every:
        process = train(bench, run, steps=steps, faults=[["stop", step]])
        ended = process.ended()
        claim(ended.code == 130 and newest_step(run) == step, f"not stopped at {step}: {ended.last}")
    claim(train(bench, run, steps=steps).ended().code == 0, "it does not go on")
    claim(state_hash(run) == state_hash(straight), "another state than without stops")
    return f"stopped at {len(every)} of {steps} steps, the same state hash"


@row(
    9, "the same seed in fresh processes, random hash seeds, files made in another order, one and two threads"
)
def repeated(bench: Bench) -> str:
    hashes: dict[int, set[str]] = {1: set(), 2: set()}
    clips = {f"{name}.mp4": swinging(FRAMES)[10 * at :] for at, name in enumerate("abc")}
    for turn in range(bench.count(2, 5)):
        for threads in hashes:
            footage = bench.folder / "footage" / f"{turn}-{threads}" / "footage"
            footage.mkdir(parents=True)
            for name in bench.random.permutation(list(clips)):
                write_video(footage / name, clips[name], FPS)
            run = bench.folder / f"run-{turn}-{threads}"
            ended = train(
                bench, run, steps=24, threads=threads, footage=footage,
                PYTHONHASHSEED=str(int(bench.random.integers(1, 1000))),
            ).ended()  # fmt: skip
            claim(ended.code == 0, ended.last)
            hashes[threads].add(state_hash(run))
    claim(
        all(len(found) == 1 for found in hashes.values()),
        f"not one hash for each number of threads: {hashes}",
    )
    run = bench.folder / "run-0-1"
    ended = train(
        bench, run, "--add-minutes", 0.2, steps=24, threads=2, footage=bench.folder / "footage/0-1/footage"
    ).ended()
    claim(ended.code == 0, f"it does not go on with two threads: {ended.last}")
    claim("threads" in ended.said, f"another number of threads is not said: {ended.said[-300:]}")
    return f"one hash for one thread, {'the same' if hashes[1] == hashes[2] else 'another'} for two; a change is said"


@row(18, "two trainers in one run directory, and a killed owner")
def two_trainers(bench: Bench) -> str:
    run = bench.folder / "shared"
    owner = train(bench, run, steps=5000, faults=[["slow", 0.05]])
    owner.wait_for(lambda: bool(rows_of(run)))
    slowest = 0.0
    train(bench, run, steps=5000).ended().require_clean_error(7, f"process {owner.process.pid} on ")
    for _ in range(bench.count(5, 50)):  # the lock itself: most of a command's time is Python's start
        slowest = max(slowest, _refused_seconds(run, owner.process.pid))
    claim(slowest <= 1, f"refused after {slowest:.1f} s")
    owner.kill()
    again = train(bench, run, steps=5000, faults=[["slow", 0.05]])
    before = len(rows_of(run))
    again.wait_for(lambda: len(rows_of(run)) > before)
    claim(again.process.poll() is None, "the lock of a killed owner is not free")
    again.kill()
    return f"a command and {bench.count(5, 50)} locks refused by name, within {slowest:.3f} s; free after kill -9"


def _refused_seconds(run: Path, owner: int) -> float:
    from reroll.errors import BusyError
    from reroll.training.lock import lock_run

    began = time.monotonic()
    try:
        with lock_run(run):
            claim(False, "a second owner")
    except BusyError as error:
        claim(f"process {owner} on " in str(error), str(error))
    return time.monotonic() - began


@row(19, "all checkpoints but the oldest damaged (kills while old ones are removed: row 2)")
def damaged_newest(bench: Bench) -> str:
    run = bench.folder / "run"
    shutil.copytree(reference(bench), run)
    found = checkpoint.checkpoints(run / "checkpoints")
    claim(len(found) >= 2, "fewer than two checkpoints were kept")
    for path in found[1:]:
        weights = path / "ema.safetensors"
        content = bytearray(weights.read_bytes())
        content[len(content) // 2] ^= 1
        weights.write_bytes(content)
    refused: list[str] = []
    loaded = checkpoint.load_newest(run / "checkpoints", refused.append)
    claim(loaded is not None and loaded.path == found[0], "not the one that is whole")
    claim(len(refused) == len(found) - 1, f"not all were said: {refused}")
    return f"{len(found) - 1} of {len(found)} damaged, the one before is taken"

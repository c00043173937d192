"""Row 4: disks that are too small, fill up, have room again, fail, or turn read-only, and a limit of file size."""

import errno
import resource
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.reliability.processes import Ended, Toy, newest_step, reference, state_hash, strays, train
from benchmarks.reliability.rows import Bench, claim, row
from reroll.training import checkpoint

SLOW = ["slow", 0.05]


@contextmanager
def mounted(place: Path, *options: str) -> Iterator[bool]:
    """A mount at a folder for so long; False where this process may not mount."""
    place.mkdir(parents=True, exist_ok=True)
    made = _mount(*options, str(place))
    try:
        yield made
    finally:
        if made:
            subprocess.run(["umount", "-l", str(place)], capture_output=True, check=False)


def _mount(*options: str) -> bool:
    try:
        return subprocess.run(["mount", *options], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@row(4, "full disks, at the start, in the middle and for a moment; a limit of file size; read-only; failing")
def full_disk(bench: Bench) -> str:
    straight = reference(bench)
    size = sum(file.stat().st_size for file in checkpoint.checkpoints(straight / "checkpoints")[-1].iterdir())
    parts = [
        _too_small(bench, size), _filled(bench, straight, size), _for_a_moment(bench, straight),
        _limited(bench, straight, size), _read_only(bench, straight), _failing(bench, straight),
    ]  # fmt: skip
    done = [part for part in parts if part is not None]
    if len(done) < len(parts):
        claim(not bench.full, "no file system can be mounted here")
        done.append(f"{len(parts) - len(done)} parts left out, no file system can be mounted here")
    return "; ".join(done) + ": one line, intact, goes on with the same state hash"


def _too_small(bench: Bench, size: int) -> str | None:
    """A file system of two checkpoints: refused before anything is trained."""
    with mounted(bench.folder / "small", "-t", "tmpfs", "-o", f"size={2 * size}", "tmpfs") as made:
        if not made:
            return None
        run = bench.folder / "small" / "run"
        train(bench, run).ended().require_clean_error(5, " bytes and ", " are free")
        claim(not checkpoint.checkpoints(run / "checkpoints"), "training began on a disk that is too small")
    return "too small: refused at the start"


def _filled(bench: Bench, straight: Path, size: int) -> str | None:
    """A file system that is filled in the middle of a run, but for some share of what a checkpoint needs. Every other
    time the run does not look before it writes, so that the disk is full in the middle of a file."""
    levels = [0.0, 0.5] if not bench.full else [level / 20 for level in range(20)]
    with mounted(bench.folder / "disk", "-t", "tmpfs", "-o", "size=256m", "tmpfs") as made:
        if not made:
            return None
        for number, level in enumerate(levels):
            run = bench.folder / "disk" / "run"
            process = _begun(bench, run, *([["blind"]] if number % 2 else []))
            filler = _fill(process, run, int(level * size))
            ended = process.ended()
            ended.require_clean_error(5)
            claim(ended.said.count("trying again") >= 3, f"not tried again: {ended.said[-300:]}")
            _require_intact(run)
            if number == 0:
                train(bench, run).ended().require_clean_error(5)  # still full
                _require_intact(run)
            filler.unlink()
            _goes_on(bench, run, straight)
    return f"filled to {len(levels)} levels"


def _for_a_moment(bench: Bench, straight: Path) -> str | None:
    """There is room again before it gives up."""
    with mounted(bench.folder / "moment", "-t", "tmpfs", "-o", "size=256m", "tmpfs") as made:
        if not made:
            return None
        run = bench.folder / "moment" / "run"
        process = _begun(bench, run)
        filler = _fill(process, run, 0)
        process.wait_for(lambda: "trying again" in process.said_so_far())
        filler.unlink()
        ended = process.ended()
        claim(ended.code == 0, f"it gave up: {ended.last}")
        claim(state_hash(run) == state_hash(straight), "another state than with room")
    return "full for a moment: it waits"


def _limited(bench: Bench, straight: Path, size: int) -> str:
    """`ulimit -f`, from some moment on."""
    run = bench.folder / "limited"
    process = _begun(bench, run)
    resource.prlimit(process.process.pid, resource.RLIMIT_FSIZE, (size // 8, size // 8))
    process.ended().require_clean_error(5)
    _require_intact(run)
    _goes_on(bench, run, straight)
    return "ulimit -f"


def _read_only(bench: Bench, straight: Path) -> str | None:
    """The folder of checkpoints can no longer be written to."""
    run = bench.folder / "read-only"
    process = _begun(bench, run)
    place = str(run / "checkpoints")
    with mounted(run / "checkpoints", "--bind", place) as made:
        if not made or not _mount("-o", "remount,bind,ro", place):
            process.kill()
            return None
        ended: Ended = process.ended()
        ended.require_clean_error(4, "cannot be written")
        _require_intact(run)
    _goes_on(bench, run, straight)
    return "read-only"


def _failing(bench: Bench, straight: Path) -> str:
    """A disk that answers with an error when it is to sync."""
    run = bench.folder / "failing"
    ended = train(bench, run, faults=[["sync", 20, errno.EIO]]).ended()
    ended.require_clean_error(4, "cannot be written")
    _require_intact(run)
    _goes_on(bench, run, straight)
    return "EIO"


def _begun(bench: Bench, run: Path, *faults: list) -> Toy:
    """A training that has made a checkpoint after its first steps."""
    shutil.rmtree(run, ignore_errors=True)
    process = train(bench, run, faults=[SLOW, *faults])
    process.wait_for(lambda: newest_step(run) > 0)
    return process


def _fill(process: Toy, run: Path, left: int) -> Path:
    """Fill the disk a run is on but for so many bytes, while it holds still."""
    filler = run.parent / "filler"
    process.signal(signal.SIGSTOP)
    with filler.open("wb") as out:
        out.write(bytes(max(0, shutil.disk_usage(run).free - left)))
    process.signal(signal.SIGCONT)
    return filler


def _require_intact(run: Path) -> None:
    claim(not strays(run), f"left behind: {strays(run)}")
    found = checkpoint.checkpoints(run / "checkpoints")
    claim(len(found) >= 1, "no checkpoint is left")
    for path in found:
        checkpoint.load(path)


def _goes_on(bench: Bench, run: Path, straight: Path) -> None:
    ended = train(bench, run).ended()
    claim(ended.code == 0, f"it does not go on: {ended.last}")
    claim(state_hash(run) == state_hash(straight), "another state than without the fault")

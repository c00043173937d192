"""Rows 5, 6, 7 and 11: torn, flipped, missing, foreign and old files."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.reliability.processes import newest_step, reference, rows_of, state_hash, train
from benchmarks.reliability.rows import Bench, claim, row
from reroll.errors import CheckpointError
from reroll.training import checkpoint


@row(5, "every file of a checkpoint cut short")
def truncated(bench: Bench) -> str:
    cuts = 0

    def cut(length: int) -> Callable[[bytes], bytes]:
        return lambda content: content[:length]

    with _victim(bench) as path:
        for file in sorted(path.iterdir()):
            size = file.stat().st_size
            edge, middle = bench.count(20, 200), bench.count(40, 200)
            lengths = {*range(min(edge, size)), *range(max(0, size - edge), size)}
            lengths |= {int(length) for length in bench.random.integers(0, size, middle)}
            for length in sorted(lengths):
                claim(
                    file.name in (_refused(path, file, cut(length)) or ""),
                    f"{file.name} of {length} of {size} bytes",
                )
                cuts += 1
        fallback = _falls_back(bench, path, "ema.safetensors", cut(1000))
    return f"{cuts} of {cuts} refused by name; {fallback}"


@row(6, "single bits flipped in every file of a checkpoint")
def flipped(bench: Bench) -> str:
    count = bench.count(100, 1000)
    with _victim(bench) as path:
        files = sorted(path.iterdir())
        for number in range(count):
            file = files[number % len(files)]
            at, bit = int(bench.random.integers(0, file.stat().st_size)), int(bench.random.integers(0, 8))

            def flip(content: bytes, at: int = at, bit: int = bit) -> bytes:
                return content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]

            claim(_refused(path, file, flip) is not None, f"bit {bit} of byte {at} of {file.name}")
    return f"{count} of {count} detected"


@row(7, "files of a checkpoint missing, empty, of another step, or one too many")
def foreign(bench: Bench) -> str:
    tried = 0
    with _victim(bench) as path:
        other = checkpoint.checkpoints(path.parent)[0]
        claim(other != path, "there is but one checkpoint")
        for file in sorted(path.iterdir()):
            theirs = other / file.name if (other / file.name).exists() else other / "state.json"
            for change in (lambda _: None, lambda _: b"", lambda _, theirs=theirs: theirs.read_bytes()):
                claim(file.name in (_refused(path, file, change) or ""), f"{file.name} changed and not named")
                tried += 1
        more = path / "more.safetensors"
        more.write_bytes((path / "ema.safetensors").read_bytes())
        try:
            checkpoint.load(path)
            claim(False, "a file too many is not noticed")
        except CheckpointError as error:
            claim(more.name in str(error), str(error))
        more.unlink()
    return f"{tried + 1} of {tried + 1} refused by name"


@contextmanager
def _victim(bench: Bench) -> Iterator[Path]:
    """The newest checkpoint of a copy of a run."""
    run = bench.folder / "run"
    shutil.copytree(reference(bench), run)
    yield checkpoint.checkpoints(run / "checkpoints")[-1]


def _refused(path: Path, file: Path, change: Callable[[bytes], bytes | None]) -> str | None:
    """The line that refuses a checkpoint one of whose files was changed (None: removed), or None; put right again."""
    content = file.read_bytes()
    changed = change(content)
    file.unlink() if changed is None else file.write_bytes(changed)
    try:
        checkpoint.load(path)
    except CheckpointError as error:
        return str(error)
    finally:
        file.write_bytes(content)
    return None


def _falls_back(bench: Bench, path: Path, name: str, change: Callable[[bytes], bytes]) -> str:
    """The command goes on from the checkpoint before a damaged one, says so, and comes to the same state."""
    run = bench.folder / "stopped"
    ended = train(bench, run, faults=[["stop", 45]]).ended()
    claim(ended.code == 130 and newest_step(run) == 45, ended.last)
    file = checkpoint.checkpoints(run / "checkpoints")[-1] / name
    file.write_bytes(change(file.read_bytes()))
    ended = train(bench, run).ended()
    claim(
        ended.code == 0 and "refused" in ended.said and name in ended.said, f"not said: {ended.said[-500:]}"
    )
    claim(rows_of(run)[-1]["step"] == 60, "not all steps were done")
    claim(state_hash(run) == state_hash(reference(bench)), "another state than without damage")
    return "training falls back to the one before, says so, and comes to the same state"


@row(11, "resumed with other options or other footage; the golden run of every format")
def changed(bench: Bench) -> str:
    run = bench.folder / "run"
    shutil.copytree(reference(bench), run)
    for option, value in (("--seed", 7), ("--model", "l")):
        train(bench, run, option, value).ended().require_clean_error(2, option.strip("-"))
    train(bench, run, recipe="gan").ended().require_clean_error(2, "recipe")
    train(bench, run, size=40).ended().require_clean_error(2, "size")
    elsewhere = bench.folder / "other"
    shutil.copytree(bench.footage, elsewhere)
    shutil.copy(elsewhere / "clip.mp4", elsewhere / "again.mp4")
    with (elsewhere / "clip.mp4").open("ab") as clip:
        clip.write(bytes(16))
    ended = train(bench, run, footage=elsewhere).ended()
    claim(ended.code in (2, 3), f"other footage: exit code {ended.code}")
    ended.require_clean_error(ended.code, "footage")
    tests = ["tests/test_golden.py"]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *tests], capture_output=True, text=True, check=False,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    claim(result.returncode == 0, result.stdout[-500:])
    return "other options are named, exit code 2; golden runs load"

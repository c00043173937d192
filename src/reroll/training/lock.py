"""One trainer a run directory. The operating system holds the lock, so that a killed owner frees it."""

import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from reroll.errors import BusyError
from reroll.training.disk import full_disk_is_said

LOCK = ".lock"


@contextmanager
def lock_run(run_dir: Path) -> Iterator[None]:
    """Hold `run_dir` for training until the block ends; folders made for it that stay empty are removed again.

    Raises:
        BusyError: Somebody else does; the message names their process and host. At once, without waiting.
    """
    made = [folder for folder in (run_dir, *run_dir.parents) if not folder.exists()]
    run_dir.mkdir(parents=True, exist_ok=True)
    owner = run_dir / "owner.json"
    lock = FileLock(run_dir / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise BusyError(
            f"{run_dir}: {_named(owner)} is training here; wait for it, end it, or choose another -o."
        ) from None
    try:
        with full_disk_is_said(owner, owner.name):
            owner.write_text(json.dumps({"pid": os.getpid(), "host": platform.node()}) + "\n")
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()
        if made and [path.name for path in run_dir.iterdir()] == [LOCK]:
            (run_dir / LOCK).unlink()
            with suppress(OSError):
                for folder in made:
                    folder.rmdir()


def _named(owner: Path) -> str:
    try:
        who = json.loads(owner.read_text())
        return f"process {who['pid']} on {who['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"

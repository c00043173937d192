"""One trainer a run directory. The operating system holds the lock, so that a killed owner frees it."""

import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from reroll.errors import BusyError


@contextmanager
def lock_run(run_dir: Path) -> Iterator[None]:
    """Hold `run_dir` for training until the block ends.

    Raises:
        BusyError: Somebody else does; the message names their process and host. At once, without waiting.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    owner = run_dir / "owner.json"
    lock = FileLock(run_dir / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise BusyError(
            f"{run_dir}: {_named(owner)} is training here; wait for it, end it, or choose another -o."
        ) from None
    try:
        owner.write_text(json.dumps({"pid": os.getpid(), "host": platform.node()}) + "\n")
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


def _named(owner: Path) -> str:
    try:
        who = json.loads(owner.read_text())
        return f"process {who['pid']} on {who['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"

"""A disk that fills up: looked at before something is written, said in one line, and waited for a little.

Overnight other programs fill disks and empty them again: what could not be written is tried again a few times before a
run is given up, with its last checkpoint whole.
"""

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from reroll.errors import NO_SPACE, SpaceError

WAITS_SECONDS = (5.0, 15.0, 40.0)
"""Before each time that it is tried again."""
T = TypeVar("T")


def patiently(write: Callable[[], T], say: Callable[[str], None], stopped: Callable[[], bool]) -> T:
    """What `write` returns, which is called again if it raises SpaceError: after each of the waits, which are said, and
    no more once `stopped`."""
    for seconds in WAITS_SECONDS:
        try:
            return write()
        except SpaceError as error:
            if stopped():
                raise
            say(f"{str(error).partition(';')[0]}; trying again in {seconds:g} s.")
        until = time.monotonic() + seconds
        while time.monotonic() < until and not stopped():
            time.sleep(0.05)
    return write()


def require_space(directory: Path, needed_bytes: int, purpose: str) -> None:
    """Raise `SpaceError` unless `directory`'s disk has room for `needed_bytes` and a little to spare."""
    if shutil.disk_usage(directory).free < needed_bytes + (1 << 20):
        raise space_error(directory, needed_bytes, purpose, "")


def space_error(directory: Path, needed_bytes: int, purpose: str, cause: str) -> SpaceError:
    """The line that says how much is needed and how much there is; or the cause, where that is a limit or a quota."""
    free = shutil.disk_usage(directory).free
    figures = f"needs {needed_bytes} bytes and {free} are free"
    if cause and free > needed_bytes + (1 << 20):
        figures = f"cannot be written ({cause.lower()})"
    return SpaceError(
        f"{directory}: {purpose} {figures}; make room, or choose another disk with -o, and run the same command again."
    )


@contextlib.contextmanager
def full_disk_is_said(path: Path, purpose: str) -> Iterator[None]:
    """A disk that is full while `path` is written is a `SpaceError`."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        raise SpaceError(
            f"{path.parent}: {purpose} cannot be written ({(error.strerror or str(error)).lower()}); make room, and run"
            " the same command again."
        ) from None

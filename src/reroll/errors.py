"""The whole tree of errors a user can meet. Every message is one line: what is wrong, with which file or
option, and what to do.

    RerollError            exit code 1
    ├── UsageError         2   an option or a combination of options makes no sense
    ├── FootageError       3   a file cannot be used, or there is too little footage
    ├── CheckpointError    4   a run or checkpoint is missing, damaged or from another architecture
    ├── SpaceError         5   the disk or the memory does not suffice
    ├── DivergedError      6   training broke down three times
    ├── BusyError          7   another process is training in this run directory
    └── InterruptedRun   130   (143 for SIGTERM) stopped by the user, saved
"""

import errno

NO_SPACE = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
"""What the system says when a disk, a quota or a limit of file size does not suffice."""


def one_line(said: object) -> str:
    """What a library or the system says, as one line: messages may hold the line breaks of a file."""
    return " ".join(str(said).split())


class RerollError(Exception):
    """Base of every error that is shown to a user as one line. `exit_code` is the process's."""

    exit_code = 1


class UsageError(RerollError):
    """An option or a combination of options makes no sense."""

    exit_code = 2


class FootageError(RerollError):
    """A file cannot be used, or there is too little footage to train on."""

    exit_code = 3


class CheckpointError(RerollError):
    """A run or a checkpoint is missing, damaged, or was made by another architecture."""

    exit_code = 4


class SpaceError(RerollError):
    """The disk or the memory does not suffice for what was asked."""

    exit_code = 5


class DivergedError(RerollError):
    """Training became non-finite, or exploded, three times."""

    exit_code = 6


class BusyError(RerollError):
    """Another process is training in this run directory."""

    exit_code = 7


class InterruptedRun(RerollError):
    """Ctrl-C or SIGTERM: the run was saved and can go on. `exit_code` is 130 or 143."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code

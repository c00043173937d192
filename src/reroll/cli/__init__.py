"""The `reroll` command: one verb a function, each a thin face of `reroll.api`.

Errors of ours become one line and their exit code; Ctrl-C during training saves first.
"""

import io
import signal
import sys
from types import FrameType

from cyclopts.exceptions import CycloptsError
from rich.console import Console

from reroll.cli import study, tasks  # noqa: F401 (their verbs)
from reroll.cli.app import app, parse_seeds
from reroll.errors import InterruptedRun, RerollError, SpaceError, one_line

__all__ = ["app", "main", "parse_seeds"]


def main() -> None:
    """Entry point: run, and turn errors into one line and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a console that is not UTF-8 shows \xe4 for an ä
            stream.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGTERM, _terminate)
    sys.unraisablehook = _tell_unraisable
    try:
        _answer()
    except KeyboardInterrupt as stop:
        _end_in_peace()
        first = stop.__context__  # Ctrl-C once more while the first was being answered
        message = str(first) if isinstance(first, InterruptedRun) else "stopped."
        _fail(message, 128 + int(*stop.args or [signal.SIGINT]))
    finally:
        _end_in_peace()


def _answer() -> None:
    try:
        app(sys.argv[1:], exit_on_error=False, print_error=False)
    except CycloptsError as error:
        _fail(str(error).strip().splitlines()[0], 2)
    except InterruptedRun as error:
        _end_in_peace()
        _fail(str(error), error.exit_code)
    except RerollError as error:
        _fail(str(error), error.exit_code)
    except ImportError as error:
        if (error.name or "").startswith("reroll"):
            raise
        _fail(f"a package is missing or does not load ({error}); in a clone of reroll: pip install .", 1)
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        _fail(
            "the memory does not suffice; end other programs, or ask for less at a time.",
            SpaceError.exit_code,
        )
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
    except OSError as error:
        _fail(f"{error.filename or 'a file'}: {error.strerror or error}.", 1)


def _out_of_memory(error: Exception) -> bool:
    from reroll.training.engine import out_of_memory

    return out_of_memory(error)


def _terminate(number: int, frame: FrameType | None) -> None:
    """SIGTERM ends as Ctrl-C does, whatever was begun being tidied up."""
    raise KeyboardInterrupt(number)


def _tell_unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    """As ever, but for a signal that hits while an object is cleared away: a traceback says nothing to a user."""
    if not issubclass(unraisable.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)


def _end_in_peace() -> None:
    """All is done or saved: one more signal must not make a traceback, or another exit code, of the end."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _fail(message: str, code: int) -> None:
    Console(stderr=True).print(f"reroll: {one_line(message)}", highlight=False, markup=False, soft_wrap=True)
    sys.exit(code)

"""`reroll` and `python -m reroll`: Ctrl-C is one line from the start, while the command itself is loaded, too."""

import sys


def main() -> None:
    """Entry point of the console script."""
    try:
        from reroll.cli import main as command
    except KeyboardInterrupt:
        sys.stderr.write("reroll: stopped.\n")
        sys.exit(130)
    command()


if __name__ == "__main__":
    main()

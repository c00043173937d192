"""`python -m reroll.cli`."""

from reroll.cli import main

main()

"""Beside being pytest's own file, this one puts `tests/` on the path, so that every test can import
`footage_maker`."""

import signal

from hypothesis import settings

# A shell that starts the tests in the background has Ctrl-C ignored; the tests are about what it does.
signal.signal(signal.SIGINT, signal.default_int_handler)


# A machine that does something else meanwhile is slow, not wrong.
settings.register_profile("reroll", deadline=None)
settings.load_profile("reroll")

"""Beside being pytest's own file, this one puts `tests/` on the path, so that every test can import
`footage_maker`."""

from hypothesis import settings

# A machine that does something else meanwhile is slow, not wrong.
settings.register_profile("reroll", deadline=None)
settings.load_profile("reroll")

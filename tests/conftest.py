"""Beside being pytest's own file, this one puts `tests/` on the path, so that every test can import
`footage_maker`."""

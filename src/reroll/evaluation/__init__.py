"""Judging a generator offline: motion, pixel distances, nearest footage, and the report."""

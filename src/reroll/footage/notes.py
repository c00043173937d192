"""What ingest did to the footage, in sentences for the user: cropped, enlarged, dropped, damaged, cut
short.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from reroll.footage.container import shown
from reroll.footage.intake import KnownFile

NAMED_FILES = 4
"""A note names so many files at most, then counts."""


def some(names: Sequence[str]) -> str:
    """A list for people: a few names, then a count."""
    rest = len(names) - NAMED_FILES
    return ", ".join(names[:NAMED_FILES]) + (f" and {rest} more" if rest > 0 else "")


def ingest_notes(entries: Sequence[tuple[KnownFile, dict[str, Any]]], height: int, width: int) -> list[str]:
    """What was done to the footage, in sentences for the user."""
    notes = []
    aspect = width / height
    rounding = max(0.04, 2 / min(height, width))
    cropped = [
        f"{shown(item.file.path)} ({item.width}x{item.height})"
        for item, _ in entries
        if abs(np.log(item.width / item.height / aspect)) > rounding
    ]
    if cropped:
        notes.append(f"cropped in the middle to {width}x{height}, being of another shape: {some(cropped)}")
    small = [
        shown(item.file.path) for item, _ in entries if min(item.width, item.height) < min(height, width)
    ]
    if small:
        notes.append(f"smaller than {width}x{height}, so enlarged: {some(small)}")
    notes += _dropped(entries)
    dissolves = [
        (shown(item.file.path), len(index["dissolves"])) for item, index in entries if index["dissolves"]
    ]
    if dissolves:
        listed = some([f"{name} {count}" for name, count in dissolves])
        notes.append(
            f"left out {sum(count for _, count in dissolves)} dissolves or fades between shots: {listed}"
        )
    for item, index in entries:
        notes += _reading_notes(shown(item.file.path), index)
    return notes


def _dropped(entries: Sequence[tuple[KnownFile, dict[str, Any]]]) -> list[str]:
    """One sentence each for still stretches and repeats."""
    decoded = sum(index["decoded_frames"] for _, index in entries)
    notes = []
    for key, what in (("stills", "frames of still stretches"), ("repeats", "repeated frames")):
        count = sum(index[key] for _, index in entries)
        if count:
            worst = sorted((pair for pair in entries if pair[1][key]), key=lambda pair: -pair[1][key])
            names = [f"{shown(item.file.path)} {index[key]}" for item, index in worst]
            notes.append(f"dropped {count} of {decoded} frames as {what}: {some(names)}")
    return notes


def _reading_notes(name: str, index: dict[str, Any]) -> list[str]:
    """What was odd in reading one file."""
    notes = []
    declared, seconds = index["declared_seconds"], index["seconds"]
    if declared and seconds < 0.98 * declared and declared - seconds > 1.5 / index["fps"]:
        notes.append(
            f"{name} ends early: {seconds:.2f} s could be decoded of the {declared:.2f} s it declares"
        )
    if index["damaged_packets"]:
        notes.append(
            f"{name} is damaged: {index['damaged_packets']} pieces could not be decoded and were left out"
        )
    if index["largest_gap_seconds"] > 60:
        gap = index["largest_gap_seconds"]
        notes.append(f"{name} has a gap of {gap:.0f} s in its timestamps: a new shot begins there")
    return notes

"""Footage in: files to frames, frames to shots, shots to windows for training."""

from reroll.footage.dataset import Batch, Span, Split, Windows, split
from reroll.footage.decode import DecodedFrame, decode, open_container, read_clip, read_picture, resize
from reroll.footage.inspect import Inspection, inspect_footage
from reroll.footage.movement import Movement
from reroll.footage.probe import FootageFile, Probe, Skipped, find_footage, probe
from reroll.footage.store import IngestProgress, Shot, Store, ingest

__all__ = [
    "Batch",
    "DecodedFrame",
    "FootageFile",
    "IngestProgress",
    "Inspection",
    "Movement",
    "Probe",
    "Shot",
    "Skipped",
    "Span",
    "Split",
    "Store",
    "Windows",
    "decode",
    "find_footage",
    "ingest",
    "inspect_footage",
    "open_container",
    "probe",
    "read_clip",
    "read_picture",
    "resize",
    "split",
]

"""Footage in: files to frames, frames to shots, shots to windows for training."""

from reroll.footage.dataset import Batch, Span, Split, Windows, split
from reroll.footage.decode import DecodedFrame, resize
from reroll.footage.guard import decode, probe, read_clip, read_picture
from reroll.footage.inspect import Inspection, inspect_footage
from reroll.footage.movement import Movement
from reroll.footage.probe import FootageFile, Probe, Skipped, find_footage
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
    "probe",
    "read_clip",
    "read_picture",
    "resize",
    "split",
]

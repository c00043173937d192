"""reroll: train a video generator on your own footage, and roll it again."""

from reroll.api import Generator, inspect, load, report, train
from reroll.errors import RerollError
from reroll.export.media import Clip

__all__ = ["Clip", "Generator", "RerollError", "inspect", "load", "report", "train"]

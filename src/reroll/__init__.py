"""reroll: train a video generator on your own footage, and roll it again.

Importing it takes no time: torch and all else is loaded when one of its names is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reroll.api import evaluate, export_onnx, inspect, pack, report, train, whence
    from reroll.errors import RerollError
    from reroll.export.clip import Clip
    from reroll.generator import Generator, again, load

__all__ = [
    "Clip",
    "Generator",
    "RerollError",
    "again",
    "evaluate",
    "export_onnx",
    "inspect",
    "load",
    "pack",
    "report",
    "train",
    "whence",
]

_HOMES = {
    "Clip": "reroll.export.clip",
    "RerollError": "reroll.errors",
    **dict.fromkeys(("Generator", "again", "load"), "reroll.generator"),
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "reroll.api")), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

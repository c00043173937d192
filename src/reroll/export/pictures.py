"""Clips as pictures: a folder of PNG frames, a sprite sheet with its JSON, a contact sheet.

In: uint8 RGB frames `T H W 3` and a frame rate. The sprite sheet's layout is TexturePacker's "JSON (Hash)", which the
importers of Phaser, PixiJS, Godot and Unity read: frames by name, left to right and top to bottom, each with its place
and its duration in milliseconds; `meta` names the picture and a frame tag over all.
"""

import json
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from reroll.errors import UsageError
from reroll.export.media import atomic_path

LARGEST_SIDE = 16384
"""Pixels: what graphics cards take as a texture."""
CONTACT_COLUMNS, CONTACT_ROWS = 5, 4
Frames = NDArray[np.uint8]


def save_png(path: Path, image: Frames, comment: str) -> None:
    """One picture `H W 3`, with a comment if there is one."""
    about = PngInfo()
    if comment:
        about.add_text("Comment", comment)
    Image.fromarray(np.ascontiguousarray(image)).save(path, "PNG", pnginfo=about)


def write_sequence(folder: Path, frames: Frames, _: Fraction, comment: str, __: Path) -> None:
    """`frame-00000.png` and so on in a folder, of frames `T H W 3`."""
    for number, frame in enumerate(frames):
        save_png(folder / f"frame-{number:05d}.png", frame, comment)


def write_contact_sheet(path: Path, frames: Frames, _: Fraction, comment: str, __: Path) -> None:
    """Twenty frames of `T H W 3`, or all if there are fewer, evenly spaced in time, left to right and top to bottom."""
    count = min(len(frames), CONTACT_COLUMNS * CONTACT_ROWS)
    chosen = np.linspace(0, len(frames) - 1, count).round().astype(int)
    save_png(path, tiled(frames[chosen], min(count, CONTACT_COLUMNS)), comment)


def tiled(frames: Frames, columns: int) -> Frames:
    """Frames `T H W 3` in rows of so many, black where there are none left: `H' W' 3`."""
    count, height, width = frames.shape[:3]
    rows = math.ceil(count / columns)
    whole = np.zeros((rows * columns, height, width, 3), np.uint8)
    whole[:count] = frames
    return whole.reshape(rows, columns, height, width, 3).swapaxes(1, 2).reshape(rows * height, -1, 3)


def write_sprites(path: Path, frames: Frames, rate: Fraction, comment: str, target: Path) -> None:
    """A sprite sheet of frames `T H W 3`, about square, and its layout beside `target`, ending in .json. UsageError
    when a graphics card could not take it."""
    count, height, width = frames.shape[:3]
    columns = min(count, max(1, round(math.sqrt(count * height / width))))
    rows = math.ceil(count / columns)
    if max(columns * width, rows * height) > LARGEST_SIDE:
        most = (LARGEST_SIDE // width) * (LARGEST_SIDE // height)
        raise UsageError(
            f"{target}: {count} frames are too many for one sprite sheet, {most} would fit; give fewer --seconds."
        )
    save_png(path, tiled(frames, columns), comment)
    layout = sprite_layout(target, (height, width), count, columns, rate)
    with atomic_path(target.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(layout, indent=1) + "\n", encoding="utf-8")


def sprite_layout(
    picture: Path, size: tuple[int, int], count: int, columns: int, rate: Fraction
) -> dict[str, object]:
    """The JSON of a sheet of so many frames of `size` (height, width) in rows of `columns`."""
    height, width = size
    name = picture.stem
    whole = {"x": 0, "y": 0, "w": width, "h": height}
    names = [f"{name}-{number:05d}.png" for number in range(count)]
    frames = {
        each: {
            "frame": {"x": number % columns * width, "y": number // columns * height, "w": width, "h": height},
            "rotated": False, "trimmed": False, "spriteSourceSize": whole,
            "sourceSize": {"w": width, "h": height}, "duration": round(1000 / float(rate), 3),
        }
        for number, each in enumerate(names)
    }  # fmt: skip
    return {
        "frames": frames,
        "animations": {name: names},
        "meta": {
            "app": "https://pypi.org/project/reroll", "version": "1.0", "image": picture.name, "format": "RGB888",
            "size": {"w": columns * width, "h": math.ceil(count / columns) * height}, "scale": "1",
            "frameRate": float(rate),
            "frameTags": [{"name": name, "from": 0, "to": count - 1, "direction": "forward"}],
        },
    }  # fmt: skip

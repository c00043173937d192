"""Advertising: twelve variations of a take, in three aspect ratios, and a sheet of each to choose from.

    python examples/advertising.py take.mp4 --minutes 40 -o spots

The first variations stay near the take, the last are new. A wide take shows its middle in the narrower frames; where
a frame is wider than the take, the scene goes on mirrored at its edges.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

import reroll

COUNT, NEAREST, FARTHEST = 12, 0.25, 0.8
ASPECTS = {"wide": (16, 9), "square": (1, 1), "tall": (9, 16)}


def framed(width: int, height: int, aspect: tuple[int, int]) -> str:
    """The largest size of an aspect ratio that is as high as a run's frames, or as twice their width allows."""
    across, down = aspect
    height = min(height, 2 * width * down // across) // 2 * 2
    return f"{height * across // down // 2 * 2}x{height}"


def main() -> None:
    """Train, make, and say where everything is."""
    asked = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    asked.add_argument("take", type=Path)
    asked.add_argument("--minutes", type=float, default=40, help="of training")
    asked.add_argument("--size", type=int, default=64, help="short side in pixels")
    asked.add_argument("-o", "--output", type=Path, default=Path("advertising"))
    options = asked.parse_args()
    take, out = options.take, options.output

    reroll.train([take], out / "run", recipe="vaegan", minutes=options.minutes, size=options.size)
    generator = reroll.load(out / "run")
    strengths = np.linspace(NEAREST, FARTHEST, COUNT)
    run = generator.record.model
    for name, aspect in ASPECTS.items():
        size, rows = framed(run.width, run.height, aspect), []
        for seed, strength in enumerate(strengths):
            clip = generator.vary(take, float(strength), seed=seed, size=size)
            frames = clip.frames  # made once, and kept for the file
            print(clip.save(out / name / f"{take.stem}-{seed:02d}.mp4"))
            rows.append(np.hstack(frames[np.linspace(0, len(frames) - 1, 6).round().astype(int)]))
        # A row is a variation, from its first frame to its last.
        Image.fromarray(np.vstack(rows)).save(out / f"{name}.png")
        print(out / f"{name}.png")


if __name__ == "__main__":
    main()

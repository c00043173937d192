"""Games: a texture that tiles in space and time, and a sprite sheet of each labelled action.

    python examples/games.py footage/ --minutes 40 -o game

Immediate subfolders of the footage are the actions: footage/walk, footage/jump. The texture is of all of it, or of
`--texture LABEL`. Every file carries its seed: `reroll again walk.png` makes it again.
"""

import argparse
from pathlib import Path

import reroll


def main() -> None:
    """Train, make, and say where everything is."""
    asked = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    asked.add_argument("footage", type=Path)
    asked.add_argument("--minutes", type=float, default=40, help="of training")
    asked.add_argument("--size", type=int, default=64, help="short side in pixels")
    asked.add_argument("--seconds", type=float, default=2, help="of each loop")
    asked.add_argument("--fps", type=float, default=12, help="of each loop")
    asked.add_argument("--texture", help="the label that the texture is of")
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("-o", "--output", type=Path, default=Path("games"))
    options = asked.parse_args()
    out = options.output

    reroll.train([options.footage], out / "run", recipe="vaegan", minutes=options.minutes, size=options.size)
    generator = reroll.load(out / "run")
    loop = {"seconds": options.seconds, "fps": options.fps, "loop": True, "seed": options.seed}
    texture = generator.sample(**loop, tile="xy", label=options.texture)
    print(f"{len(texture.frames)} frames")  # made once, and kept for both files
    print(texture.save(out / "texture.gif"))
    print(texture.save(out / "texture.png", "sprite"))
    for label in generator.record.model.labels:
        print(generator.sample(**loop, label=label).save(out / f"{label}.png", "sprite"))


if __name__ == "__main__":
    main()

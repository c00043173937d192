"""Film: a plate that goes on for longer than the take, begins earlier, and plays in slow motion.

    python examples/film.py plate.mp4 --minutes 60 --size 128 -o plate

Trains on the plate alone. Called again, training goes on where it was stopped; the clips are made again.
"""

import argparse
from pathlib import Path

import reroll


def main() -> None:
    """Train, make, and say where everything is."""
    asked = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    asked.add_argument("plate", type=Path, help="a take without cuts, the camera as still as can be")
    asked.add_argument("--minutes", type=float, default=60, help="of training")
    asked.add_argument("--size", type=int, default=128, help="short side in pixels")
    asked.add_argument("--seconds", type=float, default=10, help="how much longer it is to be")
    asked.add_argument("-o", "--output", type=Path, default=Path("film"))
    options = asked.parse_args()
    plate, out, seconds = options.plate, options.output, options.seconds

    reroll.train([plate], out / "run", recipe="vaegan", minutes=options.minutes, size=options.size)
    generator = reroll.load(out / "run")
    clips = {f"longer-{seed}": generator.extend(plate, seconds, seed=seed) for seed in range(3)}
    clips["earlier"] = generator.extend(plate, seconds / 2, backwards=True)
    clips["loop"] = generator.loop(plate, 2)
    clips["slow"] = generator.retime(plate, slow=4)
    for name, clip in clips.items():
        print(clip.save(out / f"{name}.mov"))  # ProRes 4444, for an editing room
    page, verdict = reroll.report(out / "run")
    print(f"{verdict}\n{page}")


if __name__ == "__main__":
    main()

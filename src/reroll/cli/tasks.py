"""The verbs that make video with a trained run: the run comes first, then footage."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

import reroll
from reroll.cli.app import MakeOptions, Making, Sampling, app, parse_seeds
from reroll.config import SampleOptions


@app.command
def sample(
    run: Path,
    /,
    *,
    seconds: float = 5.0,
    loop: bool = False,
    making: Making = MakeOptions(),  # noqa: B008
    options: Sampling = SampleOptions(),  # noqa: B008
) -> None:
    """New clips, any length.

    Args:
        run: The run's folder.
        seconds: Length of each clip.
        loop: A closed clip that plays round and round.
    """
    name = f"{run.resolve().name}-{'loop' if loop else 'sample'}"
    more = asdict(options)
    making.make(run, name, lambda own, seed: own.sample(seconds, loop=loop, seed=seed, **more))


@app.command
def explore(
    run: Path,
    /,
    *,
    seeds: str = "0-3",
    seconds: float = 8.0,
    making: Making = MakeOptions(),  # noqa: B008
    options: Sampling = SampleOptions(),  # noqa: B008
) -> None:
    """One clip that goes through what several seeds show.

    Args:
        run: The run's folder.
        seeds: In order, such as 1,5,9, or a range such as 0-3.
        seconds: Length of the clip.
    """
    numbers = [seed for part in seeds.split(",") for seed in parse_seeds(part.strip(), 1)]
    more = asdict(options)
    name = f"{run.resolve().name}-explored"
    making.make(run, name, lambda own, _: own.explore(numbers, seconds, **more), numbers[:1])


@app.command
def extend(
    run: Path,
    take: Path,
    /,
    *,
    seconds: float = 5.0,
    backwards: bool = False,
    making: Making = MakeOptions(),  # noqa: B008
    options: Sampling = SampleOptions(),  # noqa: B008
) -> None:
    """A take, or a picture, that goes on.

    Args:
        run: The run's folder.
        take: A video or a picture; it is brought to the run's size, cropped in the middle if its shape is another.
        seconds: How much is added.
        backwards: Added before the take, and leads to it.
    """
    more = asdict(options) | {"backwards": backwards}
    making.make(run, f"{take.stem}-longer", lambda own, seed: own.extend(take, seconds, seed=seed, **more))


@app.command
def inbetween(
    run: Path,
    first: Path,
    second: Path,
    /,
    *,
    seconds: float = 2.0,
    making: Making = MakeOptions(),  # noqa: B008
    options: Sampling = SampleOptions(),  # noqa: B008
) -> None:
    """Two takes, or pictures, and new frames that lead from one to the other.

    Args:
        run: The run's folder.
        first: A video or a picture, as of `extend`.
        second: Another.
        seconds: How much lies between.
    """
    name, more = f"{first.stem}-{second.stem}", asdict(options)
    making.make(run, name, lambda own, seed: own.inbetween(first, second, seconds, seed=seed, **more))


@app.command
def loop(
    run: Path,
    take: Path,
    /,
    *,
    seconds: float = 2.0,
    making: Making = MakeOptions(),  # noqa: B008
    options: Sampling = SampleOptions(),  # noqa: B008
) -> None:
    """A take that plays round and round: new frames lead from its end to its beginning.

    Args:
        run: The run's folder.
        take: A video, as of `extend`.
        seconds: How much is added.
    """
    more = asdict(options)
    making.make(run, f"{take.stem}-loop", lambda own, seed: own.loop(take, seconds, seed=seed, **more))


@app.command
def retime(
    run: Path,
    take: Path,
    /,
    *,
    fps: float | None = None,
    slow: float = 1.0,
    making: Making = MakeOptions(),  # noqa: B008
) -> None:
    """A take at another frame rate, or in slow motion, at its own size.

    Args:
        run: The run's folder.
        take: A video.
        fps: Frames a second; by default the take's.
        slow: How many times as long it takes; 4 is slow motion.
    """
    making.make(run, f"{take.stem}-retimed", lambda own, _: own.retime(take, fps=fps, slow=slow), [0])


@app.command
def vary(
    run: Path,
    take: Path,
    /,
    *,
    strength: float = 0.4,
    making: Making = MakeOptions(),  # noqa: B008
    options: Sampling = SampleOptions(),  # noqa: B008
) -> None:
    """A take as it might have been.

    Args:
        run: The run's folder.
        take: A video, as of `extend`.
        strength: How far from the take: 0 is the take itself, 1 a new clip of what is in it.
    """
    more = asdict(options)
    making.make(run, f"{take.stem}-varied", lambda own, seed: own.vary(take, strength, seed=seed, **more))


@app.command
def swap(
    run: Path,
    /,
    *,
    look: Path,
    motion: Path,
    strength: float = 0.4,
    making: Making = MakeOptions(),  # noqa: B008
    options: Sampling = SampleOptions(),  # noqa: B008
) -> None:
    """What one take shows, moving as another one does.

    Args:
        run: The run's folder.
        look: The take whose look is kept, as of `extend`.
        motion: The take whose motion is kept, and length.
        strength: How freely: 0 is a frame of the look, carried along the motion, 1 a new clip of the look.
    """
    name, more = f"{look.stem}-as-{motion.stem}", asdict(options)
    making.make(run, name, lambda own, seed: own.swap(look, motion, strength, seed=seed, **more))


@app.command
def repaint(
    run: Path,
    take: Path,
    /,
    *,
    mask: Path,
    making: Making = MakeOptions(),  # noqa: B008
    options: Sampling = SampleOptions(),  # noqa: B008
) -> None:
    """A take with a region painted anew; all else stays as it is, at the take's own size.

    Args:
        run: The run's folder.
        take: A video.
        mask: A picture or a video of the take's shape, white where it is painted.
    """
    more = asdict(options)
    making.make(run, f"{take.stem}-repainted", lambda own, seed: own.repaint(take, mask, seed=seed, **more))


@app.command
def again(
    made: Path,
    /,
    *,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    format: str | None = None,
    run: Path | None = None,
    take: Annotated[list[Path] | None, Parameter(consume_multiple=True)] = None,
    device: str | None = None,
) -> None:
    """An output made again, frame for frame, from the record in it.

    Args:
        made: A file that reroll sampled, or a folder of its frames.
        output: The file; by default beside the first one, with "-again" in its name.
        format: As of `sample`; by default that of the first one.
        run: The run's folder, if it is not where it was.
        take: The footage it was made from, if that is not where it was.
        device: auto, cpu, cuda or mps; by default the one it was made on.
    """
    from reroll.export.formats import choose, format_of

    path = output or made.with_name(f"{made.stem}-again{made.suffix}")
    chosen = choose(path, format or (None if output else format_of(made)))
    print(reroll.again(made, run=run, takes=take or [], device=device).save(path, chosen.name))

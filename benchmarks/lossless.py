"""Footage for benchmarks: cropped to squares, cut into pieces, and kept without loss, so that all see the same pixels.

    python -m benchmarks.lossless bottle.mp4 box.mp4 --seconds 3 --size 128 -o pieces/

In: clips and folders. Out: FFV1 files of RGB frames at a constant rate.
"""

import argparse
from collections.abc import Iterable, Iterator
from contextlib import closing
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np

from reroll.footage import decode, find_footage, probe, resize


def square(clip: Path, size: int, folder: Path) -> Path:
    """A clip, or a folder of clips, as squares of `size` pixels; the folder with the files. It is made once."""
    done = folder / "done"
    if not done.exists():
        (folder / "clips").mkdir(parents=True, exist_ok=True)
        for file in find_footage([clip])[0]:
            source = Path(file.path)
            write(folder / "clips" / f"{source.stem}.mkv", _squares(source, size), probe(source).fps or 25.0)
        done.touch()
    return folder / "clips"


def cut(source: Path, seconds: float, size: int, folder: Path) -> int:
    """A clip in pieces of so many seconds, squares of `size` pixels; a shorter rest is left out. How many there are."""
    fps = probe(source).fps or 25.0
    frames, pieces = round(seconds * fps), 0
    squares = _squares(source, size)
    while len(piece := list(islice(squares, frames))) == frames:
        write(folder / f"{source.stem}-{pieces:03}.mkv", piece, fps)
        pieces += 1
    return pieces


def write(target: Path, frames: Iterable[np.ndarray], fps: float) -> None:
    """Frames `H W 3` uint8 as FFV1 in RGB: what is read back is what was written. The same frames make the same bytes,
    which decide what is held out."""
    rate = Fraction(fps).limit_denominator(1001)
    with closing(av.open(str(target), "w", options={"fflags": "+bitexact"})) as container:
        stream = container.add_stream("ffv1", rate=rate)
        stream.pix_fmt = "bgr0"
        for number, image in enumerate(frames):
            if not number:
                stream.height, stream.width = image.shape[:2]
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24").reformat(
                format="bgr0"
            )
            picture.pts, picture.time_base = number, 1 / rate
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


def _squares(source: Path, size: int) -> Iterator[np.ndarray]:
    for frame in decode(source):
        yield resize(frame.image, size, size)


def main() -> None:
    """Cut clips into one folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("-o", "--output", type=Path, required=True)
    asked = parser.parse_args()
    asked.output.mkdir(parents=True, exist_ok=True)
    for clip in asked.clips:
        print(f"{clip.name}: {cut(clip, asked.seconds, asked.size, asked.output)} pieces")


if __name__ == "__main__":
    main()

"""Which distance sees which fault: the judge judged, on real footage.

    python -m benchmarks.judge --clips stream.mp4 gestures/ --other flower.mp4

Windows of clean footage are spoilt in eight ways and compared with clean ones, as samples would be. The table gives the
spoilt windows' Fréchet distance in multiples of clean footage's; those that no draw of clean footage reaches are bold.
"""

import argparse
import tempfile
from pathlib import Path

import cv2
import numpy as np

from reroll.evaluation.distances import FAULTS, FeatureSpaces, compare, plant
from reroll.footage import Store, find_footage, ingest
from reroll.footage.dataset import usual_strides

FRAMES, WINDOWS, DRAWS = 16, 128, 40


def read(clip: Path, size: int, cache: Path) -> Store:
    """A clip, or a folder of clips, at a size."""
    return ingest(find_footage([clip])[0], short_side=size, cache_dir=cache)


def windows(store: Store, frames: int, most: int = WINDOWS) -> np.ndarray:
    """Evenly chosen windows `N T H W 3` at the footage's usual rate."""
    strides = usual_strides(store)
    places = [
        (start, strides[shot.file])
        for shot in store.shots
        for start in range(shot.start, shot.stop - (frames - 1) * strides[shot.file])
    ]
    chosen = np.unique(np.linspace(0, len(places) - 1, most).round().astype(int))
    return np.stack(
        [store.frames(at, at + (frames - 1) * by + 1, by) for at, by in (places[i] for i in chosen)]
    )


def table(clean: np.ndarray, other: np.ndarray) -> dict[str, dict[str, tuple[float, bool]]]:
    """For each fault and space the multiple, and whether it lies above all draws of the null. `clean` are windows twice
    as long as those that are judged."""
    half = clean[:, :FRAMES]
    spaces = FeatureSpaces.fit(half)
    features = spaces.features(half)
    found = {}
    for fault in (*FAULTS, "other footage"):
        spoilt = other if fault == "other footage" else plant(fault, clean if fault == "doubled" else half)
        harmed = spaces.features(spoilt)
        row = {}
        for space in features:
            even, odd = features[space][::2], features[space][1::2]
            d = compare(space, harmed[space][::2], odd, even, draws=DRAWS)
            assert d.frechet_null is not None
            assert d.multiple is not None
            row[space] = d.multiple, d.frechet.low > d.frechet_null.high
        found[fault] = row
    return found


def main() -> None:
    """Print one table for each clip."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", nargs="+", type=Path, required=True)
    parser.add_argument("--other", type=Path, required=True, help="footage of something else")
    parser.add_argument("--size", type=int, default=64)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        for clip in asked.clips:
            clean = windows(read(clip, asked.size, Path(cache)), 2 * FRAMES)
            other = windows(read(asked.other, asked.size, Path(cache)), FRAMES, len(clean))
            other = np.stack([[cv2.resize(f, clean.shape[3:1:-1]) for f in window] for window in other])
            found = table(clean, other)
            names = list(found["frozen"])
            print(f"\n{clip.stem}, {len(clean)} windows\n\n| fault | " + " | ".join(names) + " |")
            print("| --- |" + " --- |" * len(names))
            for fault, row in found.items():
                cells = [f"**{m:.1f}**" if seen else f"{m:.1f}" for m, seen in row.values()]
                print(f"| {fault} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()

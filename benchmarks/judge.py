"""Which distance sees which fault: the judge judged, on real footage.

    python -m benchmarks.judge --clips stream.mp4 gestures/ --other flower.mp4

Windows of clean footage are spoilt in eight ways and compared with clean ones, as samples would be. The table gives the
spoilt windows' Fréchet distance in multiples of clean footage's; those that no draw of clean footage reaches are bold.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

from benchmarks.contender import read
from benchmarks.markdown import table
from reroll.evaluation.distances import FAULTS, FeatureSpaces, compare, plant
from reroll.footage import Span, Store, Windows

FRAMES, WINDOWS, DRAWS = 16, 128, 40


def windows(store: Store, frames: int, most: int = WINDOWS) -> np.ndarray:
    """Evenly chosen windows `N T H W 3` at the footage's usual rate."""
    spans = [Span(shot.start, shot.stop) for shot in store.shots]
    places = Windows(store, spans, seed=0, mirror=False).fixed(frames, 1)
    chosen = np.unique(np.linspace(0, len(places) - 1, most).round().astype(int))
    return np.stack([store.frames(*places[i]) for i in chosen])


def multiples(clean: np.ndarray, other: np.ndarray) -> dict[str, dict[str, tuple[float, bool]]]:
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
    for clip in asked.clips:
        clean = windows(read(clip, asked.size)[0], 2 * FRAMES)
        other = windows(read(asked.other, asked.size)[0], FRAMES, len(clean))
        other = np.stack([[cv2.resize(f, clean.shape[3:1:-1]) for f in window] for window in other])
        rows = [
            {"fault": fault}
            | {space: f"**{m:.1f}**" if seen else f"{m:.1f}" for space, (m, seen) in found.items()}
            for fault, found in multiples(clean, other).items()
        ]
        print(f"\n{clip.stem}, {len(clean)} windows\n\n{table(rows)}", flush=True)


if __name__ == "__main__":
    main()

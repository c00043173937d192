"""How far samples are from footage: distances between sets of windows, beside clean footage's own.

In: windows of uint8 RGB frames `N T H W 3` at one frame rate. Out: for each of three classical feature
spaces (appearance, flow, differences; nothing pretrained) the Fréchet distance (Heusel et al. 2017, eq. 6)
and the unbiased polynomial-kernel MMD (Bińkowski et al. 2018, eq. 4), both in torchmetrics' arithmetic,
with intervals over random draws. Fréchet is biased upwards when windows are few, so it is only ever read
beside a null: the same distance, at the same count, between clean footage and clean footage. MMD is
unbiased, its null is near zero and cannot be divided by; a permutation interval stands beside it instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import poly_mmd

from reroll.evaluation.motion import difference_features, flow_features

Frames = NDArray[np.uint8]
Features = NDArray[np.float64]

SPACES = ("appearance", "flow", "differences")
PIXEL_GRID = 8  # low-resolution pixels a side
PIXEL_COMPONENTS = 12  # principal components of these that are kept
BANDS = 4  # octaves of spatial detail
DRAWS = 100
FEWEST_WINDOWS = 4  # below this on either side nothing is computed


def texture_features(window: Frames) -> NDArray[np.float32]:
    """One window `T H W 3` to 13 numbers: logs of spatial detail by octave, by place and by colour."""
    chosen = window[np.linspace(0, len(window) - 1, min(4, len(window))).round().astype(int)]
    values = []
    for image in chosen:
        luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
        bands, level = [], luma
        for _ in range(BANDS):
            blurred = cv2.GaussianBlur(level, (0, 0), 1.0)
            bands.append(np.abs(level - blurred))
            level = cv2.resize(blurred, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        places = cv2.resize(bands[0], (2, 2), interpolation=cv2.INTER_AREA).ravel()
        gradient = np.hypot(*np.gradient(luma))
        chroma = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)[..., 1:].astype(np.float32).std((0, 1))
        sharp = [gradient.mean(), np.quantile(gradient, 0.95), luma.std()]
        values.append(np.concatenate([[b.mean() for b in bands], places, sharp, chroma]))
    return np.log(np.mean(values, axis=0) + 0.1).astype(np.float32)


def pixel_features(window: Frames) -> NDArray[np.float32]:
    """One window `T H W 3` to 8*8*4 numbers: mean low-resolution RGB, and grey's deviation over time."""
    small = np.stack(
        [cv2.resize(f, (PIXEL_GRID, PIXEL_GRID), interpolation=cv2.INTER_AREA) for f in window]
    ).astype(np.float32)
    return np.concatenate([small.mean(0).ravel(), small.mean(-1).std(0).ravel()])


def _raw(windows: Frames) -> dict[str, Features]:
    """Unscaled features `N D` of windows `N T H W 3`, by builder."""
    builders = {
        "pixels": pixel_features,
        "texture": texture_features,
        "flow": flow_features,
        "differences": difference_features,
    }
    return {
        name: np.stack([build(w) for w in windows]).astype(np.float64) for name, build in builders.items()
    }


@dataclass(frozen=True, eq=False)
class FeatureSpaces:
    """Scales fitted once on footage, so that samples cannot choose the ruler they are measured with.

    Logarithmic features are standardised by the footage. Low-resolution pixels are projected to the footage's
    principal components plus one number for what these do not explain, in units of the footage's own spread.
    """

    centre: dict[str, Features]
    spread: dict[str, Features]
    basis: Features
    pixel_unit: float

    @classmethod
    def fit(cls, footage: Frames) -> FeatureSpaces:
        """Fit on footage windows `M T H W 3`."""
        raw = _raw(footage)
        centre = {name: values.mean(0) for name, values in raw.items()}
        spread = {name: np.maximum(values.std(0), 0.05) for name, values in raw.items()}
        deviation = raw["pixels"] - centre["pixels"]
        basis = np.linalg.svd(deviation, full_matrices=False)[2][: min(PIXEL_COMPONENTS, len(footage) - 1)]
        rms = float(np.sqrt(np.square(deviation).sum(1).mean()))
        floor = np.sqrt(deviation.shape[1])  # one level in every number: less is not a difference
        return cls(centre, spread, basis, max(rms, floor) / np.sqrt(PIXEL_COMPONENTS))

    def features(self, windows: Frames) -> dict[str, Features]:
        """Features `N D` of windows `N T H W 3` in each of SPACES."""
        raw = _raw(windows)
        deviation = raw["pixels"] - self.centre["pixels"]
        coordinates = deviation @ self.basis.T
        rest = np.linalg.norm(deviation - coordinates @ self.basis, axis=1, keepdims=True)
        pixels = np.concatenate([coordinates, rest], axis=1) / self.pixel_unit
        logs = {n: (raw[n] - self.centre[n]) / self.spread[n] for n in ("texture", "flow", "differences")}
        return {
            "appearance": np.concatenate([pixels, logs["texture"]], axis=1),
            "flow": logs["flow"],
            "differences": logs["differences"],
        }


class _Identity(torch.nn.Module):
    """Features that are features already; what torchmetrics asks of a feature network."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.num_features = count

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features


def frechet(a: Features, b: Features) -> float:
    """Fréchet distance between Gaussians fitted to `N D` and `M D`; N, M >= 2."""
    metric = FrechetInceptionDistance(feature=_Identity(a.shape[1]), input_img_size=(1, 1, a.shape[1]))
    metric.set_dtype(torch.float64)
    metric.update(torch.from_numpy(a), real=True)
    metric.update(torch.from_numpy(b), real=False)
    return max(0.0, float(metric.compute()))


def mmd(a: Features, b: Features) -> float:
    """Unbiased squared MMD of two sets `N D` of one size N >= 2; kernel (x.y / D + 1)^3. May be negative.

    Features pass through arcsinh first: under a cubic kernel one number that is far out would decide alone.
    """
    return float(poly_mmd(torch.from_numpy(np.arcsinh(a)), torch.from_numpy(np.arcsinh(b))))


@dataclass(frozen=True)
class Interval:
    """The middle of repeated draws, and where nine in ten of them lie."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Interval:
        """5th, 50th and 95th percentile."""
        low, median, high = np.quantile(values, [0.05, 0.5, 0.95])
        return cls(float(median), float(low), float(high))


@dataclass(frozen=True)
class Distance:
    """Samples against reference footage in one space, at `windows` windows a side.

    `frechet_null` and `multiple` (samples' median over the null's) exist only with a clean null.
    `mmd_chance` is where the MMD of samples and footage lies when they are shuffled together: inside it
    they are not told apart.
    """

    space: str
    windows: int
    frechet: Interval
    frechet_null: Interval | None
    multiple: float | None
    mmd: Interval
    mmd_chance: Interval


def compare(
    space: str, samples: Features, reference: Features, clean: Features | None, *, draws: int = DRAWS
) -> Distance:
    """Distance of samples `N D` to reference footage `M D`, beside that of other clean footage `K D`, if any.

    Each of `draws` draws takes the same number of windows, three quarters of the smallest set, from each set
    without replacement; the null compares `clean` with the very windows the samples are compared with.
    """
    random = np.random.default_rng(0)
    sets = [samples, reference] + ([clean] if clean is not None else [])
    count = max(3, min(map(len, sets)) * 3 // 4)
    values: dict[str, list[float]] = {"frechet": [], "null": [], "mmd": [], "chance": []}
    for _ in range(draws):
        drawn = [s[random.permutation(len(s))[:count]] for s in sets]
        values["frechet"].append(frechet(drawn[0], drawn[1]))
        values["mmd"].append(mmd(drawn[0], drawn[1]))
        shuffled = random.permutation(np.concatenate(drawn[:2]))
        values["chance"].append(mmd(shuffled[:count], shuffled[count:]))
        if clean is not None:
            values["null"].append(frechet(drawn[2], drawn[1]))
    distance, null = Interval.of(values["frechet"]), Interval.of(values["null"]) if values["null"] else None
    multiple = distance.median / max(null.median, 1e-9) if null else None
    return Distance(
        space, count, distance, null, multiple, Interval.of(values["mmd"]), Interval.of(values["chance"])
    )


PLANTED = ("frozen", "shuffled", "blurred", "noisy")


def plant(fault: str, windows: Frames) -> Frames:
    """A faulty copy of clean windows `N T H W 3`: what a distance must be able to see to be worth reading."""
    random = np.random.default_rng(0)
    if fault == "frozen":
        return np.repeat(windows[:, :1], windows.shape[1], axis=1)
    if fault == "shuffled":
        return np.stack([w[random.permutation(len(w))] for w in windows])
    if fault == "blurred":
        return np.stack([[cv2.GaussianBlur(f, (0, 0), windows.shape[2] / 40) for f in w] for w in windows])
    if fault == "noisy":
        noise = random.normal(0, 12, windows.shape)
        return np.clip(windows + noise, 0, 255).round().astype(np.uint8)
    raise ValueError(f"no planted fault is called {fault!r}")

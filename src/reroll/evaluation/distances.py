"""How far samples are from footage: distances between sets of windows, beside clean footage's own.

In: windows of uint8 RGB frames `N T H W 3` at one frame rate. Out: for each feature space (flow, frame differences,
direction of time and texture are classical; appearance and space-time are published networks', where these are
installed) the Fréchet distance (Heusel et al. 2017, eq. 6) and the unbiased polynomial-kernel MMD (Bińkowski et al.
2018, eq. 4), both in torchmetrics' arithmetic, with intervals over random draws, and precision and recall
(Kynkäänniemi et al. 2019, eq. 1). Fréchet is biased upwards when windows are few, so it is only ever read beside a
null: the same distance, at the same count, between clean footage and clean footage. MMD is unbiased, its null is near
zero and cannot be divided by; a permutation interval stands beside it instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import poly_mmd

from reroll.evaluation import networks
from reroll.evaluation.motion import difference_features, direction_features, flow, flow_features

Frames = NDArray[np.uint8]
Features = NDArray[np.float64]

CLASSICAL = ("flow", "differences", "direction", "texture")
PIXEL_GRID = 8  # low-resolution pixels a side
PIXEL_COMPONENTS = 12  # principal components of these that are kept
BANDS = 4  # octaves of spatial detail
DRAWS = 100
NEIGHBOURS = 3  # k of precision and recall
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
    """Unscaled features `N D` of windows `N T H W 3`, by kind."""

    def of(window: Frames) -> dict[str, NDArray[np.float32]]:
        field = flow(window)  # what takes longest, and two kinds need it
        return {
            "pixels": pixel_features(window),
            "texture": texture_features(window),
            "flow": flow_features(field),
            "differences": difference_features(window),
            "direction": direction_features(window, field),
        }

    found = [of(window) for window in windows]
    return {name: np.stack([each[name] for each in found]).astype(np.float64) for name in found[0]}


@dataclass(frozen=True, eq=False)
class FeatureSpaces:
    """Scales fitted once on footage, so that samples cannot choose the ruler they are measured with.

    Classical features are standardised by the footage. Low-resolution pixels are projected to the footage's
    principal components plus one number for what these do not explain, in units of the footage's own spread. The
    networks' features are taken as they are.
    """

    centre: dict[str, Features]
    spread: dict[str, Features]
    basis: Features
    pixel_unit: float
    i3d: torch.jit.ScriptModule | None = None

    @classmethod
    def fit(cls, footage: Frames, i3d: torch.jit.ScriptModule | None = None) -> FeatureSpaces:
        """Fit on footage windows `M T H W 3`; with the user's I3D network there is the space of FVD, too."""
        raw = _raw(footage)
        centre = {name: values.mean(0) for name, values in raw.items()}
        spread = {name: np.maximum(values.std(0), 0.05) for name, values in raw.items()}
        deviation = raw["pixels"] - centre["pixels"]
        basis = np.linalg.svd(deviation, full_matrices=False)[2][: min(PIXEL_COMPONENTS, len(footage) - 1)]
        rms = float(np.sqrt(np.square(deviation).sum(1).mean()))
        floor = np.sqrt(deviation.shape[1])  # one level in every number: less is not a difference
        return cls(centre, spread, basis, max(rms, floor) / np.sqrt(PIXEL_COMPONENTS), i3d)

    def features(self, windows: Frames) -> dict[str, Features]:
        """Features `N D` of windows `N T H W 3` in each space that can be had here."""
        raw = _raw(windows)
        deviation = raw["pixels"] - self.centre["pixels"]
        coordinates = deviation @ self.basis.T
        rest = np.linalg.norm(deviation - coordinates @ self.basis, axis=1, keepdims=True)
        pixels = np.concatenate([coordinates, rest], axis=1) / self.pixel_unit
        scaled = {n: (raw[n] - self.centre[n]) / self.spread[n] for n in CLASSICAL}
        scaled["texture"] = np.concatenate([pixels, scaled["texture"]], axis=1)
        if networks.available():
            scaled |= networks.network_features(windows)
        if self.i3d is not None:
            scaled["FVD"] = networks.i3d_features(self.i3d, windows)
        return scaled


class _Identity(torch.nn.Module):
    """Features that are features already; what torchmetrics asks of a feature network."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.num_features = count

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features


def frechet(a: Features, b: Features) -> float:
    """Fréchet distance between Gaussians fitted to `N D` and `M D`; N, M >= 2."""
    if a.shape[1] > len(a) + len(b):
        # Both lie in the span of their points: the distance is the same within it.
        within = np.linalg.qr(np.concatenate([a, b]).T)[0]
        a, b = a @ within, b @ within
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


def precision_recall(samples: Features, reference: Features) -> tuple[float, float]:
    """Share of samples `N D` among the footage `M D`, and of the footage among the samples: nearer to some point of the
    other set than that is to its own third neighbour."""

    def covered(points: Features, by: Features) -> float:
        own = np.linalg.norm(by[:, None] - by, axis=-1)
        radius = np.sort(own, axis=1)[:, min(NEIGHBOURS, len(by) - 1)]
        return float((np.linalg.norm(points[:, None] - by, axis=-1) <= radius).any(1).mean())

    return covered(samples, reference), covered(reference, samples)


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
    they are not told apart. `clean_precision` and `clean_recall` are those of clean footage.
    """

    space: str
    windows: int
    frechet: Interval
    frechet_null: Interval | None
    multiple: float | None
    mmd: Interval
    mmd_chance: Interval
    precision: float
    recall: float
    clean_precision: float | None = None
    clean_recall: float | None = None


def compare(
    space: str,
    samples: Features,
    reference: Features,
    clean: Features | None,
    *,
    draws: int = DRAWS,
    halves: bool = False,
) -> Distance:
    """Distance of samples `N D` to reference footage `M D`, beside that of other clean footage `K D`, if any.

    Each of `draws` draws takes the same number of windows, three quarters of the smallest set, from each set
    without replacement; the null compares `clean` with the very windows the samples are compared with. With `halves`
    the clean footage is the reference's own other half, drawn anew each time.
    """
    random = np.random.default_rng(0)
    sizes = [len(samples), len(reference) // 2 if halves else len(reference)]
    count = max(3, min([*sizes, *([] if clean is None else [len(clean)])]) * (4 if halves else 3) // 4)
    values: dict[str, list[float]] = {"frechet": [], "null": [], "mmd": [], "chance": []}
    for _ in range(draws):
        mine = samples[random.permutation(len(samples))[:count]]
        order = random.permutation(len(reference))
        theirs = reference[order[:count]]
        values["frechet"].append(frechet(mine, theirs))
        values["mmd"].append(mmd(mine, theirs))
        shuffled = random.permutation(np.concatenate([mine, theirs]))
        values["chance"].append(mmd(shuffled[:count], shuffled[count:]))
        other = reference[order[count : 2 * count]] if halves else clean
        if other is not None:
            values["null"].append(frechet(other[random.permutation(len(other))[:count]], theirs))
    distance, null = Interval.of(values["frechet"]), Interval.of(values["null"]) if values["null"] else None
    multiple = distance.median / max(null.median, 1e-9) if null else None
    half = np.random.default_rng(0).permutation(len(reference))
    theirs, other = (reference[half[::2]], reference[half[1::2]]) if halves else (reference, clean)
    return Distance(
        space, count, distance, null, multiple, Interval.of(values["mmd"]), Interval.of(values["chance"]),
        *precision_recall(samples, theirs), *((None, None) if other is None else precision_recall(other, theirs)),
    )  # fmt: skip


PLANTED = ("frozen", "shuffled", "reversed", "blurred", "noisy")
"""Faults shown on the report's scale."""

FAULTS = (*PLANTED, "doubled", "flickering")


def plant(fault: str, windows: Frames) -> Frames:
    """A faulty copy of clean windows `N T H W 3`: what a distance must be able to see to be worth reading.

    One of FAULTS. Those that are doubled in speed have half as many frames.
    """
    random = np.random.default_rng(0)
    if fault == "frozen":
        return np.repeat(windows[:, :1], windows.shape[1], axis=1)
    if fault == "shuffled":
        return np.stack([w[random.permutation(len(w))] for w in windows])
    if fault == "reversed":
        return np.ascontiguousarray(windows[:, ::-1])
    if fault == "doubled":
        return windows[:, ::2]
    if fault == "flickering":
        gain = 1 + 0.06 * (-1.0) ** np.arange(windows.shape[1])[:, None, None, None]
        return np.clip(windows * gain, 0, 255).round().astype(np.uint8)
    if fault == "blurred":
        return np.stack([[cv2.GaussianBlur(f, (0, 0), windows.shape[2] / 40) for f in w] for w in windows])
    if fault == "noisy":
        noise = random.normal(0, 12, windows.shape)
        return np.clip(windows + noise, 0, 255).round().astype(np.uint8)
    raise ValueError(f"no planted fault is called {fault!r}")

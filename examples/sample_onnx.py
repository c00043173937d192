"""A clip without PyTorch: reroll export RUN --onnx -o FOLDER, then python sample_onnx.py FOLDER out.gif"""

import json
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

folder, out, steps, random = Path(sys.argv[1]), sys.argv[2], 24, np.random.default_rng(0)
about = json.loads((folder / "model.json").read_text())
networks = {path.stem: onnxruntime.InferenceSession(path) for path in folder.glob("*.onnx")}
shape, count, fps, gap_seconds = (
    about[key] for key in ("latent_shape", "window_frames", "fps", "key_gap_seconds")
)
label = np.eye(len(about["labels"]) + 1, dtype=np.float32)[:1]  # of no label


def between_spread(change: np.ndarray, frames: int) -> np.ndarray:
    """How much noise there is between frames so far apart, for how much their blocks differ: `B 1 1 h w`."""
    batch, _, channels, rows, columns = change.shape
    blocks = change.reshape(batch, 1, channels, rows // 2, 2, columns // 2, 2)
    still, moving = (about["spread"][name] for name in ("still", "moving"))
    wide = np.sqrt(still**2 + moving**2 * np.square(blocks).mean((2, 4, 6))).clip(max=1.0)
    if frames > about["between_reach"]:
        wide = np.ones_like(wide)
    return wide.repeat(2, -2).repeat(2, -1)[:, :, None]


def denoise(known: np.ndarray, free: np.ndarray, step: float, kind: str, content: np.ndarray) -> np.ndarray:
    """Windows `B T Z h w`, of which frames that are `free` (`T`: 1, else 0) are made; `step` seconds apart. They begin
    around the content; between given ones (the first and the last) near the line from one to the other, which the prior
    is shown the way to."""
    batch, length = known.shape[:2]
    off, unit = np.float32(0), np.float32(1)
    if free.all():
        spread = np.float32(about["spread"]["content"])
        middle = np.sqrt(1 - spread**2) * content[:, None]
    else:
        share = np.linspace(0, 1, length, dtype=np.float32)[:, None, None, None]
        spread = between_spread(known[:, -1:] - known[:, :1], length - 1)
        middle = np.sqrt(1 - spread**2) * (known[:, :1] * (1 - share) + known[:, -1:] * share)
        inner = free.astype(bool)[:, None, None, None]
        off, unit = np.where(inner, middle, off), np.where(inner, spread, unit)
    noise = random.standard_normal(known.shape).astype(np.float32)
    free = free.astype(np.float32)[None, :, None, None]
    x = known + free[..., None] * (middle + spread * noise - known)
    times = np.tile(np.arange(length, dtype=np.float32) * np.float32(step), (batch, 1))
    between = 1 / (1 + np.exp(-np.linspace(*about["level_logits"][kind], steps + 1)[1:-1]))
    for now, then in pairwise(np.float32([1, *between, 0])):
        levels = np.tile(free * now, (batch, 1, shape[1] // 2, shape[2] // 2))
        given = {
            "latents": (x - off) / unit,
            "levels": levels,
            "times": times,
            "labels": label.repeat(batch, 0),
            "content": content,
        }
        x = x + (then - now) * spread * free[..., None] * networks["motion_prior"].run(None, given)[0]
    return x


contents, gap = np.load(folder / "contents.npy"), round(gap_seconds * fps)
shown = contents[random.integers(len(contents))][None]
keys = denoise(np.zeros((1, count, *shape), np.float32), np.ones(count), gap_seconds, "free", shown)[0]
pairs = np.stack([np.stack([one] * gap + [other]) for one, other in pairwise(keys)])
free, nothing = np.r_[0, np.ones(gap - 1), 0], np.zeros((count - 1, *shape), np.float32)
fine = denoise(pairs, free, 1 / fps, "given", nothing)[:, :-1].reshape(1, -1, *shape)
frames = (networks["decoder"].run(None, {"latents": fine})[0][0].clip(-1, 1) + 1) * 127.5
first, *others = (Image.fromarray(each) for each in frames.round().astype(np.uint8).transpose(0, 2, 3, 1))
first.save(out, save_all=True, append_images=others, duration=1000 / fps, loop=0)

"""Deploy: a trained model as ONNX, to sample from without PyTorch.

In: a model. Out: a folder with

    decoder.onnx        whitened latents `B T Z h w` → frames `B T 3 H W`, about [-1, 1]
    motion_prior.onnx   latents (between given frames: how far from their line, in units of the spread), levels
                        `B T h/2 w/2`, times `B T` (s), labels `B L+1` (shares of none and of each) and, with an
                        Encoder, content `B Z h w` → velocity `B T Z h w`, in units of the spread
    early_prior.onnx    the same as it was half-way through training, to be led away from (with an Encoder)
    contents.npy        what clips may show, `N Z h w`, of the footage's windows (with an Encoder)
    model.json          sizes, rate, step between keyframes, labels, noise levels, and the spread of what frames begin
                        with: between given ones that are no more than `between_reach` apart √(still² + moving²·c²), c
                        being how far these are from each other (root mean square of 2 × 2 latents), and of those that
                        begin around a content; of all others it is 1

Batch and length are free. Every network is run by onnxruntime before it counts, and compared with PyTorch's.
`examples/sample_onnx.py` samples from such a folder.
"""

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reroll.errors import RerollError
from reroll.export.media import atomic_path
from reroll.objectives.flow import FREE_RANGE, GIVEN_RANGE
from reroll.parts import motion_prior
from reroll.parts.model import VideoModel
from reroll.parts.motion_prior import PATCH, REACH, MotionPrior
from reroll.training.run import RunRecord

OPSET = 20
MOST_APART = 1e-4
"""How far results may be from PyTorch's, in units of the latents and of frames in [-1, 1]."""
MISSING = "ONNX needs onnx, onnxscript and onnxruntime; in a clone of reroll: pip install '.[export]'"


class _Decoder(nn.Module):
    """`VideoModel.decode`."""

    def __init__(self, model: VideoModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, latents: Tensor) -> Tensor:
        return self.model.decode(latents)


def export_onnx(model: VideoModel, record: RunRecord, folder: Path) -> Path:
    """Write the folder. RerollError when a network's results are not PyTorch's."""
    try:
        import onnxruntime  # type: ignore[import-untyped]  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError:
        raise RerollError(MISSING) from None
    model = model.eval().float().cpu()
    inputs = _inputs(model, 2, 5)
    names = ["latents", "levels", "times", "labels", "content"][: len(inputs)]
    _write(_Decoder(model), folder / "decoder.onnx", {"latents": inputs[0]}, "frames", model)
    priors: dict[str, MotionPrior | None] = {
        "motion_prior": model.motion_prior,
        "early_prior": model.early_prior,
    }
    for name, prior in priors.items():
        if prior is not None:
            given = dict(zip(names, inputs, strict=True))
            _write(prior, folder / f"{name}.onnx", given, "velocity", model)
    if model.content is not None:
        with atomic_path(folder / "contents.npy") as temporary, open(temporary, "wb") as file:
            np.save(file, model.content(model.content.codes).numpy())
    with atomic_path(folder / "model.json") as temporary:
        temporary.write_text(json.dumps(_about(model, record), indent=1) + "\n", encoding="utf-8")
    return folder


def _about(model: VideoModel, record: RunRecord) -> dict[str, Any]:
    """What is needed to sample, beside the networks."""
    return {
        "recipe": record.config.recipe, "width": record.model.width, "height": record.model.height,
        "latent_shape": list(model.latent_shape), "patch": PATCH, "labels": list(record.model.labels),
        "fps": record.fps, "key_gap_seconds": record.key_gap_seconds, "window_frames": record.plan.window_frames,
        "level_logits": {"free": list(FREE_RANGE), "given": list(GIVEN_RANGE)},
        "spread": dict(zip(("still", "moving", "content"), model.source_spread.tolist(), strict=True)),
        "between_reach": REACH,
    }  # fmt: skip


def _inputs(model: VideoModel, batch: int, frames: int) -> tuple[Tensor, ...]:
    """What a MotionPrior is given, as an example: some tokens given, some free."""
    random = torch.Generator().manual_seed(batch + 100 * frames)
    channels, rows, columns = model.latent_shape
    levels = torch.rand(batch, frames, rows // PATCH, columns // PATCH, generator=random)
    levels[:, ::3] = 0.0
    labels = torch.rand(batch, len(model.config.labels) + 1, generator=random)
    given = (
        torch.randn(batch, frames, channels, rows, columns, generator=random),
        levels,
        torch.arange(frames).expand(batch, -1) / 25.0,
        labels / labels.sum(1, keepdim=True),
    )
    return (
        given
        if model.content is None
        else (*given, torch.randn(batch, channels, rows, columns, generator=random))
    )


def _write(network: nn.Module, path: Path, given: dict[str, Tensor], result: str, model: VideoModel) -> None:
    """Export one network with free batch and length, and compare it at other ones."""
    batch, frames = torch.export.Dim("batch", min=1, max=4096), torch.export.Dim("frames", min=1, max=4096)
    free = {name: {0: batch} if name in ("labels", "content") else {0: batch, 1: frames} for name in given}
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = motion_prior.attend
    motion_prior.attend = _attend
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with atomic_path(path) as temporary, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                network.eval(), tuple(given.values()), input_names=list(given), output_names=[result],
                dynamic_shapes=tuple(free.values()), opset_version=OPSET, dynamo=True, verbose=False,
            )  # fmt: skip
            assert program is not None
            program.save(str(temporary))
            for batch_size, length in ((1, 1), (2, 5), (3, 16)):
                _compare(
                    network, temporary, path, _inputs(model, batch_size, length)[: len(given)], list(given)
                )
    finally:
        motion_prior.attend = plain


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention without a choice between ways to compute it, which an exported graph cannot have."""
    return F.softmax(q @ k.transpose(-1, -2), -1) @ v


def _compare(network: nn.Module, file: Path, path: Path, given: tuple[Tensor, ...], names: list[str]) -> None:
    """RerollError if onnxruntime does not find what PyTorch finds."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    found = session.run(None, {name: each.numpy() for name, each in zip(names, given, strict=True)})[0]
    with torch.no_grad():
        wanted = network(*given).numpy()
    apart = float(np.abs(found - wanted).max())
    if not apart < MOST_APART:
        raise RerollError(f"{path}: onnxruntime is {apart:.1e} from PyTorch, more than {MOST_APART:g}.")

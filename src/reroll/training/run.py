"""A run's directory: what is where, and `run.json`, which says what the run is.

run.json          what was asked, the model, the plan, the machine, the footage's hashes
metrics.jsonl     one row a step            events.jsonl   re-plans, roll-backs, stops
checkpoints/      see checkpoint.py         previews/      fixed-seed pictures and clips, kept as a history
"""

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, ValidationError
from torch import Tensor, nn

from reroll.config import Frozen, ModelConfig, Plan, TrainingConfig
from reroll.errors import CheckpointError
from reroll.export.media import atomic_path
from reroll.parts.model import VideoModel, older
from reroll.recipes import RECIPES
from reroll.recipes.context import Networks
from reroll.training import checkpoint
from reroll.training.checkpoint import Loaded

FORMAT = 5


class FootageRecord(Frozen):
    """One file a run was trained on."""

    path: str
    sha256: str
    seconds: float
    frames: int
    label: str | None = None


class RunRecord(Frozen):
    """The content of `run.json`."""

    format: int = FORMAT
    version: str
    config: TrainingConfig
    model: ModelConfig
    plan: Plan
    engine: dict[str, Any]
    footage: tuple[FootageRecord, ...]
    store: str
    fingerprint: str
    fps: float = Field(gt=0, le=10_000, allow_inf_nan=False)
    split: str
    notes: tuple[str, ...] = ()
    status: Literal["training", "stopped", "finished", "diverged"] = "training"

    @property
    def key_gap_seconds(self) -> float:
        """The largest time step windows are drawn at."""
        return self.plan.key_stride / self.fps


def read_record(run: Path) -> RunRecord:
    """`run.json` of a run; CheckpointError if there is none or it cannot be understood."""
    path = run / "run.json"
    if run.is_file():
        raise CheckpointError(f"{run}: that is a file; give the folder of a run, in which run.json is.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            f"{run}: no run here (run.json is missing); train one with `reroll train`."
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{path}: cannot be read ({reason}).") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: written by another version of reroll; this one reads format {FORMAT}."
        )
    try:
        return RunRecord.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise CheckpointError(f"{path}: damaged at {where} ({first['msg']}).") from None


def write_record(run: Path, record: RunRecord) -> None:
    """Write `run.json`, whole or not at all; in ASCII, since names of footage need not be Unicode."""
    with atomic_path(run / "run.json") as temporary:
        temporary.write_text(json.dumps(record.model_dump(), indent=2) + "\n", encoding="ascii")


def load_model(run: Path, record: RunRecord) -> tuple[VideoModel, int]:
    """The averaged (EMA) weights of the newest checkpoint that verifies, on the CPU, and its step.

    Raises:
        CheckpointError: There is none, or what samples are made by has not been trained at all in it.
    """
    loaded = checkpoint.load_newest(run / "checkpoints", finite_only=True)
    if loaded is None:
        raise CheckpointError(f"{run}: no checkpoint to sample from yet; let `reroll train` go on first.")
    _require_samples(run, record, loaded.step)
    model = VideoModel(record.model)
    restore(model, loaded.tensors.get("ema", {}), loaded.path)
    return model, loaded.step


def _require_samples(run: Path, record: RunRecord, step: int) -> None:
    """CheckpointError if no stage that trains what makes samples has begun: they would be noise."""
    specs = {spec.name: spec for spec in RECIPES[record.config.recipe].stages}
    begin = 0
    for stage in record.plan.stages:
        if specs[stage.name].repeats:
            break
        begin += stage.steps
    if step <= begin:
        now = record.plan.stages[record.plan.locate(max(0, min(step, begin - 1)))[0]].name
        raise CheckpointError(
            f"{run}: trained for {step} of {record.plan.steps} steps, its stage is {now}; samples need {stage.name},"
            f" which begins after step {begin}: the same `reroll train` command goes on."
        )


def restore(module: nn.Module, tensors: dict[str, Tensor], path: Path, *, but: str | None = None) -> None:
    """Load weights, but for those whose names begin with `but`. CheckpointError names the tensor that does not fit."""
    expected = module.state_dict()
    tensors = older(expected) | tensors
    for name, value in expected.items():
        if but is not None and name.startswith(but):
            continue
        if name not in tensors:
            raise CheckpointError(f"{path}: {name} is missing; the checkpoint is of another architecture.")
        if tensors[name].shape != value.shape:
            found, wanted = list(tensors[name].shape), list(value.shape)
            raise CheckpointError(f"{path}: {name} is {found}, this model needs {wanted}.")
        expected[name] = tensors[name]
    module.load_state_dict(expected)


def restore_judges(networks: Networks, loaded: Loaded) -> None:
    """Load a run's discriminators. In runs that are older than it there is no LatentDiscriminator: it begins anew."""
    for name, judge in networks.judges().items():
        if name in loaded.tensors or name != "latent_discriminator":
            restore(judge, loaded.tensors[name], loaded.path)


def weights_sha256(model: nn.Module) -> str:
    """Of a model's weights and statistics, their names and shapes; of what models of older versions do not have only
    where it is not what it would be in them, so that theirs stays what it was."""
    digest, state = hashlib.sha256(), model.state_dict()
    without = older(state)
    for name, value in sorted(state.items()):
        if name in without and torch.equal(value.cpu(), without[name]):
            continue
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()

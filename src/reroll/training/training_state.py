"""Optimizers, taken apart into tensors and JSON for a checkpoint, and put back."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from reroll.errors import CheckpointError


def optimizer_state(optimizer: Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors by name (`"<parameter>.exp_avg"`, ...) and the rest for JSON (groups, scalars)."""
    whole = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, dict[str, Any]] = {}
    for index, entries in whole["state"].items():
        for name, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{index}.{name}"] = value
            else:
                scalars.setdefault(str(index), {})[name] = value
    return tensors, {"groups": whole["param_groups"], "scalars": scalars}


def load_optimizer_state(
    optimizer: Optimizer, tensors: Mapping[str, Tensor], state: Mapping[str, Any]
) -> None:
    """Put back what `optimizer_state` took apart; moments get their parameter's memory layout again.

    Raises:
        CheckpointError: It is of another model: a parameter is missing, or of another shape.
    """
    current = optimizer.state_dict()["param_groups"]
    groups = [_as_before(now, saved) for now, saved in zip(current, state["groups"], strict=False)]
    if [g["params"] for g in groups] != [g["params"] for g in current] or len(state["groups"]) != len(
        current
    ):
        raise CheckpointError("the optimizer's state belongs to another model: other parameter groups.")
    parameters = dict(enumerate(p for group in optimizer.param_groups for p in group["params"]))
    entries: dict[int, dict[str, Any]] = {int(i): dict(values) for i, values in state["scalars"].items()}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        parameter = parameters.get(int(index))
        if parameter is None or (value.dim() and value.shape != parameter.shape):
            raise CheckpointError(
                f"the optimizer's state belongs to another model: {key} {list(value.shape)}."
            )
        if value.dim():
            value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        entries.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": entries, "param_groups": groups})


def _as_before(now: Mapping[str, Any], saved: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no tuples: `betas` becomes one again."""
    return {
        name: tuple(value) if isinstance(now.get(name), tuple) else value for name, value in saved.items()
    }

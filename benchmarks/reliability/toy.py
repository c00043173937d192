"""The `reroll` command with toy networks, and with what is planted in RELIABILITY_FAULTS (JSON, a list of lists):

["batch", STEP]            frames or latents of the steps from STEP on are infinite
["weight", NETWORK, STEP]  a weight of the decoder, encoder, motion_prior or discriminator is infinite before STEP
["term", NAME, STEP]       a loss term is not a number in the steps from STEP on; "adversary": its gradient is not
["rate", FACTOR]           learning rates are so many times as high
["rates", D, G]            those of the discriminator, and of all else
["clock", SECONDS, STEP]   the wall clock jumps before STEP
["slow", SECONDS]          every step takes so much longer
["stop", STEP]             Ctrl-C in the step that makes STEP steps
["sync", STEP, ERRNO]      the disk answers with this error when a file is synced, from STEP on
["blind"]                  the room for a checkpoint is not looked at before it is written
["collapse"]               the KL divergence weighs a million times as much: the posterior collapses
["still"]                  samples stand still
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from tests.toy import shrink

Plant = Callable[..., None]
PLANTS: dict[str, Plant] = {}


def plants(kind: str) -> Callable[[Plant], Plant]:
    """Make a function the one that plants this fault."""

    def register(function: Plant) -> Plant:
        PLANTS[kind] = function
        return function

    return register


def before(patch: pytest.MonkeyPatch, step: int | None, do: Callable[[Any], object]) -> None:
    """Call `do` with the trainer before this step, or before every one."""
    from reroll.training.trainer import Trainer

    original = Trainer.train_step

    def train_step(self: Trainer, at: int) -> dict[str, float]:
        if step is None or at == step:
            do(self)
        return original(self, at)

    patch.setattr(Trainer, "train_step", train_step)


@plants("batch")
def _batch(patch: pytest.MonkeyPatch, step: int) -> None:
    from reroll.training.trainer import Trainer

    original = Trainer._footage
    patch.setattr(
        Trainer, "_footage",
        lambda self, data, *more: original(self, data / 0 if self.global_step >= step else data, *more),
    )  # fmt: skip


@plants("weight")
def _weight(patch: pytest.MonkeyPatch, network: str, step: int) -> None:
    def spoil(trainer: Any) -> None:  # noqa: ANN401
        networks = trainer.networks
        owner = networks.discriminator if network == "discriminator" else getattr(networks.model, network)
        with torch.no_grad():
            weight = next(owner.parameters())
            weight[(0,) * weight.dim()] = float("inf")

    before(patch, step, spoil)


@plants("term")
def _term(patch: pytest.MonkeyPatch, name: str, step: int) -> None:
    from reroll.training.trainer import Trainer

    original = Trainer.update

    def update(
        self: Trainer,
        optimizer: str,
        terms: dict,
        extra: tuple | None = None,
        **named: Any,  # noqa: ANN401
    ) -> None:
        if self.global_step >= step:
            terms = {each: term * float("nan") if each == name else term for each, term in terms.items()}
            if name == "adversary" and extra is not None and optimizer != "discriminator":
                extra = (extra[0], extra[1] * float("nan"))
        original(self, optimizer, terms, extra, **named)

    patch.setattr(Trainer, "update", update)


@plants("rate")
def _rate(patch: pytest.MonkeyPatch, factor: float) -> None:
    from reroll.training import trainer

    original = trainer.rate_factor
    patch.setattr(trainer, "rate_factor", lambda *arguments: original(*arguments) * factor)


@plants("rates")
def _rates(patch: pytest.MonkeyPatch, discriminator: float, others: float) -> None:
    from reroll.training.trainer import Trainer

    original = Trainer.enter_stage

    def enter_stage(self: Trainer, *arguments: Any, **named: Any) -> None:  # noqa: ANN401
        original(self, *arguments, **named)
        for name, spec in self.specs.items():
            factor = discriminator if name == "discriminator" else others
            self.specs[name] = type(spec)(**{**spec.__dict__, "learning_rate": spec.learning_rate * factor})

    patch.setattr(Trainer, "enter_stage", enter_stage)


@plants("clock")
def _clock(patch: pytest.MonkeyPatch, seconds: float, step: int) -> None:
    clock, jump = time.time, [0.0]
    patch.setattr(time, "time", lambda: clock() + jump[0])
    before(patch, step, lambda _: jump.__setitem__(0, seconds))


@plants("slow")
def _slow(patch: pytest.MonkeyPatch, seconds: float) -> None:
    before(patch, None, lambda _: time.sleep(seconds))


@plants("stop")
def _stop(patch: pytest.MonkeyPatch, step: int) -> None:
    before(patch, step - 1, lambda _: signal.raise_signal(signal.SIGINT))


@plants("sync")
def _sync(patch: pytest.MonkeyPatch, step: int, number: int) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    before(patch, step, lambda _: patch.setattr(os, "fsync", fail))


@plants("blind")
def _blind(patch: pytest.MonkeyPatch) -> None:
    from reroll.training import checkpoint

    patch.setattr(checkpoint, "require_space", lambda *_: None)


@plants("collapse")
def _collapse(patch: pytest.MonkeyPatch) -> None:
    from reroll.recipes import vae

    patch.setattr(vae, "KL_WEIGHT", 1e6 * vae.KL_WEIGHT)


@plants("still")
def _still(patch: pytest.MonkeyPatch) -> None:
    from reroll.sampling.sampler import Sampler

    original = Sampler.frames

    def frames(self: Sampler, *arguments: Any) -> Iterator[np.ndarray]:  # noqa: ANN401
        first = None
        for chunk in original(self, *arguments):
            first = chunk[:1] if first is None else first
            yield np.repeat(first, len(chunk), 0)

    patch.setattr(Sampler, "frames", frames)


def main() -> None:
    """Shrink, plant, and be `reroll`."""
    patch = pytest.MonkeyPatch()
    shrink(patch)
    from reroll.training import disk

    patch.setattr(disk, "WAITS_SECONDS", (0.5, 0.5, 0.5))
    for kind, *rest in json.loads(os.environ.get("RELIABILITY_FAULTS", "[]")):
        PLANTS[kind](patch, *rest)
    from reroll.cli import main as reroll

    sys.argv[0] = "reroll"
    reroll()


if __name__ == "__main__":
    main()

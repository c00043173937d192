"""The `reroll` command with toy networks, and with what is planted in RELIABILITY_FAULTS (JSON, a list of lists):

["batch", STEP]            frames or latents of the steps from STEP on are infinite
["weight", NETWORK, STEP]  a weight of the decoder, encoder, motion_prior or discriminator is infinite before STEP
["term", NAME, STEP]       a loss term is not a number in the steps from STEP on
["rate", FACTOR]           learning rates are so many times as high
["rates", D, G]            those of the discriminator, and of all else
["clock", SECONDS, STEP]   the wall clock jumps before STEP
["slow", SECONDS]          every step takes so much longer
["stop", STEP]             Ctrl-C in the step that makes STEP steps
"""

import json
import os
import signal
import sys
import time

import pytest
import torch

from tests.toy import shrink


def plant(patch: pytest.MonkeyPatch, kind: str, *rest: float | str) -> None:
    """Plant one fault."""
    from reroll.training import trainer

    original_step, original_update = trainer.Trainer.train_step, trainer.Trainer.update
    original_rate = trainer.rate_factor

    def before(step: int, do: object) -> None:
        def train_step(self: trainer.Trainer, at: int) -> dict[str, float]:
            if at == step:
                do(self)  # type: ignore[operator]
            return original_step(self, at)

        patch.setattr(trainer.Trainer, "train_step", train_step)

    if kind == "batch":
        footage = trainer.Trainer._footage
        patch.setattr(
            trainer.Trainer, "_footage",
            lambda self, data, *more: footage(self, data / 0 if self.global_step >= rest[0] else data, *more),
        )  # fmt: skip
    elif kind == "weight":

        def spoil(self: trainer.Trainer) -> None:
            networks = self.networks
            owner = (
                networks.discriminator
                if rest[0] == "discriminator"
                else getattr(networks.model, str(rest[0]))
            )
            with torch.no_grad():
                weight = next(owner.parameters())
                weight[(0,) * weight.dim()] = float("inf")

        before(int(rest[1]), spoil)
    elif kind == "term":

        def update(
            self: trainer.Trainer, optimizer: str, terms: dict, *more: object, **named: object
        ) -> None:
            if self.global_step >= rest[1]:
                terms = {
                    name: term * float("nan") if name == rest[0] else term for name, term in terms.items()
                }
            original_update(self, optimizer, terms, *more, **named)

        patch.setattr(trainer.Trainer, "update", update)
    elif kind == "rate":
        patch.setattr(trainer, "rate_factor", lambda *arguments: original_rate(*arguments) * rest[0])
    elif kind == "rates":
        recipe_optimizers = trainer.Trainer.enter_stage

        def enter_stage(self: trainer.Trainer, *arguments: object, **named: object) -> None:
            recipe_optimizers(self, *arguments, **named)
            for name, spec in self.specs.items():
                factor = rest[0] if name == "discriminator" else rest[1]
                self.specs[name] = type(spec)(
                    **{**spec.__dict__, "learning_rate": spec.learning_rate * factor}
                )

        patch.setattr(trainer.Trainer, "enter_stage", enter_stage)
    elif kind == "clock":
        clock, jump = time.time, [0.0]
        patch.setattr(time, "time", lambda: clock() + jump[0])
        before(int(rest[1]), lambda _: jump.__setitem__(0, float(rest[0])))
    elif kind == "stop":
        before(int(rest[0]) - 1, lambda _: signal.raise_signal(signal.SIGINT))
    elif kind == "slow":

        def slowly(self: trainer.Trainer, at: int) -> dict[str, float]:
            time.sleep(float(rest[0]))
            return original_step(self, at)

        patch.setattr(trainer.Trainer, "train_step", slowly)
    else:
        raise ValueError(kind)


def main() -> None:
    """Shrink, plant, and be `reroll`."""
    patch = pytest.MonkeyPatch()
    shrink(patch)
    for fault in json.loads(os.environ.get("RELIABILITY_FAULTS", "[]")):
        plant(patch, *fault)
    from reroll.cli import main as reroll

    sys.argv[0] = "reroll"
    reroll()


if __name__ == "__main__":
    main()

"""The LatentDiscriminator's part in `gan`: what it sees, how much it teaches, and runs that are older than it."""

import copy
import signal
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from toy import STEPS, train

from reroll.errors import InterruptedRun
from reroll.objectives.adversarial import relativistic_loss
from reroll.objectives.energy import energy_loss
from reroll.parts.latent_discriminator import LatentDiscriminator
from reroll.recipes import latent_adversary
from reroll.training import checkpoint
from reroll.training.monitor import read_rows
from reroll.training.trainer import Trainer

COUNT, CHANNELS = 16, 4


class Surroundings:
    """Of a context, what the LatentDiscriminator's part asks for."""

    def __init__(self, seed=0):
        torch.manual_seed(seed)
        self.networks = SimpleNamespace(latent_discriminator=LatentDiscriminator(CHANNELS, 16))
        self.optimizer = torch.optim.Adam(self.networks.latent_discriminator.parameters(), 2e-3, (0.0, 0.99))
        self.step, self.terms = 0, {}

    autocast = full_precision = staticmethod(nullcontext)

    def update(self, optimizer, terms):
        assert optimizer == "latent_discriminator"
        self.terms = {name: term.item() for name, term in terms.items()}
        self.optimizer.zero_grad()
        sum(terms.values()).backward()
        self.optimizer.step()
        self.step += 1


def windows(seed, *, whole):
    """Each side of a frame is one of two things; the two sides belong together where it is `whole`."""
    generator = torch.Generator().manual_seed(seed)
    left, right = (torch.randint(2, (COUNT, 1, 1, 1, 1), generator=generator) * 2.0 - 1 for _ in range(2))
    sides = [left.expand(-1, 3, CHANNELS, 4, 4), (left if whole else right).expand(-1, 3, CHANNELS, 4, 4)]
    return torch.cat(sides, -1) + 0.3 * torch.randn(COUNT, 3, CHANNELS, 4, 8, generator=generator)


def conditions():
    return 0.1 * torch.arange(3.0).expand(COUNT, -1), torch.full((COUNT,), -1)


def judged(context, made, seen, share=1.0):
    times, labels = conditions()
    spread = energy_loss(made, seen, times, labels)
    return spread, latent_adversary.judged(context, made, seen, times, labels, spread, share)


def test_it_learns_that_two_halves_do_not_belong_together():
    context = Surroundings()
    for step in range(150):
        made = windows(2 * step, whole=False).requires_grad_()
        judged(context, made, windows(2 * step + 1, whole=True))
    judge, times = context.networks.latent_discriminator, conditions()[0]
    with torch.no_grad():
        torn = windows(1000, whole=False)
        torn = torn[torn[..., :4].mean((1, 2, 3, 4)) * torn[..., 4:].mean((1, 2, 3, 4)) < 0]
        real, made = judge(windows(1001, whole=True), times).wide, judge(torn, times[: len(torn)]).wide
    assert len(torn) >= 4
    assert real.median() > made.max()


@pytest.mark.parametrize("share", [0.0, 0.5, 2.0])
def test_its_gradient_is_a_share_of_that_of_the_energy_distance(share):
    context, seen = Surroundings(), windows(1, whole=True)
    made = windows(0, whole=False).requires_grad_()
    spread, (term, logged) = judged(context, made, seen, share)
    ours = torch.autograd.grad(term, made)[0]
    beside = torch.autograd.grad(spread, made)[0]
    torch.testing.assert_close(ours.norm(), share * beside.norm(), rtol=1e-3, atol=1e-8)
    assert logged["latent_discriminator"] == pytest.approx(0.693, abs=0.2)


def test_its_gradient_leads_to_where_it_sees_footage():
    context = Surroundings()
    for step in range(100):
        judged(context, windows(2 * step, whole=False).requires_grad_(), windows(2 * step + 1, whole=True))
    judge, (times, _) = copy.deepcopy(context.networks.latent_discriminator), conditions()
    seen, made = windows(1001, whole=True), windows(1000, whole=False).requires_grad_()
    _, (term, _) = judged(context, made, seen)
    slope = torch.autograd.grad(term, made)[0]

    def loss(windows):
        unit = seen.std((0, 1, 3, 4), keepdim=True)
        return relativistic_loss(judge(windows / unit, times), judge(seen / unit, times))

    with torch.no_grad():
        assert loss(made - slope / slope.norm()) < loss(made)


def test_the_penalty_comes_every_second_step():
    context, seen = Surroundings(), windows(1, whole=True)
    there = []
    for _ in range(4):
        judged(context, windows(0, whole=False).requires_grad_(), seen)
        there.append("latent penalty" in context.terms)
    assert there == [True, False, True, False]


@pytest.mark.parametrize("stop", [3, STEPS - 5])
def test_a_run_from_before_it_goes_on(footage, tmp_path, monkeypatch, stop):
    """In either stage; it is judged by first weights, and what the run has learnt stays."""
    original, left = Trainer.state, Trainer.train_step

    def state(self):
        tensors, rest = original(self)
        tensors = {name: group for name, group in tensors.items() if "latent_discriminator" not in name}
        rest["optimizers"].pop("latent_discriminator")
        return tensors, rest

    def train_step(self, step):
        if step == stop:
            signal.raise_signal(signal.SIGINT)
        return left(self, step)

    monkeypatch.setattr(Trainer, "state", state)
    monkeypatch.setattr(Trainer, "train_step", train_step)
    with pytest.raises(InterruptedRun):
        train(footage, tmp_path / "run", "gan")
    kept = checkpoint.load_newest(tmp_path / "run" / "checkpoints")
    assert "latent_discriminator" not in kept.tensors
    began = {}

    def resumed(self, step):
        began.setdefault(step, {n: v.clone() for n, v in self.networks.model.state_dict().items()})
        return left(self, step)

    monkeypatch.setattr(Trainer, "state", original)
    monkeypatch.setattr(Trainer, "train_step", resumed)
    assert train(footage, tmp_path / "run", "gan").status == "finished"
    assert min(began) == kept.step > 0
    for name, value in began[kept.step].items():
        assert torch.equal(value, kept.tensors["model"][name]), name
    assert "latent_discriminator" in checkpoint.load_newest(tmp_path / "run" / "checkpoints").tensors
    assert len(read_rows(tmp_path / "run" / "metrics.jsonl")) == STEPS

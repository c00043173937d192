"""The optimizer of every stage: Muon for weight matrices and filters, Adam for the rest.

Muon (Jordan et al. 2024) replaces a matrix's momentum by its nearest semi-orthogonal matrix, found by a few
Newton-Schulz steps; a convolution's filter counts as an `out × (in·k·k)` matrix. `torch.optim.Muon` takes 2-D
parameters only, and our encoder and decoder are convolutions (measured: docs/log.md), hence our own.

Its Adam is not torch's fused one: after a double backward torch 2.13 can return gradients whose strides differ from
the parameter's, and `Adam(fused=True)` then updates the wrong elements without a word.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

COEFFICIENTS = (
    (8.287212, -23.595887, 17.300387),
    (4.107059, -2.947850, 0.544843),
    (3.158953, -2.327122, 0.441455),
)
CALM = 0.4
"""Share of the rate for parameters that others follow."""


def orthogonalise(matrices: Tensor) -> Tensor:
    """The semi-orthogonal factors of `N rows columns`, roughly: singular values come out between 0.15 and 1.5, about 1
    on average, unless they were nearly zero. Three steps with coefficients that are best for so few (Polar Express,
    Amsel et al. 2025), the last scaled to that average, train as well as Muon's five (docs/log.md)."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (1.01 * x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for a, b, c in COEFFICIENTS:
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Muon on parameters of two dimensions and more, Adam on the others.

    `lr` is Adam's rate; a matrix moves by 0.2 · `lr` per step in root mean square (Liu et al. 2025), so that
    one rate and one schedule serve both.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        *,
        betas: tuple[float, float] = (0.9, 0.99),
        momentum: float = 0.95,
        matrices: bool = True,
        adam: Iterable[Tensor] = (),
        calm: Iterable[Tensor] = (),
        compute: torch.dtype = torch.float32,
    ) -> None:
        """Without `matrices` everything is Adam's, and `adam` in any case. `calm` move by `CALM` times as
        much. `compute` is the precision of the Newton-Schulz steps: bf16 suffices (Jordan et al.), where it pays."""
        super().__init__(params, {"lr": lr, "betas": betas, "momentum": momentum})
        self.matrices, self.compute = matrices, compute
        self.adam = {id(p) for p in adam}
        self.calm = {id(p) for p in calm}

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            alike: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is None:
                    continue
                large = p.ndim >= 2 and min(p.shape[0], p[0].numel()) >= 8
                if self.matrices and large and id(p) not in self.adam:
                    alike[p.shape].append(p)
                else:
                    self._adam_step(p, p.grad, group)
            for matrices in alike.values():
                self._matrix_step(matrices, group)

    def _matrix_step(self, alike: list[Tensor], group: dict[str, Any]) -> None:
        """One step of matrices of one shape: products of them all at once keep every thread busy."""
        look_ahead = []
        for p in alike:
            assert p.grad is not None
            state = self.state[p]
            if not state:
                state["momentum"] = torch.zeros_like(p)
            average = state["momentum"].lerp_(p.grad, 1 - group["momentum"])
            look_ahead.append(torch.lerp(p.grad, average, group["momentum"]).flatten(1).to(self.compute))
        updates = orthogonalise(torch.stack(look_ahead)).to(alike[0].dtype)
        # A semi-orthogonal r × c matrix has root mean square 1/√max(r, c).
        scale = 0.2 * max(updates.shape[1:]) ** 0.5
        for p, update in zip(alike, updates, strict=True):
            p.add_(update.view_as(p), alpha=-self._rate(p, group) * scale)

    def _adam_step(self, p: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[p]
        if not state:
            state["step"] = torch.zeros(())
            state["mean"] = torch.zeros_like(p)
            state["square"] = torch.zeros_like(p)
        state["step"] += 1
        beta1, beta2 = group["betas"]
        count = state["step"].item()
        mean = state["mean"].lerp_(gradient, 1 - beta1) / (1 - beta1**count)
        square = state["square"].lerp_(gradient.square(), 1 - beta2) / (1 - beta2**count)
        p.addcdiv_(mean, square.sqrt() + 1e-8, value=-self._rate(p, group))

    def _rate(self, p: Tensor, group: dict[str, Any]) -> float:
        rate: float = group["lr"]
        return CALM * rate if id(p) in self.calm else rate

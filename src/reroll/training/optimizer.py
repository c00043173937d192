"""The optimizer of every stage: Muon for weight matrices and filters, Adam for the rest.

Muon (Jordan et al. 2024) replaces a matrix's momentum by its nearest semi-orthogonal matrix, found by five
Newton-Schulz steps; a convolution's filter counts as an `out × (in·k·k)` matrix. `torch.optim.Muon` takes 2-D
parameters only, and our encoder and decoder are convolutions (measured: docs/log.md), hence our own.

Its Adam is not torch's fused one: after a double backward torch 2.13 can return gradients whose strides differ from
the parameter's, and `Adam(fused=True)` then updates the wrong elements without a word.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


def orthogonalise(matrix: Tensor, steps: int = 5) -> Tensor:
    """The semi-orthogonal factor of `rows × columns`, by the quintic Newton-Schulz iteration of Muon."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if matrix.shape[0] > matrix.shape[1] else x


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
        compute: torch.dtype = torch.float32,
    ) -> None:
        """Without `matrices` everything is Adam's, and `adam` in any case. `compute` is the precision of the
        Newton-Schulz steps: bf16
        suffices (Jordan et al.), where it pays."""
        super().__init__(params, {"lr": lr, "betas": betas, "momentum": momentum})
        self.matrices, self.compute = matrices, compute
        self.adam = {id(p) for p in adam}

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                large = p.ndim >= 2 and min(p.shape[0], p[0].numel()) >= 8
                if self.matrices and large and id(p) not in self.adam:
                    self._matrix_step(p, p.grad, group)
                else:
                    self._adam_step(p, p.grad, group)

    def _matrix_step(self, p: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[p]
        if not state:
            state["momentum"] = torch.zeros_like(p)
        average = state["momentum"].lerp_(gradient, 1 - group["momentum"])
        look_ahead = torch.lerp(gradient, average, group["momentum"])
        update = orthogonalise(look_ahead.flatten(1).to(self.compute)).to(p.dtype)
        # A semi-orthogonal r × c matrix has root mean square 1/√max(r, c).
        scale = 0.2 * max(update.shape) ** 0.5
        p.add_(update.view_as(p), alpha=-group["lr"] * scale)

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
        p.addcdiv_(mean, square.sqrt() + 1e-8, value=-group["lr"])

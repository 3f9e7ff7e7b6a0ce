"""Muon: matrices step along the orthogonal factor of their momentum (Jordan et al., 2024)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

RMS = 0.2
"""Root mean square of a full step at learning rate 1; AdamW's steps are about as large
(arXiv:2502.16982)."""
RANK_TOLERANCE = 1e-6
"""Share of the largest singular value below which a direction is rounding, and stands still."""


class Muon(torch.optim.AdamW):
    """Muon for groups with `is_matrices`, AdamW for the others.

    A step is `lr * 0.2 sqrt(max(m, n)) U V^T` for a momentum `U S V^T` (m, n), Nesterov's, with
    AdamW's first decay (0.9 learns faster in short runs than the common 0.95). The factor is exact,
    from the smaller Gram matrix in float64; all matrices of one shape share one call. Kernels
    (out, in, h, w) count as matrices (out, in h w).
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Take one step; the gradients of matrices are used up."""
        for group in self.param_groups:
            if group.get("is_matrices"):
                self._step_matrices(group)
        return super().step(closure)  # passes over what has no gradient

    def _step_matrices(self, group: dict[str, Any]) -> None:
        learning_rate, (decay, _) = group["lr"], group["betas"]
        for matrices in _by_shape(group["params"]):
            directions = torch.stack([self._direction(matrix, decay) for matrix in matrices])
            size = learning_rate * RMS * max(directions.shape[1:]) ** 0.5
            for matrix, factor in zip(matrices, orthogonal_factor(directions), strict=True):
                matrix.mul_(1 - learning_rate * group["weight_decay"])
                matrix.add_(factor.view_as(matrix), alpha=-size)
                matrix.grad = None

    def _direction(self, matrix: nn.Parameter, decay: float) -> Tensor:
        """Return the gradient mixed with its momentum, (m, n)."""
        state, gradient = self.state[matrix], matrix.grad
        assert gradient is not None
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(gradient)
            state["step"] = torch.tensor(0.0)  # as torch's AdamW looks for one when it is loaded
        state["momentum"].lerp_(gradient, 1 - decay)
        return gradient.lerp(state["momentum"], decay).flatten(1)


def _by_shape(parameters: Iterable[nn.Parameter]) -> Iterable[list[nn.Parameter]]:
    groups: dict[Any, list[nn.Parameter]] = defaultdict(list)
    for parameter in parameters:
        if parameter.grad is not None:
            groups[parameter.shape, parameter.device].append(parameter)
    return groups.values()


def orthogonal_factor(matrices: Tensor) -> Tensor:
    """Return `U V^T` of every `U S V^T` in `matrices` (..., m, n); null directions stay zero."""
    wide = matrices.mT if matrices.shape[-2] > matrices.shape[-1] else matrices
    exact = (wide.cpu() if wide.device.type == "mps" else wide).double()
    squares, basis = torch.linalg.eigh(exact @ exact.mT)
    least = squares.amax(-1, keepdim=True) * RANK_TOLERANCE**2
    scale = torch.where(squares > least, squares.clamp(min=0).rsqrt(), 0.0)
    factor = ((basis * scale[..., None, :]) @ (basis.mT @ exact)).to(matrices)
    return factor.mT if wide is not matrices else factor

"""A frozen linear layer whose weight is rotated."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from orthodiff.adapters.layers.rotated import RotatedLayer
from orthodiff.adapters.rotation import Factors


class AdaptedLinear(RotatedLayer):
    """`y = x (diag(s) W R)^T + bias` around a frozen `nn.Linear`.

    The base layer may be one of bitsandbytes, quantized to 8 or 4 bits, which unpacks its weight
    itself.
    """

    base_layer: nn.Linear

    def rows_in(self, x: Tensor) -> int:
        """Return the number of rows of x (..., d)."""
        return x.numel() // x.shape[-1]

    def rotate_input(self, x: Tensor, factors: Factors) -> Tensor:
        """Return `x R^T` for x (..., d)."""
        return self.method.rotate(x, factors, inverse=True)

    def run_rotated(self, x: Tensor, factors: Factors) -> Tensor:
        """Return `x R^T W^T + bias` (..., out).

        Where x wants no gradient, as a prompt's, a thin change is added to the frozen layer's
        output instead, so that training need not go back through W.
        """
        if self.method.is_thin and torch.is_grad_enabled() and not x.requires_grad:
            return self.method.rotate_output(self.base_layer(x), x, self.matrix, factors)
        return super().run_rotated(x, factors)

    def run(self, x: Tensor, matrix: Tensor) -> Tensor:
        """Return `x matrix^T + bias` (..., out)."""
        return F.linear(x, matrix, self.bias)

    def along_outputs(self, values: Tensor) -> Tensor:
        """Return the values as they are: outputs come last."""
        return values

    @property
    def in_features(self) -> int:
        """Width d of the rows."""
        return self.width

    @property
    def out_features(self) -> int:
        """Number of outputs."""
        return self.outputs

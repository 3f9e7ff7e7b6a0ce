"""A frozen 2-D convolution whose filters are rotated."""

from __future__ import annotations

from torch import Tensor, nn

from orthodiff.adapters.layers.rotated import RotatedLayer
from orthodiff.adapters.method import Factors


class AdaptedConv2d(RotatedLayer):
    """A frozen `nn.Conv2d` of any kernel, stride, padding, dilation and groups, filters rotated.

    A filter is one row of the weight matrix (out, in / groups * height * width). All filters share
    one rotation, also those of different groups, so angles between filters are kept.
    """

    base_layer: nn.Conv2d

    def rows_in(self, x: Tensor) -> int | None:
        """Return the number of pixels of x (..., in, H, W) for a 1x1 kernel, else None."""
        pointwise = self.base_layer.kernel_size == (1, 1) and self.base_layer.groups == 1
        return x.numel() // self.width if pointwise else None

    def turn(self, x: Tensor, factors: Factors) -> Tensor:
        """Return x (..., in, H, W) with the channels of every pixel multiplied by R^T."""
        pixels = x.movedim(-3, -1)
        return self.method.rotate(pixels, factors, inverse=True).movedim(-1, -3)

    def run(self, x: Tensor, matrix: Tensor) -> Tensor:
        """Return the convolution of x (..., in, H, W) with filters (out, d)."""
        filters = matrix.view_as(self.base_layer.weight)
        return self.base_layer._conv_forward(x, filters, self.bias)

    def along_outputs(self, values: Tensor) -> Tensor:
        """Return the values (out, 1, 1): pixels come last."""
        return values[:, None, None]

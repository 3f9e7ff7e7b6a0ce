"""A frozen 2-D convolution whose filters are rotated."""

from __future__ import annotations

from torch import Tensor, nn

from orthodiff.adapters.layers.adaptable import out_of_reach
from orthodiff.adapters.layers.rotated import RotatedLayer
from orthodiff.adapters.rotation import Factors, Parameters, Rotation
from orthodiff.errors import UserError


class AdaptedConv2d(RotatedLayer):
    """A frozen `nn.Conv2d` of any kernel, stride, padding, dilation and groups, filters rotated.

    A filter is one row of the weight matrix (out, in / groups * height * width). All filters share
    one rotation, also those of different groups, so angles between filters are kept.
    """

    base_layer: nn.Conv2d

    def __init__(self, base_layer: nn.Conv2d, method: Rotation, parameters: Parameters) -> None:
        super().__init__(base_layer, method, parameters)
        self._require_reach()

    @property
    def is_pointwise(self) -> bool:
        """Whether an input's pixels are its rows: a 1x1 kernel over all channels."""
        return self.base_layer.kernel_size == (1, 1) and self.base_layer.groups == 1

    def _require_reach(self) -> None:
        """Refuse a larger kernel whose filters cannot be rotated.

        Raises:
            UserError: saying why they are out of reach.
        """
        reason = out_of_reach(self.base_layer)
        if reason and not self.is_pointwise:
            raise UserError(
                f"The convolution {reason}, but a kernel larger than 1x1 can be adapted only "
                "through its weight. Leave it out of `targets`, or undo that first."
            )

    def rows_in(self, x: Tensor) -> int | None:
        """Return the number of pixels of x (..., in, H, W) for a 1x1 kernel, else None."""
        return x.numel() // self.width if self.is_pointwise else None

    def rotate_input(self, x: Tensor, factors: Factors) -> Tensor:
        """Return x (..., in, H, W) with the channels of every pixel multiplied by R^T.

        Raises:
            UserError: for a larger kernel, whose patches overlap.
        """
        self._require_reach()
        pixels = x.movedim(-3, -1)
        return self.method.rotate(pixels, factors, inverse=True).movedim(-1, -3)

    def run(self, x: Tensor, matrix: Tensor) -> Tensor:
        """Return the convolution of x (..., in, H, W) with filters (out, d)."""
        filters = matrix.view_as(self.base_layer.weight)
        return self.base_layer._conv_forward(x, filters, self.bias)

    def along_outputs(self, values: Tensor) -> Tensor:
        """Return the values (out, 1, 1): pixels come last."""
        return values[:, None, None]

"""The mathematics of an orthogonal method: a rotation of the rows of a frozen weight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

Parameters = Mapping[str, Tensor]
"""A layer's trainable tensors by name."""
Factors = tuple[Tensor, ...]
"""What a method solves from them."""


class Rotation:
    """Pure functions that define R, the orthogonal matrix by which W becomes `diag(s) W R`.

    A layer computes `y = x W^T + bias`, W of shape (out, d). R (d, d) is never built, and rotating
    the rows of x by R^T before the layer is the same as rotating the rows of W by R.

    Two functions suffice. `prepare` does the solves on which R depends; it works under any number
    of leading batch axes, so that layers can share one call. `rotate` multiplies rows by R.
    Running, training and merging follow from them; `power` and `angles` give strength and angles.
    """

    factor_count: ClassVar[int] = 1
    """Number of tensors that `prepare` returns."""

    def prepare(self, parameters: Parameters) -> Factors:
        """Return what `rotate` needs, from parameters of shape (*batch, *shape)."""
        raise NotImplementedError

    def rotate(self, rows: Tensor, factors: Factors, *, inverse: bool = False) -> Tensor:
        """Return `rows R`, or `rows R^T` with `inverse`; rows (..., d), whose dtype is kept."""
        raise NotImplementedError

    def power(self, factors: Factors, strength: float) -> Factors:
        """Return the factors with every angle times `strength`: orthogonal at every value."""
        raise NotImplementedError

    def angles(self, factors: Factors) -> Tensor:
        """Return the angles of one layer in radians, from 0 to pi, largest first."""
        raise NotImplementedError

    def arrange(self, factors: Factors) -> Factors:
        """Return the factors (*batch, ...) in the form that `rotate` applies fastest.

        `rotate` takes them as `prepare` returns them too; what is arranged is for `rotate` alone.
        """
        return factors

    is_thin: ClassVar[bool] = False
    """Whether the change of W is of low rank, so that `rotate_output` pays."""

    def rotate_output(self, output: Tensor, x: Tensor, matrix: Tensor, factors: Factors) -> Tensor:
        """Return `x R^T W^T + bias` from `output = x W^T + bias`, for rows x without a gradient.

        `matrix` is W (out, d). For methods that are thin only.
        """
        raise NotImplementedError

    def scale(self, parameters: Parameters) -> Tensor | None:
        """Return the learned output scale s (out, 1), or None for a method that only rotates."""
        return None

    def drop(self, factors: Factors) -> Factors:
        """Return the factors for one training pass, of which a random part may be left out."""
        return factors

    def penalty(self, parameters: Parameters) -> Tensor | None:
        """Return the weighted scalar that layers (*batch, *shape) add to the loss, or None."""
        return None

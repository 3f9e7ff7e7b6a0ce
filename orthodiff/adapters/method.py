"""The one contract of all methods: an orthogonal map of the rows of a frozen weight."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from orthodiff.adapters.layers.adaptable import Adaptable, is_plain
from orthodiff.errors import UserError

if TYPE_CHECKING:
    from orthodiff.adapters.layers.rotated import AdaptedLayer

Parameters = Mapping[str, Tensor]
Factors = tuple[Tensor, ...]


@dataclass(frozen=True)
class Method:
    """Settings of a method and the pure functions that define it.

    A layer computes `y = x W^T + bias`, W of shape (out, d). A method replaces W by
    `diag(s) W R` with R orthogonal and never built, so rotating the rows of x by R^T before the
    layer is the same.

    A method is four functions. `shapes` and `start` give the parameters of one layer. `prepare`
    does the solves on which R depends; it works under any number of leading batch axes, so that
    layers can share one call. `rotate` multiplies rows by R. Running, training and merging follow
    from them; changing the strength, combining and saving need the others below.
    """

    name: ClassVar[str]
    """Name in `ADAPTERS`, on the command line and in saved recipes."""
    title: ClassVar[str]
    """Full name for people, with its source."""
    peft_type: ClassVar[str]
    """PEFT's name of the method."""

    factor_count: ClassVar[int] = 1
    """Number of tensors that `prepare` returns."""

    def shapes(self, d: int, out: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the parameters of a layer of shape (out, d), by name.

        Raises:
            UserError: if the settings do not fit the width d; the sentence lists what fits.
        """
        raise NotImplementedError

    def start(self, d: int, out: int, *, generator: torch.Generator | None) -> dict[str, Tensor]:
        """Return the float32 parameters of a layer of shape (out, d) at the start of training.

        Raises:
            UserError: if the settings do not fit the width d; the sentence lists what fits.
        """
        return {name: torch.zeros(shape) for name, shape in self.shapes(d, out).items()}

    def prepare(self, parameters: Parameters) -> Factors:
        """Return what `rotate` needs, from parameters of shape (*batch, *shape)."""
        raise NotImplementedError

    def rotate(self, rows: Tensor, factors: Factors, *, inverse: bool = False) -> Tensor:
        """Return `rows R`, or `rows R^T` with `inverse`; rows (..., d), whose dtype is kept."""
        raise NotImplementedError

    def arrange(self, factors: Factors) -> Factors:
        """Return the factors (*batch, ...) in the form that `rotate` applies fastest.

        `rotate` takes them as `prepare` returns them too; what is arranged is for `rotate` alone.
        """
        return factors

    def thin_change(self, matrix: Tensor, factors: Factors) -> tuple[Tensor, Tensor] | None:
        """Return A (r, d) and C (r, out) with `x R^T W^T = x W^T + (x A^T) C`, or None if wide.

        `matrix` is W (out, d), in whose dtype products with it are computed.
        """
        return None

    def low_rank(
        self, matrix: Tensor, parameters: Parameters, *, strength: float
    ) -> tuple[Tensor, Tensor] | None:
        """Return B (out, r) and A (r, d) with `W + B A` the adapted W, or None for a full change.

        `matrix` is W (out, d); it and the parameters are of one dtype, in which this is computed.
        """
        return None

    def power(self, factors: Factors, strength: float) -> Factors:
        """Return the factors with every angle times `strength`: orthogonal at every value."""
        raise NotImplementedError

    def bake_strength(self, parameters: Parameters, strength: float) -> tuple[Method, Parameters]:
        """Return a method and parameters that turn at strength 1 as these do at `strength`.

        What matters in training only is left out of the method.

        Raises:
            UserError: if the method does not rotate.
        """
        raise UserError(
            f"{self.name} adapters add to the weights, so they cannot be combined with others. "
            "Use it alone, or train it again with hra, oft or boft."
        )

    def invert(self, parameters: Parameters) -> Parameters | None:
        """Return parameters of R^T for a method at strength 1, or None where it has none."""
        return None

    def join(
        self, parameters: Parameters, other: Method, others: Parameters
    ) -> tuple[Method, Parameters] | None:
        """Return a method and parameters of `R R_other`, at strength 1, or None for a chain."""
        return None

    def between(
        self, parameters: Parameters, other: Method, others: Parameters, t: float
    ) -> tuple[Method, Parameters] | None:
        """Return a method and parameters on the geodesic to `other`'s, at strength 1, or None."""
        return None

    def angles(self, factors: Factors) -> Tensor:
        """Return the angles of one layer in radians, from 0 to pi, largest first.

        Raises:
            UserError: if the method does not rotate.
        """
        raise NotImplementedError

    def check_strength(self, strength: float) -> None:
        """Refuse a strength the method cannot have.

        Raises:
            UserError: if it is not a finite number.
        """
        if not math.isfinite(strength):
            raise UserError(f"`strength` is {strength}, but it must be finite. Use for example 1.")

    def scale(self, parameters: Parameters) -> Tensor | None:
        """Return the learned output scale s (out, 1), or None for a method that only rotates."""
        return None

    def drop(self, factors: Factors) -> Factors:
        """Return the factors for one training pass, of which a random part may be left out."""
        return factors

    def penalty(self, factors: Factors) -> Tensor | None:
        """Return the weighted scalar one layer adds to the loss, or None for nothing."""
        return None

    def wrap(self, layer: Adaptable, parameters: Parameters) -> AdaptedLayer:
        """Return `layer` wrapped with these parameters; the layer itself stays as it is."""
        from orthodiff.adapters.layers.conv import AdaptedConv2d
        from orthodiff.adapters.layers.linear import AdaptedLinear

        kind = AdaptedLinear if isinstance(layer, nn.Linear) else AdaptedConv2d
        return kind(layer, self, parameters)

    def runs_in_peft(self, layer: Adaptable) -> bool:
        """Whether PEFT's own layer of this method computes the same for `layer`."""
        return is_plain(layer)

    # PEFT's folder layout. `pack` and `unpack` are inverse to each other, bit for bit.

    def peft_config(self) -> dict[str, Any]:
        """Return the method's own entries of PEFT's adapter_config.json."""
        raise NotImplementedError

    @classmethod
    def from_peft(cls, config: Mapping[str, Any], tensors: Parameters) -> Method:
        """Return the settings described by PEFT's adapter_config.json and one layer's tensors.

        Raises:
            UserError: if the file asks for something this method does not do.
        """
        raise NotImplementedError

    def pack(self, parameters: Parameters, layer: Adaptable) -> dict[str, Tensor]:
        """Return the tensors of one adapted `layer` under PEFT's names."""
        return dict(parameters)

    def unpack(self, tensors: Parameters, config: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return one layer's parameters from PEFT's tensors, saved with PEFT's `config`."""
        return dict(tensors)

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Method:
        """Return the method that `settings` were taken from."""
        return cls(**settings)

    def settings(self) -> dict[str, Any]:
        """Return the settings as plain values, as saved in the recipe."""
        return dataclasses.asdict(self)

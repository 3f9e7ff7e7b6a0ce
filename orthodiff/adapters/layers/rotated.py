"""A frozen layer whose weight is rotated by a method."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from orthodiff.adapters.layers.adaptable import Adaptable, dimensions, is_packed
from orthodiff.adapters.layers.merging import Merging
from orthodiff.adapters.layers.solve import (
    SharedFactors,
    arrange,
    at_least_float32,
    solve,
)
from orthodiff.adapters.method import Factors, Method, Parameters


class AdaptedLayer(Protocol):
    """What a handle needs from an adapted layer, whoever made it."""

    base_layer: Any
    strength: float

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        """Return the trainable parameters under the method's own names."""

    def penalty(self) -> Tensor | None:
        """Return the weighted scalar this layer adds to the loss, or None for nothing."""

    def unpacked_weight(self) -> Tensor:
        """Return the base layer's own weight, merged or not, unless it is quantized."""

    @property
    def merged(self) -> bool:
        """Whether the base layer now holds the adapted weight."""

    def adapted_weight(self) -> Tensor:
        """Return the adapted weight in the weight's shape, computed in at least float32."""

    def merge(self) -> None:
        """Put the adapted weight into the base layer."""

    def unmerge(self) -> None:
        """Put the original weight back, bit for bit."""

    def keep_merged(self) -> None:
        """Let go of the original weight, so that the adapted one stays for good."""


class RotatedLayer(Merging, nn.Module):
    """A frozen layer with weight matrix W (out, d), run as if it were `diag(s) W R`.

    The parameters are float32 whatever the base layer is. What R depends on is solved in float32
    (float64 for float64 parameters), outside of autocast, and applied in the activations' dtype.
    A kind of layer adds four small functions: `rows_in`, `turn`, `run` and `along_outputs`.
    """

    base_layer: Any

    def __init__(self, base_layer: Adaptable, method: Method, parameters: Parameters) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.method = method
        self.width, self.outputs = dimensions(base_layer)
        self.shared: SharedFactors | None = None
        self.strength = 1.0
        self.parameter_names = tuple(parameters)
        for name, value in parameters.items():
            self.register_parameter(name, nn.Parameter(value.to(base_layer.weight.device)))

    def rows_in(self, x: Tensor) -> int | None:
        """Return how many rows of width d the input x holds, or None if they are not apart."""
        raise NotImplementedError

    def turn(self, x: Tensor, factors: Factors) -> Tensor:
        """Return the input with its rows multiplied by R^T."""
        raise NotImplementedError

    def run_turned(self, x: Tensor, factors: Factors) -> Tensor:
        """Return the layer's output for the input with its rows multiplied by R^T."""
        return self.base_layer(self.turn(x, factors))

    def run(self, x: Tensor, matrix: Tensor) -> Tensor:
        """Return the layer's output for x with another weight matrix (out, d)."""
        raise NotImplementedError

    def along_outputs(self, values: Tensor) -> Tensor:
        """Return one value per output (out,) in a shape that multiplies the layer's output."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Return the adapted layer's output for its usual input: rotate where rows are fewer."""
        if self.merged:
            return self.base_layer(x)
        factors, scale = self.factors(), self.scale()
        if self.training:
            factors = self.method.drop(factors)
        if self._turns_inputs(x):
            return self._rescale(self.run_turned(x, factors), scale)
        return self.run(x, self._adapt(self.matrix, factors, scale))

    def _turns_inputs(self, x: Tensor) -> bool:
        """Whether to rotate the inputs and not the weight.

        The side with fewer rows is cheaper, except in training: a rotated weight asks for its own
        gradient, a product as large as the layer's, which the frozen one does without.
        """
        rows = self.rows_in(x)
        if self.quantized or rows is None:
            return self.quantized
        return torch.is_grad_enabled() or rows <= self.outputs

    def _rescale(self, output: Tensor, scale: Tensor | None) -> Tensor:
        """Return `s y + (1 - s) bias`, as the scale is of the weight and not of the bias."""
        if scale is None:
            return output
        s = self.along_outputs(scale.squeeze(-1)).to(output.dtype)
        if self.bias is None:
            return s * output
        return s * output + (1 - s) * self.along_outputs(self.bias).to(output.dtype)

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        """Return the trainable parameters under the method's own names."""
        return {name: getattr(self, name) for name in self.parameter_names}

    def factors(self) -> Factors:
        """Return what `rotate` needs: from this pass's shared solve, else solved here.

        At another strength than 1 they are kept until parameters or strength change.
        """
        compiling = torch.compiler.is_compiling()
        if not compiling and self.shared is not None and self.shared.hold_for(self):
            return self.shared.factors
        factors = solve(self.method, self.adapter_parameters())
        if self.strength == 1:
            return arrange(self.method, factors)
        factors = arrange(self.method, self._power(factors))
        if not compiling:
            self.shared = SharedFactors(factors, self, {"spent": False})
        return factors

    @torch.no_grad()
    def _power(self, factors: Factors) -> Factors:
        """Return the factors at this layer's strength, computed in float64 on the CPU.

        Some devices have neither float64 nor the decompositions; it is done once a change.
        """
        power = self.method.power(tuple(f.cpu().double() for f in factors), self.strength)
        return tuple(f.to(factors[0]) for f in power)

    def scale(self) -> Tensor | None:
        """Return the learned output scale (out, 1) at this layer's strength, or None."""
        scale = self.method.scale(self.adapter_parameters())
        return scale if scale is None or self.strength == 1 else 1 + self.strength * (scale - 1)

    def penalty(self) -> Tensor | None:
        """Return the weighted scalar this layer adds to the loss, or None for nothing."""
        return self.method.penalty(self.factors())

    def _adapt(self, matrix: Tensor, factors: Factors, scale: Tensor | None) -> Tensor:
        rotated = self.method.rotate(matrix, factors)
        return rotated if scale is None else scale.to(rotated.dtype) * rotated

    @torch.no_grad()
    def adapted_weight(self) -> Tensor:
        """Return `diag(s) W R` in the weight's shape, computed in at least float32, rounded once.

        Raises:
            UserError: if the base layer is quantized.
        """
        weight = self.unpacked_weight()
        self.shared = None
        matrix = at_least_float32(weight.flatten(1))
        with torch.autocast(weight.device.type, enabled=False):
            adapted = self._adapt(matrix, self.factors(), self.scale())
        return adapted.view_as(weight).to(weight.dtype)

    # What callers look at on a plain layer.

    @property
    def weight(self) -> Tensor:
        """The base layer's weight."""
        return self.base_layer.weight

    @property
    def bias(self) -> Tensor | None:
        """The base layer's bias (out,), if any."""
        return self.base_layer.bias

    @property
    def matrix(self) -> Tensor:
        """The base layer's weight matrix W (out, d)."""
        return self.weight.flatten(1)

    @property
    def quantized(self) -> bool:
        """Whether the weight is packed, so that only inputs can be rotated."""
        return is_packed(self.base_layer)

    def extra_repr(self) -> str:
        """Show the settings when the model is printed."""
        return repr(self.method)

    def __getstate__(self) -> dict[str, Any]:
        """Leave this pass's factors out of pickles and deep copies."""
        return {**self.__dict__, "shared": None}

"""A frozen layer whose weight is rotated by a method."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from orthodiff.adapters.checks import require_finite
from orthodiff.adapters.layers.adaptable import (
    Adaptable,
    as_matrix,
    as_weight,
    dimensions,
    out_of_reach,
    runs_its_own_way,
)
from orthodiff.adapters.layers.merging import Merging, new_parameter
from orthodiff.adapters.layers.solve import (
    GroupFactors,
    SharedFactors,
    arrange,
    at_least_float32,
    solve,
)
from orthodiff.adapters.rotation import Factors, Parameters, Rotation
from orthodiff.ops.orthogonal import compute_dtype


class RotatedLayer(Merging, nn.Module):
    """A frozen layer with weight matrix W (out, d), run as if it were `diag(s) W R`.

    The parameters are float32 whatever the base layer is. What R depends on is solved in float32
    (float64 for float64 parameters), outside of autocast, and applied in the activations' dtype.
    A kind of layer adds four small functions: `rows_in`, `rotate_input`, `run` and `along_outputs`.
    """

    base_layer: Any

    def __init__(self, base_layer: Adaptable, method: Rotation, parameters: Parameters) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.method = method
        self.width, self.outputs = dimensions(base_layer)
        self.shared: SharedFactors | None = None
        self.takes_graph_inputs = False
        self.strength = 1.0
        self.parameter_names = tuple(parameters)
        for name, value in parameters.items():
            self.register_parameter(name, new_parameter(value, base_layer))

    def rows_in(self, x: Tensor) -> int | None:
        """Return how many rows of width d the input x holds, or None if they are not apart."""
        raise NotImplementedError

    def rotate_input(self, x: Tensor, factors: Factors) -> Tensor:
        """Return the input with its rows multiplied by R^T."""
        raise NotImplementedError

    def run_rotated(self, x: Tensor, factors: Factors) -> Tensor:
        """Return the layer's output for the input with its rows multiplied by R^T."""
        return self.base_layer(self.rotate_input(x, factors))

    def run(self, x: Tensor, matrix: Tensor) -> Tensor:
        """Return the layer's output for x with another weight matrix (out, d)."""
        raise NotImplementedError

    def along_outputs(self, values: Tensor) -> Tensor:
        """Return one value per output (out,) in a shape that multiplies the layer's output."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Return the adapted layer's output for its usual input: rotate where rows are fewer.

        A layer with a `forward` of its own, or with hooks, is called with the adapted weight in
        place of its own, which is what merging does. Where its weight is out of reach, as it is
        packed or away, the input is rotated instead.
        """
        if self.merged:
            return self.base_layer(x)
        factors, scale = self.factors(compute_dtype(x)), self.scale()
        if self.training:
            factors = self.method.drop(factors)
        if out_of_reach(self.base_layer) is not None:
            return self._rescale(self.base_layer(self.rotate_input(x, factors)), x, scale)
        if runs_its_own_way(self.base_layer):
            weight = self._adapt(self.base_layer.weight, factors, scale)
            return functional_call(self.base_layer, {"weight": weight}, (x,))
        if self._rotates_inputs(x):
            return self._rescale(self.run_rotated(x, factors), x, scale)
        return self.run(x, self._adapt_matrix(self.matrix, factors, scale))

    def _rotates_inputs(self, x: Tensor) -> bool:
        """Whether to rotate the inputs and not the weight.

        The side with fewer rows is cheaper, except in training: a rotated weight asks for its own
        gradient, a product as large as the layer's, which the frozen one does without.
        """
        rows = self.rows_in(x)
        return rows is not None and (torch.is_grad_enabled() or rows <= self.outputs)

    def _rescale(self, output: Tensor, x: Tensor, scale: Tensor | None) -> Tensor:
        """Return `s y + (1 - s) bias`, as the scale is of the weight and not of the bias."""
        if scale is None:
            return output
        s = self.along_outputs(scale.squeeze(-1)).to(output.dtype)
        bias = self.bias
        if bias is None:
            return s * output
        if bias.is_meta:  # offloaded, so only the layer itself can say it
            return s * output + (1 - s) * self.base_layer(torch.zeros_like(x))
        return s * output + (1 - s) * self.along_outputs(bias).to(output.dtype)

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        """Return the trainable parameters under the method's own names."""
        return {name: getattr(self, name) for name in self.parameter_names}

    def factors(self, dtype: torch.dtype | None = None) -> Factors:
        """Return what `rotate` needs: from this pass's shared solve, else solved here.

        They are in `dtype`, or in the precision they were solved in. At another strength than 1
        they are kept until parameters or strength change.
        """
        compiling = torch.compiler.is_compiling()
        if compiling and self.shared is not None and self.shared.graph_inputs is not None:
            return tuple(f if dtype is None else f.to(dtype) for f in self.shared.graph_inputs)
        if not compiling and self.shared is not None and self.is_solved:
            return self.shared.factors(dtype)
        parameters = self.adapter_parameters()
        factors = solve(self.method, parameters)
        if self.strength != 1:
            factors = self._power(factors)
        factors = arrange(self.method, factors)
        if compiling or self.strength == 1:
            return factors
        group = GroupFactors(tuple(f[None] for f in factors))
        self.shared = SharedFactors(group, 0, parameters.values(), trainable=False)
        return self.shared.factors(dtype)

    @property
    def is_solved(self) -> bool:
        """Whether the factors at hand are of the present parameters."""
        shared = self.shared
        return shared is not None and shared.hold_for(self.adapter_parameters().values())

    def _power(self, factors: Factors) -> Factors:
        """Return the factors at this layer's strength, computed in float64 on the CPU.

        Some devices have neither float64 nor the decompositions; it is done once a change.
        """
        # They outlast this pass, so they may not be inference tensors.
        with torch.inference_mode(False), torch.no_grad():
            own = tuple(f.detach().clone().cpu().double() for f in factors)
            power = self.method.power(own, self.strength)
            return tuple(f.to(factors[0].device, factors[0].dtype) for f in power)

    def scale(self) -> Tensor | None:
        """Return the learned output scale (out, 1) at this layer's strength, or None."""
        scale = self.method.scale(self.adapter_parameters())
        return scale if scale is None or self.strength == 1 else 1 + self.strength * (scale - 1)

    def _adapt(self, weight: Tensor, factors: Factors, scale: Tensor | None) -> Tensor:
        matrix = self._adapt_matrix(as_matrix(self.base_layer, weight), factors, scale)
        return as_weight(self.base_layer, matrix, weight.shape)

    def _adapt_matrix(self, matrix: Tensor, factors: Factors, scale: Tensor | None) -> Tensor:
        rotated = self.method.rotate(matrix, factors)
        return rotated if scale is None else scale.to(rotated.dtype) * rotated

    @torch.no_grad()
    def adapted_weight(self) -> Tensor:
        """Return `diag(s) W R` in the weight's shape, computed in at least float32, rounded once.

        Raises:
            UserError: if the base layer's weight is out of reach, or the parameters are not finite.
        """
        weight = self.unpacked_weight()
        require_finite(self.adapter_parameters(), "The adapter")
        self.shared = None
        return self._in_full_precision(weight)

    def live_weight(self) -> Tensor:
        """Return `diag(s) W R` as a function of the parameters."""
        return self._in_full_precision(self.base_layer.weight)

    def _in_full_precision(self, weight: Tensor) -> Tensor:
        with torch.autocast(weight.device.type, enabled=False):
            adapted = self._adapt(at_least_float32(weight), self.factors(), self.scale())
        return adapted.to(weight.dtype)

    @property
    def matrix(self) -> Tensor:
        """The base layer's weight matrix W (out, d)."""
        return as_matrix(self.base_layer, self.base_layer.weight)

    def extra_repr(self) -> str:
        """Show the settings when the model is printed."""
        return repr(self.method)

    def __getstate__(self) -> dict[str, Any]:
        """Leave this pass's factors out of pickles and deep copies."""
        return {**self.__dict__, "shared": None}

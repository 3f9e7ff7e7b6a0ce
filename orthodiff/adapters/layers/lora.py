"""PEFT's LoRA layer with what an adapter needs; apart, as importing PEFT takes seconds."""

from __future__ import annotations

from typing import Any, cast

import torch
from peft import LoraConfig
from peft.tuners.lora import Conv2d, Linear
from torch import Tensor, nn
from torch.func import functional_call

from orthodiff.adapters.checks import require_finite
from orthodiff.adapters.layers.adaptable import (
    Adaptable,
    is_transposed,
    out_of_reach,
    runs_its_own_way,
)
from orthodiff.adapters.layers.merging import Merging, new_parameter
from orthodiff.adapters.layers.solve import at_least_float32
from orthodiff.adapters.rotation import Parameters
from orthodiff.devices import autocast_like
from orthodiff.errors import UserError

ADAPTER = "default"
"""PEFT's name for the only adapter of a layer."""


class LoRALayer(Merging):
    """What an adapter needs from PEFT's LoRA layers, with float32 parameters."""

    base_layer: Any
    lora_A: Any  # noqa: N815 - PEFT's name
    lora_B: Any  # noqa: N815
    _strength = 1.0

    def __init__(
        self,
        base_layer: Adaptable,
        parameters: Parameters,
        *,
        rank: int,
        alpha: float,
        dropout: float,
    ) -> None:
        config = LoraConfig(
            r=rank,
            lora_alpha=cast(int, alpha),
            lora_dropout=dropout,
            init_lora_weights=False,
            fan_in_fan_out=is_transposed(base_layer),
        )
        super().__init__(base_layer, ADAPTER, config, r=rank, lora_alpha=alpha)  # type: ignore[call-arg]
        for name, part in (("lora_A.weight", self.lora_A), ("lora_B.weight", self.lora_B)):
            value = parameters[name].view(part[ADAPTER].weight.shape)
            part[ADAPTER].weight = new_parameter(value, base_layer)

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        """Return A and B under PEFT's names: matrices (r, d), (out, r), or filters likewise."""
        return {
            "lora_A.weight": self.lora_A[ADAPTER].weight,
            "lora_B.weight": self.lora_B[ADAPTER].weight,
        }

    @property
    def strength(self) -> float:
        """What the added matrix is multiplied by."""
        return self._strength

    @strength.setter
    def strength(self, strength: float) -> None:
        self._strength = strength
        self.set_scale(ADAPTER, strength)  # type: ignore[attr-defined]

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return the adapted layer's output.

        PEFT adds to what the base layer returns, which is wrong where its own `forward` or hooks
        act on the weight; such a layer is called with the adapted weight instead.

        Raises:
            UserError: if dropout of the inputs is asked for there, as a weight cannot have it.
        """
        base: Any = self.base_layer
        if self.merged:
            return base(x)
        if out_of_reach(base) is not None or not runs_its_own_way(base):
            with autocast_like(x):
                return super().forward(x, *args, **kwargs)  # type: ignore[misc]
        if self.training and self.dropout > 0:
            raise UserError(
                f"A {type(base).__name__} layer has a `forward` or hooks of its own, with which "
                "`lora_dropout` cannot be used. Set it to 0, or leave the layer out of `targets`."
            )
        return functional_call(base, {"weight": self.live_weight()}, (x,))

    @property
    def dropout(self) -> float:
        """Share of the inputs of A that are left out in training."""
        return getattr(self.lora_dropout[ADAPTER], "p", 0.0)  # type: ignore[attr-defined]

    @torch.no_grad()
    def adapted_weight(self) -> Tensor:
        """Return `W + (alpha / r) B A`, computed in at least float32 and rounded once.

        Raises:
            UserError: if the base layer's weight is out of reach, or the parameters are not finite.
        """
        weight = self.unpacked_weight()
        require_finite(self.adapter_parameters(), "The adapter")
        return self._add_to(weight)

    def live_weight(self) -> Tensor:
        """Return `W + (alpha / r) B A` as a function of the parameters."""
        return self._add_to(self.base_layer.weight)

    def _add_to(self, weight: Tensor) -> Tensor:
        delta = self.get_delta_weight(ADAPTER)  # type: ignore[attr-defined]
        return (at_least_float32(weight) + delta).to(weight.dtype)


class LoRALinear(LoRALayer, Linear):  # type: ignore[misc]
    """PEFT's LoRA around a frozen `nn.Linear`."""


class LoRAConv2d(LoRALayer, Conv2d):  # type: ignore[misc]
    """PEFT's LoRA around a frozen `nn.Conv2d`: its own kernel to r channels, then 1x1."""

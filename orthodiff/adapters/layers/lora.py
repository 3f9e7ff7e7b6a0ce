"""PEFT's LoRA layer behind the words a handle needs; apart, as importing PEFT takes seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from peft import LoraConfig
from peft.tuners.lora import Conv2d, Linear
from torch import Tensor, nn

from orthodiff.adapters.layers.adaptable import Adaptable
from orthodiff.adapters.layers.merging import Merging
from orthodiff.adapters.layers.solve import at_least_float32
from orthodiff.adapters.method import Parameters

if TYPE_CHECKING:
    from orthodiff.adapters.lora import LoRA

ADAPTER = "default"
"""PEFT's name for the only adapter of a layer."""


class LoRALayer(Merging):
    """What a handle needs from PEFT's LoRA layers, with float32 parameters."""

    base_layer: Any
    lora_A: Any  # noqa: N815 - PEFT's name
    lora_B: Any  # noqa: N815
    _strength = 1.0

    def __init__(self, base_layer: Adaptable, method: LoRA, parameters: Parameters) -> None:
        alpha = cast(int, method.rank if method.alpha is None else method.alpha)
        config = LoraConfig(
            r=method.rank,
            lora_alpha=alpha,
            lora_dropout=method.lora_dropout,
            init_lora_weights=False,
        )
        super().__init__(base_layer, ADAPTER, config, r=method.rank, lora_alpha=alpha)  # type: ignore[call-arg]
        for name, parameter in self.adapter_parameters().items():
            parameter.data = parameters[name].view(parameter.shape).to(parameter.device)

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

    def penalty(self) -> Tensor | None:
        """Return None: LoRA adds nothing to the loss."""
        return None

    @torch.no_grad()
    def adapted_weight(self) -> Tensor:
        """Return `W + (alpha / r) B A`, computed in at least float32 and rounded once.

        Raises:
            UserError: if the base layer is quantized.
        """
        weight = self.unpacked_weight()
        delta = self.get_delta_weight(ADAPTER)  # type: ignore[attr-defined]
        return (at_least_float32(weight) + delta).to(weight.dtype)


class LoRALinear(LoRALayer, Linear):  # type: ignore[misc]
    """PEFT's LoRA around a frozen `nn.Linear`."""


class LoRAConv2d(LoRALayer, Conv2d):  # type: ignore[misc]
    """PEFT's LoRA around a frozen `nn.Conv2d`: its own kernel to r channels, then 1x1."""

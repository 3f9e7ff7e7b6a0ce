"""PEFT's LoRA layer behind the words a handle needs; apart, as importing PEFT takes seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from peft import LoraConfig
from peft.tuners.lora import Linear
from torch import Tensor, nn

from orthodiff.adapters.base import Parameters
from orthodiff.adapters.layer import at_least_float32

if TYPE_CHECKING:
    from orthodiff.adapters.lora import LoRA

ADAPTER = "default"
"""PEFT's name for the only adapter of a layer."""


class LoRALinear(Linear):  # type: ignore[misc]
    """PEFT's LoRA around a frozen `nn.Linear`, with float32 parameters."""

    original_weight: Tensor | None = None
    _strength = 1.0

    def __init__(self, base_layer: nn.Module, method: LoRA, parameters: Parameters) -> None:
        alpha = method.rank if method.alpha is None else method.alpha
        config = LoraConfig(
            r=method.rank,
            lora_alpha=alpha,  # type: ignore[arg-type]
            init_lora_weights=False,
        )
        super().__init__(
            base_layer,
            ADAPTER,
            config,
            r=method.rank,
            lora_alpha=alpha,  # type: ignore[arg-type]
        )
        for name, parameter in self.adapter_parameters().items():
            parameter.data = parameters[name].to(parameter.device)

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        """Return A (r, d) and B (out, r) under PEFT's names."""
        A, B = cast(nn.Linear, self.lora_A[ADAPTER]), cast(nn.Linear, self.lora_B[ADAPTER])
        return {
            "lora_A.weight": cast(nn.Parameter, A.weight),
            "lora_B.weight": cast(nn.Parameter, B.weight),
        }

    @property
    def strength(self) -> float:
        """What the added matrix is multiplied by."""
        return self._strength

    @strength.setter
    def strength(self, strength: float) -> None:
        self._strength = strength
        self.set_scale(ADAPTER, strength)

    def penalty(self) -> Tensor | None:
        """Return None: LoRA adds nothing to the loss."""
        return None

    @property
    def merged(self) -> bool:
        """Whether the base weight now holds the adapted one."""
        return self.original_weight is not None

    @torch.no_grad()
    def merge(self) -> None:  # type: ignore[override]
        """Put the adapted weight into the base layer, keeping the original aside."""
        if not self.merged:
            weight = cast(nn.Linear, self.base_layer).weight
            adapted = at_least_float32(weight) + self.get_delta_weight(ADAPTER)
            self.original_weight, weight.data = weight.data, adapted.to(weight.dtype)

    def unmerge(self) -> None:
        """Put the original weight back, bit for bit."""
        if self.original_weight is not None:
            weight = cast(nn.Linear, self.base_layer).weight
            weight.data = self.original_weight.to(weight.device, weight.dtype)
            self.original_weight = None

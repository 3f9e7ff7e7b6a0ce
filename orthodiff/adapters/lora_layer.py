"""PEFT's LoRA layer with the few extra words a handle needs; apart because importing PEFT takes seconds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from peft import LoraConfig
from peft.tuners.lora import Linear
from torch import Tensor, nn

if TYPE_CHECKING:
    from orthodiff.adapters.lora import LoRA

ADAPTER = "default"
"""PEFT's name for the only adapter of a layer."""


class LoRALinear(Linear):  # type: ignore[misc]
    """PEFT's LoRA around a frozen `nn.Linear`, with float32 parameters."""

    def __init__(
        self, base_layer: nn.Module, method: LoRA, *, generator: torch.Generator | None = None
    ) -> None:
        alpha = method.rank if method.alpha is None else method.alpha
        config = LoraConfig(r=method.rank, lora_alpha=alpha)  # type: ignore[arg-type]
        super().__init__(base_layer, ADAPTER, config, r=method.rank, lora_alpha=alpha)
        self.original_weight: Tensor | None = None
        A, B = self.lora_A[ADAPTER].float().weight, self.lora_B[ADAPTER].float().weight
        start = torch.empty(A.shape)
        A.data.copy_(nn.init.kaiming_uniform_(start, a=math.sqrt(5), generator=generator))
        B.data.zero_()

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        """Return A (r, d) and B (out, r) under PEFT's names."""
        return {
            "lora_A.weight": self.lora_A[ADAPTER].weight,
            "lora_B.weight": self.lora_B[ADAPTER].weight,
        }

    def penalty(self) -> Tensor | None:
        """Return None: LoRA adds nothing to the loss."""
        return None

    @property
    def merged(self) -> bool:
        """Whether the base weight now holds the adapted one."""
        return self.original_weight is not None

    @torch.no_grad()
    def merge(self) -> None:
        """Put the adapted weight into the base layer, keeping the original aside."""
        if not self.merged:
            weight = self.base_layer.weight
            adapted = weight.float() if weight.dtype.itemsize < 4 else weight
            delta = self.get_delta_weight(ADAPTER).to(adapted.dtype)
            self.original_weight, weight.data = weight.data, (adapted + delta).to(weight.dtype)

    def unmerge(self) -> None:
        """Put the original weight back, bit for bit."""
        if self.original_weight is not None:
            weight = self.base_layer.weight
            weight.data = self.original_weight.to(weight.device, weight.dtype)
            self.original_weight = None

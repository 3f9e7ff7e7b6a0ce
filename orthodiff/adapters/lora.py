"""LoRA, the baseline (Hu et al., 2106.09685): PEFT's own layer behind the same handle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from orthodiff.adapters.base import Method, Parameters
from orthodiff.adapters.checks import require_positive
from orthodiff.errors import UserError

if TYPE_CHECKING:
    from orthodiff.adapters.layer import AdaptedLayer


@dataclass(frozen=True)
class LoRA(Method):
    """W' = W + (alpha / r) B A; r (d + out) parameters a layer. Not orthogonal.

    Raises:
        UserError: for settings out of range.
    """

    name: ClassVar[str] = "lora"
    title: ClassVar[str] = "Low-rank adaptation, by PEFT (2106.09685)"
    peft_type: ClassVar[str] = "LORA"

    rank: int = field(default=8, metadata={"help": "Rank r of the added matrix."})
    alpha: float | None = field(
        default=None,
        metadata={
            "help": "Scale of the added matrix times the rank; the rank itself if not given."
        },
    )

    def __post_init__(self) -> None:
        require_positive("rank", self.rank, example=8)
        if self.alpha is not None and not 0 < self.alpha < float("inf"):
            raise UserError(
                f"`alpha` is {self.alpha!r}, but it must be above 0. Leave it out to use the rank."
            )

    def wrap(self, layer: nn.Module, *, generator: torch.Generator | None = None) -> AdaptedLayer:
        """Return PEFT's LoRA layer around `layer`."""
        from orthodiff.adapters.lora_layer import LoRALinear

        return LoRALinear(layer, self, generator=generator)

    def peft_config(self) -> dict[str, Any]:
        """Return PEFT's `r` and `lora_alpha`."""
        return {"r": self.rank, "lora_alpha": self.rank if self.alpha is None else self.alpha}

    @classmethod
    def from_peft(cls, config: Mapping[str, Any], tensors: Parameters) -> LoRA:
        """Return the settings of a PEFT LoRA folder.

        Raises:
            UserError: for variants of LoRA whose layers compute something else.
        """
        for flag in (
            "use_dora",
            "lora_bias",
            "rank_pattern",
            "alpha_pattern",
            "fan_in_fan_out",
            "use_qalora",
            "use_bdlora",
        ):
            if config.get(flag):
                raise UserError(
                    f"The adapter uses PEFT's `{flag}`, which orthodiff does not read. Load it with PEFT."
                )
        rank, alpha = config.get("r", 8), config.get("lora_alpha", 8)
        return cls(rank=rank, alpha=alpha * rank**0.5 if config.get("use_rslora") else alpha)

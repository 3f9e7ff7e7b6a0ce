"""LoRA, the baseline (Hu et al., arXiv:2106.09685): PEFT's own layer behind the same interface."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from orthodiff.adapters.layers.adaptable import Adaptable
from orthodiff.adapters.layers.adapted import AdaptedLayer
from orthodiff.adapters.method import Method
from orthodiff.adapters.rotation import Parameters
from orthodiff.adapters.settings import setting
from orthodiff.errors import UserError

PLAIN_STARTS = (None, True, False, "gaussian", "orthogonal", "eva")
"""PEFT's `init_lora_weights` that leave the base model's weights as they are."""


@dataclass(frozen=True)
class LoRA(Method):
    """W' = W + (alpha / r) B A; r (d + out) parameters a layer. Not orthogonal.

    Raises:
        UserError: for settings out of range.
    """

    name: ClassVar[str] = "lora"
    title: ClassVar[str] = "Low-rank adaptation, by PEFT (arXiv:2106.09685)"
    peft_type: ClassVar[str] = "LORA"
    # Some are on by default and matter only to variants that are refused by their own switch.
    peft_entries: ClassVar[frozenset[str]] = frozenset({
        "r", "lora_alpha", "lora_dropout", "use_rslora", "init_lora_weights", "fan_in_fan_out",
        "qalora_group_size", "megatron_core", "eva_config", "runtime_config",
    })  # fmt: skip

    rank: int = setting(8, ge=1, help="Rank of the added matrix.")
    alpha: float | None = setting(
        None,
        gt=0,
        remedy="Leave it out to use the rank",
        help="The added matrix is scaled by alpha / rank; the rank if not given.",
    )
    lora_dropout: float = setting(
        0.0,
        ge=0,
        lt=1,
        remedy="Use for example 0.1",
        help="Share of its inputs left out at random in training.",
    )

    def shapes(self, d: int, out: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of A (r, d) and B (out, r) under PEFT's names."""
        return {"lora_A.weight": (self.rank, d), "lora_B.weight": (out, self.rank)}

    def start(self, d: int, out: int, *, generator: torch.Generator | None) -> dict[str, Tensor]:
        """Return PEFT's start: A uniform within 1 / sqrt(d), B zero."""
        parameters = super().start(d, out, generator=generator)
        bound = 1 / math.sqrt(d)
        parameters["lora_A.weight"].uniform_(-bound, bound, generator=generator)
        return parameters

    def low_rank(
        self, matrix: Tensor, parameters: Parameters, *, strength: float
    ) -> tuple[Tensor, Tensor]:
        """Return `strength * alpha / r * B` and A as matrices."""
        scale = strength * (1.0 if self.alpha is None else self.alpha / self.rank)
        A, B = parameters["lora_A.weight"].flatten(1), parameters["lora_B.weight"].flatten(1)
        return scale * B, A

    def wrap(self, layer: Adaptable, parameters: Parameters) -> AdaptedLayer:
        """Return PEFT's LoRA layer around `layer`.

        Raises:
            UserError: for a convolution in groups, or padded with anything but zeros.
        """
        # Here, and not above, as importing PEFT and transformers takes seconds.
        from orthodiff.adapters.layers.lora import LoRAConv2d, LoRALinear

        alpha = self.rank if self.alpha is None else self.alpha
        options: dict[str, Any] = {
            "rank": self.rank,
            "alpha": alpha,
            "dropout": self.lora_dropout,
        }
        if not isinstance(layer, nn.Conv2d):
            return LoRALinear(layer, parameters, **options)
        if layer.groups > 1 or layer.padding_mode != "zeros":
            raise UserError(
                f"The convolution has {layer.groups} groups and {layer.padding_mode} padding, but "
                "PEFT's LoRA takes one group and zeros. Leave it out of `targets`, or use a method "
                "that rotates."
            )
        return LoRAConv2d(layer, parameters, **options)

    def runs_in_peft(self, layer: Adaptable) -> bool:
        """Return True: the layer is PEFT's."""
        return True

    def peft_config(self) -> dict[str, Any]:
        """Return PEFT's `r` and `lora_alpha`."""
        alpha = self.rank if self.alpha is None else self.alpha
        return {"r": self.rank, "lora_alpha": alpha, "lora_dropout": self.lora_dropout}

    @classmethod
    def from_peft(cls, config: Mapping[str, Any], tensors: Parameters) -> LoRA:
        """Return the settings of a PEFT LoRA folder.

        Raises:
            UserError: for variants whose layers compute something else.
        """
        start = config.get("init_lora_weights")
        if start not in PLAIN_STARTS:
            raise UserError(
                f"The adapter was started by PEFT's `init_lora_weights` {start!r}, which changes "
                "the base model's weights too. Convert it to a plain LoRA with PEFT "
                "(`path_initial_model_for_weight_conversion`)."
            )
        rank, alpha = config.get("r", 8), config.get("lora_alpha", 8)
        scaled = alpha * rank**0.5 if config.get("use_rslora") else alpha
        return cls(rank=rank, alpha=scaled, lora_dropout=config.get("lora_dropout") or 0.0)

    def unpack(self, tensors: Parameters, config: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return A (r, d) and B (out, r), as matrices also where PEFT keeps them as filters."""
        return {name: t.flatten(1) if t.ndim > 1 else t for name, t in tensors.items()}

"""LoRA, the baseline (Hu et al., 2106.09685): PEFT's own layer behind the same handle."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from orthodiff.adapters.checks import refuse_flags, require_positive
from orthodiff.adapters.layers.adaptable import Adaptable
from orthodiff.adapters.method import Factors, Method, Parameters
from orthodiff.errors import UserError

if TYPE_CHECKING:
    from orthodiff.adapters.layers.rotated import AdaptedLayer

VARIANTS = (
    "use_dora",
    "lora_bias",
    "rank_pattern",
    "alpha_pattern",
    "fan_in_fan_out",
    "target_parameters",
    "trainable_token_indices",
    "layer_replication",
)
"""Entries of PEFT's config that make a LoRA layer compute something else."""


@dataclass(frozen=True)
class LoRA(Method):
    """W' = W + (alpha / r) B A; r (d + out) parameters a layer. Not orthogonal.

    Raises:
        UserError: for settings out of range.
    """

    name: ClassVar[str] = "lora"
    title: ClassVar[str] = "Low-rank adaptation, by PEFT (2106.09685)"
    peft_type: ClassVar[str] = "LORA"

    rank: int = field(default=8, metadata={"help": "Rank of the added matrix."})
    alpha: float | None = field(
        default=None,
        metadata={"help": "The added matrix is scaled by alpha / rank; the rank if not given."},
    )
    lora_dropout: float = field(
        default=0.0, metadata={"help": "Share of its inputs left out at random in training."}
    )

    def __post_init__(self) -> None:
        require_positive("rank", self.rank, example=8)
        if not 0 <= self.lora_dropout < 1:
            raise UserError(
                f"`lora_dropout` is {self.lora_dropout!r}, but it is a share from 0 to below 1. "
                "Use for example 0.1."
            )
        if self.alpha is not None and not 0 < self.alpha < float("inf"):
            raise UserError(
                f"`alpha` is {self.alpha!r}, but it must be above 0. Leave it out to use the rank."
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

    def prepare(self, parameters: Parameters) -> Factors:
        """Return nothing: PEFT's layer needs no solve."""
        return ()

    def low_rank(
        self, matrix: Tensor, parameters: Parameters, *, strength: float
    ) -> tuple[Tensor, Tensor]:
        """Return `strength * alpha / r * B` and A as matrices."""
        scale = strength * (1.0 if self.alpha is None else self.alpha / self.rank)
        A, B = parameters["lora_A.weight"].flatten(1), parameters["lora_B.weight"].flatten(1)
        return scale * B, A

    def angles(self, factors: Factors) -> Tensor:
        """Refuse: LoRA does not rotate.

        Raises:
            UserError: always.
        """
        raise UserError("LoRA adds to the weights and does not rotate them, so it has no angles.")

    def wrap(self, layer: Adaptable, parameters: Parameters) -> AdaptedLayer:
        """Return PEFT's LoRA layer around `layer`.

        Raises:
            UserError: for a convolution in groups, or padded with anything but zeros.
        """
        from orthodiff.adapters.layers.lora import LoRAConv2d, LoRALinear

        if isinstance(layer, nn.Linear):
            return LoRALinear(layer, self, parameters)
        if layer.groups > 1 or layer.padding_mode != "zeros":
            raise UserError(
                f"The convolution has {layer.groups} groups and {layer.padding_mode} padding, but "
                "PEFT's LoRA takes one group and zeros. Leave it out of `targets`, or use a method "
                "that rotates."
            )
        return LoRAConv2d(layer, self, parameters)

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
        refuse_flags(config, *VARIANTS)
        rank, alpha = config.get("r", 8), config.get("lora_alpha", 8)
        scaled = alpha * rank**0.5 if config.get("use_rslora") else alpha
        return cls(rank=rank, alpha=scaled, lora_dropout=config.get("lora_dropout") or 0.0)

    def unpack(self, tensors: Parameters, config: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return A (r, d) and B (out, r), as matrices also where PEFT keeps them as filters."""
        return {name: tensor.flatten(1) for name, tensor in tensors.items()}

"""BOFT: a product of butterfly-coupled block rotations (Liu et al., 2311.06243)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from orthodiff.adapters.base import Factors, Method, Parameters
from orthodiff.adapters.checks import divisors, require_positive
from orthodiff.errors import UserError
from orthodiff.orthogonal import butterfly, cayley, skew, triangle


@dataclass(frozen=True)
class BOFT(Method):
    """R = (B_{m-1} ... B_0)^T, each factor block-diagonal after a stride; m d (b - 1) / 2 parameters a layer.

    Raises:
        UserError: for settings out of range.
    """

    name: ClassVar[str] = "boft"
    title: ClassVar[str] = "Butterfly orthogonal finetuning (2311.06243)"
    peft_type: ClassVar[str] = "BOFT"

    block_size: int = field(
        default=8,
        metadata={
            "help": "Width b of a block; even, and b * 2^(factors - 1) must divide the width of every adapted layer."
        },
    )
    factors: int = field(
        default=2,
        metadata={
            "help": "Number m of butterfly factors; 1 is OFT, each further one doubles the reach of a block."
        },
    )
    output_scale: bool = field(
        default=False,
        metadata={
            "help": "Also learn one scale per output, as PEFT does; this part is not orthogonal."
        },
    )

    def __post_init__(self) -> None:
        require_positive("block_size", self.block_size, example=8)
        require_positive("factors", self.factors, example=2)
        if self.block_size == 1 or (self.block_size % 2 and self.factors > 1):
            raise UserError(
                f"`block_size` is {self.block_size}, but a butterfly couples halves of blocks, so the "
                f"size must be even. Use for example {self.block_size + 1}."
            )

    def start(
        self, d: int, out: int, *, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Return `boft_R` (m, D, b(b-1)/2), zero, and with `output_scale` also `boft_s` (out, 1), one.

        Raises:
            UserError: if the butterfly does not fit d; the sentence lists what fits.
        """
        if d % self._reach(self.block_size):
            raise UserError(self._misfit(d))
        size = self.block_size * (self.block_size - 1) // 2
        parameters = {"boft_R": torch.zeros(self.factors, d // self.block_size, size)}
        return parameters | ({"boft_s": torch.ones(out, 1)} if self.output_scale else {})

    def _reach(self, block_size: int) -> int:
        """Return the number of neighbouring inputs the last factor couples."""
        return block_size * 2 ** (self.factors - 1)

    def _misfit(self, d: int) -> str:
        most = 0
        while d % (self.block_size * 2**most) == 0:
            most += 1
        sizes = [b for b in divisors(d) if b % 2 == 0 and d % self._reach(b) == 0]
        remedies = [f"at most {most} factors"] if most else []
        remedies += [f"a block size of {', '.join(map(str, sizes))}"] if sizes else []
        remedy = (
            f"Use {' or '.join(remedies)}."
            if remedies
            else "No even block size fits: use HRA, or adapt other layers."
        )
        return (
            f"`block_size` is {self.block_size} and `factors` is {self.factors}, but block_size * "
            f"2^(factors - 1) = {self._reach(self.block_size)} must divide the layer's width {d}. {remedy}"
        )

    def prepare(self, parameters: Parameters) -> Factors:
        """Return the blocks (*batch, m, D, b, b) of the factors B_0 ... B_{m-1}."""
        return (cayley(skew(parameters["boft_R"], self.block_size)),)

    def rotate(self, rows: Tensor, factors: Factors, *, inverse: bool = False) -> Tensor:
        """Return `rows R`, or `rows R^T` with `inverse`; rows (..., d)."""
        return butterfly(rows, factors[0], inverse=inverse)

    def scale(self, parameters: Parameters) -> Tensor | None:
        """Return `boft_s` (out, 1) if the scale is switched on."""
        return parameters.get("boft_s")

    def peft_config(self) -> dict[str, Any]:
        """Return PEFT's block size and number of factors."""
        return {
            "boft_block_size": self.block_size,
            "boft_block_num": 0,
            "boft_n_butterfly_factor": self.factors,
        }

    @classmethod
    def from_peft(cls, config: Mapping[str, Any], tensors: Parameters) -> BOFT:
        """Return the settings of a PEFT BOFT folder; its output scale is always on.

        Raises:
            UserError: for blocks given by their number instead of their size.
        """
        if not config.get("boft_block_size") or config.get("fan_in_fan_out"):
            raise UserError(
                "The adapter uses PEFT's `boft_block_num` or `fan_in_fan_out`, which orthodiff does not "
                "read. Load it with PEFT."
            )
        told, factors = config.get("boft_n_butterfly_factor", 1), len(tensors["boft_R"])
        if told != factors:
            warnings.warn(
                f"The adapter says it has {told} butterfly factors but holds {factors}: PEFT trained it "
                f"with {factors} because its CUDA extension was missing. It is loaded as it was trained.",
                stacklevel=2,
            )
        return cls(block_size=config["boft_block_size"], factors=factors, output_scale=True)

    def pack(self, parameters: Parameters, out: int) -> dict[str, Tensor]:
        """Return PEFT's full matrices (m, D, b, b), which it antisymmetrises, and its scale (out, 1)."""
        boft_R = skew(parameters["boft_R"], self.block_size)
        return {"boft_s": boft_R.new_ones(out, 1), **parameters, "boft_R": boft_R}

    def unpack(self, tensors: Parameters, config: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the triangles of the antisymmetric parts; a scale that is switched off is left out."""
        kept = tensors if self.output_scale else {k: v for k, v in tensors.items() if k != "boft_s"}
        return {k: triangle(v) if k == "boft_R" else v for k, v in kept.items()}

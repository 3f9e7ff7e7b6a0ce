"""OFT: block-diagonal Cayley rotations (Qiu et al., 2306.07280)."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from orthodiff.adapters.checks import (
    divisors,
    refuse_flags,
    require_positive,
    require_share,
)
from orthodiff.adapters.layers.adaptable import Adaptable
from orthodiff.adapters.method import Factors, Method, Parameters
from orthodiff.errors import UserError
from orthodiff.ops.orthogonal import (
    cayley,
    drop_blocks,
    rotate_blocks,
    skew,
    triangle,
)
from orthodiff.ops.rotations import geodesic, rotation_angles, rotation_power


@dataclass(frozen=True)
class OFT(Method):
    """R = blockdiag(R_1 ... R_D), each a Cayley rotation; d (b - 1) / 2 parameters a layer.

    Raises:
        UserError: for settings out of range.
    """

    name: ClassVar[str] = "oft"
    title: ClassVar[str] = "Orthogonal finetuning (2306.07280)"
    peft_type: ClassVar[str] = "OFT"

    block_size: int = field(
        default=32,
        metadata={"help": "Width of a block; must divide the width of every adapted layer."},
    )
    blocks: int | None = field(
        default=None,
        metadata={"help": "Number of blocks of every layer, in place of their width."},
    )
    block_share: bool = field(
        default=False,
        metadata={"help": "Turn all blocks of a layer by one rotation: fewer parameters."},
    )
    eps: float | None = field(
        default=None,
        metadata={
            "help": "COFT: keep each block's generator within eps / sqrt(number of blocks) of zero."
        },
    )
    dropout: float = field(
        default=0.0,
        metadata={"help": "Share of a layer's blocks left unturned at random while training."},
    )

    def __post_init__(self) -> None:
        require_positive("block_size", self.block_size, example=32)
        if self.blocks is not None:
            require_positive("blocks", self.blocks, example=4)
        if self.eps is not None and not 0 < self.eps < math.inf:
            raise UserError(f"`eps` is {self.eps!r}, but it must be above 0. Leave it out for OFT.")
        require_share("dropout", self.dropout)
        if self.block_share and self.dropout:
            raise UserError(
                "`dropout` leaves out single blocks, but with `block_share` all are one. "
                "Use one of the two."
            )
        if self.block_size == 1:
            raise UserError(
                "`block_size` is 1, but a rotation needs at least 2. Use for example 32."
            )

    def shapes(self, d: int, out: int) -> dict[str, tuple[int, ...]]:
        """Return the shape (D, b(b-1)/2) of `oft_R`: upper triangles of skew matrices.

        Raises:
            UserError: if the blocks do not divide d; the sentence lists what does.
        """
        name, given = ("blocks", self.blocks) if self.blocks else ("block_size", self.block_size)
        if d % given or d == self.blocks:
            fitting = [b for b in divisors(d, limit=d) if name == "block_size" or b < d]
            raise UserError(
                f"`{name}` is {given}, but blocks must divide the layer's width {d}. "
                f"Use one of {', '.join(map(str, fitting))}."
            )
        size = d // self.blocks if self.blocks else self.block_size
        return {"oft_R": (1 if self.block_share else d // size, size * (size - 1) // 2)}

    def prepare(self, parameters: Parameters) -> Factors:
        """Return the blocks (*batch, D, b, b) of R^T, one where they are shared."""
        S = skew(parameters["oft_R"])
        if self.eps is not None:
            radius = self.eps / math.sqrt(S.shape[-3])
            S = S * (radius / torch.linalg.matrix_norm(S, keepdim=True).clamp(min=radius))
        return (cayley(S),)

    def drop(self, factors: Factors) -> Factors:
        """Return the blocks with a random share of them at the identity."""
        return (drop_blocks(factors[0][None], self.dropout)[0],) if self.dropout else factors

    def rotate(self, rows: Tensor, factors: Factors, *, inverse: bool = False) -> Tensor:
        """Return `rows R`, or `rows R^T` with `inverse`; rows (..., d)."""
        return rotate_blocks(rows, factors[0], inverse=inverse)

    def power(self, factors: Factors, strength: float) -> Factors:
        """Return real powers of the blocks."""
        return (rotation_power(factors[0], strength),)

    def bake_strength(self, parameters: Parameters, strength: float) -> tuple[Method, Parameters]:
        """Return plain OFT with the generators of R^strength."""
        plain = dataclasses.replace(self, eps=None, dropout=0.0)
        if strength == 1 and self.eps is None:
            return plain, parameters
        blocks = self.prepare(parameters)
        return plain, _generators(*(blocks if strength == 1 else self.power(blocks, strength)))

    def invert(self, parameters: Parameters) -> Parameters:
        """Return the generators with their signs changed."""
        return {"oft_R": -parameters["oft_R"]}

    def join(
        self, parameters: Parameters, other: Method, others: Parameters
    ) -> tuple[Method, Parameters] | None:
        """Return the product block by block, if both have the same blocks."""
        if other != self:
            return None
        (first,), (second,) = self.prepare(parameters), self.prepare(others)
        return self, _generators(second @ first)

    def between(
        self, parameters: Parameters, other: Method, others: Parameters, t: float
    ) -> tuple[Method, Parameters] | None:
        """Return the geodesic block by block, if both have the same blocks."""
        if other != self:
            return None
        (first,), (second,) = self.prepare(parameters), self.prepare(others)
        return self, _generators(geodesic(first.mT, second.mT, t).mT)

    def angles(self, factors: Factors) -> Tensor:
        """Return the angles of all blocks in radians, largest first."""
        return rotation_angles(factors[0]).flatten().sort(descending=True).values

    def runs_in_peft(self, layer: Adaptable) -> bool:
        """Whether PEFT computes the same: of larger kernels it turns patches, and adds overlaps."""
        return isinstance(layer, nn.Linear) or (layer.kernel_size == (1, 1) and layer.groups == 1)

    def peft_config(self) -> dict[str, Any]:
        """Return PEFT's entries; the exact Cayley form is the one without Neumann terms."""
        return {
            "r": self.blocks or 0,
            "oft_block_size": 0 if self.blocks else self.block_size,
            "use_cayley_neumann": False,
            "coft": self.eps is not None,
            "eps": self.eps or 6e-5,
            "block_share": self.block_share,
            "module_dropout": self.dropout,
        }

    @classmethod
    def from_peft(cls, config: Mapping[str, Any], tensors: Parameters) -> OFT:
        """Return the settings of a PEFT OFT folder.

        Warns where PEFT's truncated series becomes the exact rotation.

        Raises:
            UserError: for variants we do not have.
        """
        refuse_flags(config, "fan_in_fan_out")
        if config.get("use_cayley_neumann", True):
            warnings.warn(
                "The adapter was trained with PEFT's truncated Neumann series, which is not quite "
                "orthogonal. It is loaded as the exact rotation with the same generator.",
                stacklevel=2,
            )
        shared = bool(config.get("block_share"))
        return cls(
            block_size=config.get("oft_block_size") or cls.block_size,
            blocks=config.get("r") or None,
            block_share=shared,
            eps=config.get("eps", 6e-5) if config.get("coft") else None,
            # PEFT drops no shared block.
            dropout=0.0 if shared else config.get("module_dropout", 0.0),
        )

    def pack(self, parameters: Parameters, layer: Adaptable) -> dict[str, Tensor]:
        """Return the triangles under PEFT's name `oft_R.weight`."""
        return {"oft_R.weight": parameters["oft_R"]}

    def unpack(self, tensors: Parameters, config: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the triangles; PEFT's truncated Neumann form turns the opposite way."""
        sign = -1 if config.get("use_cayley_neumann", True) else 1
        return {"oft_R" if k == "oft_R.weight" else k: sign * v for k, v in tensors.items()}


def _generators(blocks: Tensor) -> Parameters:
    """Return the parameters of rotations (D, b, b); a half turn has none, and comes out large."""
    return {"oft_R": triangle(cayley(blocks))}

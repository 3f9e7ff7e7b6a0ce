"""OFT: block-diagonal Cayley rotations (Qiu et al., arXiv:2306.07280)."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from orthodiff.adapters.checks import divisors
from orthodiff.adapters.layers.adaptable import Adaptable, is_plain
from orthodiff.adapters.rotation import Factors, Parameters
from orthodiff.adapters.rotation_method import RotationMethod
from orthodiff.adapters.settings import setting
from orthodiff.errors import UserError
from orthodiff.ops.orthogonal import (
    block_size_of,
    cayley,
    drop_blocks,
    rotate_blocks,
    skew,
    triangle,
)
from orthodiff.ops.rotations import geodesic, rotation_angles, rotation_power


@dataclass(frozen=True)
class OFT(RotationMethod):
    """R = blockdiag(R_1 ... R_D), each a Cayley rotation; d (b - 1) / 2 parameters a layer.

    Raises:
        UserError: for settings out of range.
    """

    name: ClassVar[str] = "oft"
    title: ClassVar[str] = "Orthogonal finetuning (arXiv:2306.07280)"
    peft_type: ClassVar[str] = "OFT"
    peft_entries: ClassVar[frozenset[str]] = frozenset({
        "r", "oft_block_size", "module_dropout", "coft", "eps", "block_share",
        "use_cayley_neumann", "num_cayley_neumann_terms",
    })  # fmt: skip

    block_size: int = setting(
        32, ge=2, help="Width of a block; must divide the width of every adapted layer."
    )
    blocks: int | None = setting(
        None,
        ge=1,
        remedy="Use for example 4",
        help="Number of blocks of every layer, in place of their width.",
    )
    block_share: bool = setting(
        False, help="Turn all blocks of a layer by one rotation: fewer parameters."
    )
    eps: float | None = setting(
        None,
        gt=0,
        remedy="Leave it out for OFT",
        help="COFT: keep each block's generator within eps / sqrt(number of blocks) of zero.",
    )
    dropout: float = setting(
        0.0,
        ge=0,
        lt=1,
        remedy="Use for example 0.1",
        help="Share of a layer's blocks left unturned at random while training.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.block_share and self.dropout:
            raise UserError(
                "`dropout` leaves out single blocks, but with `block_share` all are one. "
                "Use one of the two."
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

    def bake_strength(
        self, parameters: Parameters, strength: float
    ) -> tuple[RotationMethod, Parameters]:
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
        self, parameters: Parameters, other: RotationMethod, others: Parameters
    ) -> tuple[RotationMethod, Parameters] | None:
        """Return the product block by block, if both have the same blocks."""
        if other != self:
            return None
        (first,), (second,) = self.prepare(parameters), self.prepare(others)
        return self, _generators(second @ first)

    def between(
        self, parameters: Parameters, other: RotationMethod, others: Parameters, t: float
    ) -> tuple[RotationMethod, Parameters] | None:
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
        return is_plain(layer) and (isinstance(layer, nn.Linear) or layer.kernel_size == (1, 1))

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
        if config.get("use_cayley_neumann", True):
            warnings.warn(
                "The adapter was trained with PEFT's truncated Neumann series, which is not quite "
                "orthogonal. It is loaded as the exact rotation with the same generator.",
                stacklevel=2,
            )
        shared = bool(config.get("block_share"))
        block_size, blocks = config.get("oft_block_size"), config.get("r")
        triangles = tensors.get("oft_R.weight")
        if triangles is not None and triangles.ndim == 2 and not shared:
            # PEFT adjusts sizes that do not divide the width, and writes the ones it was given.
            block_size = block_size and block_size_of(triangles)
            blocks = blocks and len(triangles)
        return cls(
            block_size=block_size or cls.block_size,
            blocks=blocks or None,
            block_share=shared,
            eps=config.get("eps", 6e-5) if config.get("coft") else None,
            # PEFT drops no shared block.
            dropout=0.0 if shared else config.get("module_dropout", 0.0),
        )

    def pack(self, parameters: Parameters, layer: Adaptable) -> dict[str, Tensor]:
        """Return the triangles under PEFT's name `oft_R.weight`."""
        return {"oft_R.weight": parameters["oft_R"]}

    def unpack(self, tensors: Parameters, config: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the triangles; PEFT's truncated Neumann form turns the opposite way.

        Raises:
            UserError: if PEFT adjusted the sizes of blocks differently from layer to layer.
        """
        # The series is of (I + Q)(I - Q)^-1, the transpose of what is solved here.
        sign = -1 if config.get("use_cayley_neumann", True) else 1
        name = "blocks" if self.blocks else "block_size"
        given = config.get("r") if self.blocks else config.get("oft_block_size")
        expected, triangles = getattr(self, name), tensors.get("oft_R.weight")
        if triangles is not None and triangles.ndim == 2 and given != expected:
            present = len(triangles) if self.blocks else block_size_of(triangles)
            if present != expected:
                raise UserError(
                    f"PEFT was given a `{name}` of {given}, which does not divide the width of "
                    f"every layer, and trained {expected} in one layer and {present} in this one. "
                    "orthodiff reads only one for all. Use PEFT."
                )
        return {"oft_R" if k == "oft_R.weight" else k: sign * v for k, v in tensors.items()}


def _generators(blocks: Tensor) -> Parameters:
    """Return the parameters of rotations (D, b, b); a half turn has none, and comes out large."""
    return {"oft_R": triangle(cayley(blocks))}

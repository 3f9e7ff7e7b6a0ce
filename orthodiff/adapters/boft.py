"""BOFT: a product of butterfly-coupled block rotations (Liu et al., arXiv:2311.06243)."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from orthodiff.adapters.checks import divisors
from orthodiff.adapters.layers.adaptable import Adaptable, dimensions, is_plain
from orthodiff.adapters.rotation import Factors, Parameters
from orthodiff.adapters.rotation_method import RotationMethod
from orthodiff.adapters.settings import setting
from orthodiff.errors import UserError
from orthodiff.ops.orthogonal import (
    butterfly,
    cayley,
    drop_blocks,
    fuse,
    rotate_fused,
    skew,
    triangle,
)
from orthodiff.ops.rotations import geodesic, rotation_angles, rotation_power

FUSED_WIDTH = 64
"""Widest block of the product of the first factors: 64 d flop a row, little beside a projection."""


@dataclass(frozen=True)
class BOFT(RotationMethod):
    """R = (B_{m-1} ... B_0)^T, block-diagonal up to strides; m d (b - 1) / 2 parameters a layer.

    Raises:
        UserError: for settings out of range.
    """

    name: ClassVar[str] = "boft"
    title: ClassVar[str] = "Butterfly orthogonal finetuning (arXiv:2311.06243)"
    peft_type: ClassVar[str] = "BOFT"
    peft_entries: ClassVar[frozenset[str]] = frozenset(
        {"boft_block_size", "boft_block_num", "boft_n_butterfly_factor", "boft_dropout"}
    )

    block_size: int = setting(
        8,
        ge=1,
        help="Width of a block; even, and block_size * 2^(factors - 1) must divide the "
        "width of every adapted layer.",
    )
    blocks: int | None = setting(
        None,
        ge=1,
        remedy="Use for example 8",
        help="Number of blocks of every layer, in place of their width.",
    )
    factors: int = setting(
        2, ge=1, help="Number of butterfly factors; each one doubles the reach of a block."
    )
    output_scale: bool = setting(
        False, help="Also learn one scale per output, as PEFT does; not orthogonal."
    )
    dropout: float = setting(
        0.0,
        ge=0,
        lt=1,
        remedy="Use for example 0.1",
        help="Share of the blocks of a random factor left unturned while training.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.block_size == 1 or (self.block_size % 2 and self.factors > 1):
            raise UserError(
                f"`block_size` is {self.block_size}, but a butterfly couples halves of blocks, so "
                f"the size must be even. Use for example {self.block_size + 1}."
            )

    def shapes(self, d: int, out: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes (m, D, b(b-1)/2) of `boft_R` and, with a scale, (out, 1) of `boft_s`.

        Raises:
            UserError: if the butterfly does not fit d; the sentence lists what fits.
        """
        b = self._block_size(d)
        shapes: dict[str, tuple[int, ...]] = {"boft_R": (self.factors, d // b, b * (b - 1) // 2)}
        return shapes | ({"boft_s": (out, 1)} if self.output_scale else {})

    def start(self, d: int, out: int, *, generator: torch.Generator | None) -> dict[str, Tensor]:
        """Return zero generators and a scale of one.

        Raises:
            UserError: if the butterfly does not fit d; the sentence lists what fits.
        """
        parameters = super().start(d, out, generator=generator)
        return {name: p + 1 if name == "boft_s" else p for name, p in parameters.items()}

    def _block_size(self, d: int) -> int:
        """Return the width of a block in a layer of width d.

        Raises:
            UserError: if the butterfly does not fit d; the sentence lists what fits.
        """
        if self.blocks is None:
            if d % self._reach(self.block_size):
                raise UserError(self._misfit(d))
            return self.block_size
        pairs = 2 ** (self.factors - 1)
        even = 2 if self.factors > 1 else 1
        fits = [n for n in divisors(d, limit=d) if n % pairs == 0 and d % (n * even) == 0 and n < d]
        if self.blocks not in (*fits, 1 if self.factors == 1 else 0):
            raise UserError(
                f"`blocks` is {self.blocks} and `factors` is {self.factors}, but blocks of "
                f"even width, whose number {pairs} divides, must divide the layer's width {d}. "
                f"Use {' or '.join(map(str, fits)) or 'fewer factors'}."
            )
        return d // self.blocks

    def _reach(self, block_size: int) -> int:
        """Return how many neighbouring inputs the last factor couples."""
        return block_size * 2 ** (self.factors - 1)

    def _misfit(self, d: int) -> str:
        most = 0
        while d % (self.block_size * 2**most) == 0:
            most += 1
        sizes = [b for b in divisors(d) if b % 2 == 0 and d % self._reach(b) == 0]
        fits = [f"at most {most} factor{'s' * (most > 1)}"] if most else []
        fits += [f"a block size of {', '.join(map(str, sizes))}"] if sizes else []
        return (
            f"`block_size` is {self.block_size} and `factors` is {self.factors}, but block_size * "
            f"2^(factors - 1) = {self._reach(self.block_size)} must divide the layer's width {d}. "
            f"Use {' or '.join(fits) or 'HRA, which fits every width'}."
        )

    def prepare(self, parameters: Parameters) -> Factors:
        """Return the blocks (*batch, m, D, b, b) of the factors B_0 ... B_{m-1}."""
        return (cayley(skew(parameters["boft_R"])),)

    def drop(self, factors: Factors) -> Factors:
        """Return the factors, one of them with a random share of its blocks at the identity."""
        return (drop_blocks(factors[0], self.dropout),) if self.dropout else factors

    def rotate(self, rows: Tensor, factors: Factors, *, inverse: bool = False) -> Tensor:
        """Return `rows R`, or `rows R^T` with `inverse`; rows (..., d)."""
        if len(factors) > 1:
            return rotate_fused(rows, *factors, inverse=inverse)
        return butterfly(rows, factors[0], inverse=inverse)

    def arrange(self, factors: Factors) -> Factors:
        """Return the first factors as one product and the others, unless blocks may be dropped."""
        return factors if self.dropout else fuse(factors[0], width=FUSED_WIDTH)

    def power(self, factors: Factors, strength: float) -> Factors:
        """Return real powers of each factor's blocks.

        Factors do not commute, so R(a) R(b) is not R(a + b) for more than one factor.
        """
        return (rotation_power(factors[0], strength),)

    def bake_strength(
        self, parameters: Parameters, strength: float
    ) -> tuple[RotationMethod, Parameters]:
        """Return the generators of each factor's blocks at this strength, and the scale."""
        plain = dataclasses.replace(self, dropout=0.0)
        if strength == 1:
            return plain, parameters
        (blocks,) = self.power(self.prepare(parameters), strength)
        scales = {k: 1 + strength * (s - 1) for k, s in parameters.items() if k == "boft_s"}
        return plain, {"boft_R": triangle(cayley(blocks)), **scales}

    def invert(self, parameters: Parameters) -> Parameters | None:
        """Return opposite generators for one factor; several would have to change their order."""
        if self.factors > 1:
            return None
        scales = {k: 1 / s for k, s in parameters.items() if k == "boft_s"}
        return {"boft_R": -parameters["boft_R"], **scales}

    def between(
        self, parameters: Parameters, other: RotationMethod, others: Parameters, t: float
    ) -> tuple[RotationMethod, Parameters] | None:
        """Return the geodesic of each factor's blocks, as the whole way is no butterfly."""
        if other != self:
            return None
        (first,), (second,) = self.prepare(parameters), self.prepare(others)
        blocks = geodesic(first.mT, second.mT, t).mT
        scales = {k: torch.lerp(s, others[k], t) for k, s in parameters.items() if k == "boft_s"}
        return self, {"boft_R": triangle(cayley(blocks)), **scales}

    def angles(self, factors: Factors) -> Tensor:
        """Return the angles of all blocks of all factors in radians, largest first."""
        return rotation_angles(factors[0]).flatten().sort(descending=True).values

    def scale(self, parameters: Parameters) -> Tensor | None:
        """Return `boft_s` (out, 1) if the scale is switched on."""
        return parameters.get("boft_s")

    def runs_in_peft(self, layer: Adaptable) -> bool:
        """Whether PEFT runs the layer as it is: of convolutions it passes over many settings."""
        return is_plain(layer)

    def peft_config(self) -> dict[str, Any]:
        """Return PEFT's block size and number of factors."""
        return {
            "boft_block_size": 0 if self.blocks else self.block_size,
            "boft_block_num": self.blocks or 0,
            "boft_n_butterfly_factor": self.factors,
            "boft_dropout": self.dropout,
        }

    @classmethod
    def from_peft(cls, config: Mapping[str, Any], tensors: Parameters) -> BOFT:
        """Return the settings of a PEFT BOFT folder, whose output scale is always on.

        Warns where PEFT silently trained one factor because its CUDA extension was missing.

        Raises:
            UserError: for variants we do not have, or if the tensors are missing.
        """
        factors, present = config.get("boft_n_butterfly_factor", 1), tensors.get("boft_R")
        if present is not None and present.ndim == 4 and factors != len(present) == 1:
            warnings.warn(
                f"The adapter is said to have {factors} butterfly factors but holds 1: PEFT trains "
                "1 where its CUDA extension is missing. It is loaded as it was trained.",
                stacklevel=2,
            )
            factors = 1
        return cls(
            block_size=config.get("boft_block_size", 4) or cls.block_size,
            blocks=config.get("boft_block_num") or None,
            factors=factors,
            output_scale=True,
            dropout=config.get("boft_dropout", 0.0),
        )

    def pack(self, parameters: Parameters, layer: Adaptable) -> dict[str, Tensor]:
        """Return full matrices (m, D, b, b), which PEFT antisymmetrises, and a scale.

        The scale is (out, 1) for a linear layer and (1, out) for a convolution.
        """
        boft_R = skew(parameters["boft_R"])
        scale = parameters.get("boft_s", boft_R.new_ones(dimensions(layer)[1], 1))
        return {"boft_s": scale.mT if isinstance(layer, nn.Conv2d) else scale, "boft_R": boft_R}

    def unpack(self, tensors: Parameters, config: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the triangles of the antisymmetric parts, and the scale if it is switched on.

        PEFT up to 0.12 also saved the permutations `boft_P`, which follow from the sizes.
        """
        parameters = {k: v for k, v in tensors.items() if k in ("boft_R", "boft_s")}
        unknown = {k: v for k, v in tensors.items() if k not in ("boft_R", "boft_s", "boft_P")}
        scale, blocks = parameters.pop("boft_s", None), parameters.get("boft_R")
        if scale is not None and self.output_scale:
            parameters["boft_s"] = scale.reshape(-1, 1)
        if blocks is not None and blocks.ndim == 4 and blocks.shape[2] == blocks.shape[3]:
            parameters["boft_R"] = triangle(blocks)
        return parameters | unknown

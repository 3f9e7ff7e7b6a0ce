"""OFT: block-diagonal Cayley rotations (Qiu et al., 2306.07280)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor

from orthodiff.adapters.base import Factors, Method, Parameters
from orthodiff.adapters.checks import divisors, refuse_flags, require_positive
from orthodiff.adapters.kinds import Adaptable
from orthodiff.errors import UserError
from orthodiff.orthogonal import cayley, rotate_blocks, rotation_angles, rotation_power, skew


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

    def __post_init__(self) -> None:
        require_positive("block_size", self.block_size, example=32)
        if self.block_size == 1:
            raise UserError(
                "`block_size` is 1, but a rotation needs at least 2. Use for example 32."
            )

    def shapes(self, d: int, out: int) -> dict[str, tuple[int, ...]]:
        """Return the shape (D, b(b-1)/2) of `oft_R`: upper triangles of skew matrices.

        Raises:
            UserError: if the block size does not divide d; the sentence lists the sizes that do.
        """
        if d % self.block_size:
            raise UserError(
                f"`block_size` is {self.block_size}, but blocks must divide the layer's width {d}. "
                f"Use one of {', '.join(map(str, divisors(d)))}."
            )
        return {"oft_R": (d // self.block_size, self.block_size * (self.block_size - 1) // 2)}

    def prepare(self, parameters: Parameters) -> Factors:
        """Return the blocks (*batch, D, b, b) of R^T."""
        return (cayley(skew(parameters["oft_R"], self.block_size)),)

    def rotate(self, rows: Tensor, factors: Factors, *, inverse: bool = False) -> Tensor:
        """Return `rows R`, or `rows R^T` with `inverse`; rows (..., d)."""
        return rotate_blocks(rows, factors[0], inverse=inverse)

    def power(self, factors: Factors, strength: float) -> Factors:
        """Return real powers of the blocks."""
        return (rotation_power(factors[0], strength),)

    def angles(self, factors: Factors) -> Tensor:
        """Return the angles of all blocks in radians, largest first."""
        return rotation_angles(factors[0]).flatten().sort(descending=True).values

    def peft_config(self) -> dict[str, Any]:
        """Return PEFT's entries; the exact Cayley form is the one without Neumann terms."""
        return {
            "r": 0,
            "oft_block_size": self.block_size,
            "use_cayley_neumann": False,
            "coft": False,
            "block_share": False,
        }

    @classmethod
    def from_peft(cls, config: Mapping[str, Any], tensors: Parameters) -> OFT:
        """Return the settings of a PEFT OFT folder.

        Raises:
            UserError: for variants we do not have.
        """
        refuse_flags(config, "block_share", "coft", "fan_in_fan_out")
        if not config.get("oft_block_size"):
            raise UserError(
                "The adapter gives the number of blocks (`r`), not their size, so blocks differ "
                "from layer to layer, which orthodiff does not read. Load it with PEFT."
            )
        return cls(block_size=config["oft_block_size"])

    def pack(self, parameters: Parameters, layer: Adaptable) -> dict[str, Tensor]:
        """Return the triangles under PEFT's name `oft_R.weight`."""
        return {"oft_R.weight": parameters["oft_R"]}

    def unpack(self, tensors: Parameters, config: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the triangles; PEFT's truncated Neumann form turns the opposite way.

        Its five terms are not quite orthogonal. We load the exact rotation with the same generator.
        """
        sign = -1 if config.get("use_cayley_neumann", True) else 1
        return {"oft_R" if k == "oft_R.weight" else k: sign * v for k, v in tensors.items()}

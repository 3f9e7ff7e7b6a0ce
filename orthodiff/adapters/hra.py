"""HRA: a chain of Householder reflections (Yuan et al., arXiv:2405.17484)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from orthodiff.adapters.layers.adaptable import Adaptable, is_plain
from orthodiff.adapters.rotation import Factors, Parameters
from orthodiff.adapters.rotation_method import RotationMethod
from orthodiff.adapters.settings import setting
from orthodiff.errors import UserError
from orthodiff.ops.orthogonal import compact_wy, mirror, reflect, reflect_output
from orthodiff.ops.rotations import (
    geodesic,
    reflections,
    rotation_angles,
    rotation_power,
)


@dataclass(frozen=True)
class HRA(RotationMethod):
    """R = H_1 ... H_r with H_i = I - 2 u_i u_i^T; d * r parameters a layer, at LoRA's cost.

    Raises:
        UserError: for an odd rank, or settings out of range.
    """

    name: ClassVar[str] = "hra"
    title: ClassVar[str] = "Householder reflection adaptation (arXiv:2405.17484)"
    peft_type: ClassVar[str] = "HRA"
    peft_entries: ClassVar[frozenset[str]] = frozenset({"r", "apply_GS"})
    factor_count: ClassVar[int] = 2
    is_thin: ClassVar[bool] = True

    rank: int = setting(
        8, ge=1, help="Number of reflections; even, so that training starts at the base."
    )
    regularization: float = setting(
        0.0,
        ge=0,
        remedy="Use 0 for none",
        help="Weight of ||I - V^T V||^2, which pulls the reflections apart.",
    )
    strict: bool = setting(
        False,
        help="Keep the reflections orthogonal to each other (infinite regularization). "
        "Such a chain is never the identity, so training starts away from the base model.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_pairs()

    def _require_pairs(self) -> None:
        if self.rank % 2 and not self.strict:
            raise UserError(
                f"`rank` is {self.rank}, but HRA starts at the identity only when reflections come "
                f"in pairs. Use an even rank, for example {self.rank + 1}."
            )

    def shapes(self, d: int, out: int) -> dict[str, tuple[int, ...]]:
        """Return the shape (d, r) of `hra_u`.

        Raises:
            UserError: if there are more reflections than directions.
        """
        if self.rank > d:
            remedy = f"Use a rank of at most {d - d % 2}" if d > 1 else "Leave it out of `targets`"
            raise UserError(
                f"`rank` is {self.rank}, but the layer is {d} wide, and more reflections than that "
                f"rotate it no further. {remedy}."
            )
        return {"hra_u": (d, self.rank)}

    def start(self, d: int, out: int, *, generator: torch.Generator | None) -> dict[str, Tensor]:
        """Return adjacent twin columns, whose reflections cancel (strict: independent columns).

        Raises:
            UserError: if there are more reflections than directions.
        """
        ((name, shape),) = self.shapes(d, out).items()
        twins = 1 if self.strict else 2
        bound = math.sqrt(twins / self.rank)
        columns = torch.empty(d, self.rank // twins).uniform_(-bound, bound, generator=generator)
        return {name: columns.repeat_interleave(twins, dim=1).reshape(shape)}

    def prepare(self, parameters: Parameters) -> Factors:
        """Return A and P, both (*batch, r, d), with R = I - A^T P."""
        return (mirror if self.strict else compact_wy)(parameters["hra_u"])

    def rotate(self, rows: Tensor, factors: Factors, *, inverse: bool = False) -> Tensor:
        """Return `rows R`, or `rows R^T` with `inverse`; rows (..., d)."""
        return reflect(rows, *factors, inverse=inverse)

    def rotate_output(self, output: Tensor, x: Tensor, matrix: Tensor, factors: Factors) -> Tensor:
        """Return `x R^T W^T + bias` from `x W^T + bias`: the change of W has rank r."""
        return reflect_output(output, x, matrix, *factors)

    def power(self, factors: Factors, strength: float) -> Factors:
        """Return A and P of R^strength, which differs from I only on the span of the reflections.

        Strict reflections rotate r/2 planes by pi, which leaves the planes open: columns are paired
        in order.
        """
        A, P = factors
        if strength == 0:
            return A, torch.zeros_like(P)
        basis, M = self._within(A, P)
        identity = torch.eye(len(M), dtype=M.dtype, device=M.device)
        across = basis.mT.contiguous()
        return across, (identity - rotation_power(M, strength)) @ across

    def low_rank(
        self, matrix: Tensor, parameters: Parameters, *, strength: float
    ) -> tuple[Tensor, Tensor]:
        """Return B = -W A^T and P: the change is of low rank exactly."""
        factors = self.prepare(parameters)
        A, P = factors if strength == 1 else self.power(factors, strength)
        return -matrix @ A.mT, P

    def angles(self, factors: Factors) -> Tensor:
        """Return the angles of R on the span of the reflections, in radians, largest first."""
        return rotation_angles(self._within(*factors)[1])

    def _within(self, A: Tensor, P: Tensor) -> tuple[Tensor, Tensor]:
        """Return an orthonormal basis (d, r) of the reflections' span and R within it (r, r)."""
        identity = torch.eye(len(A), dtype=A.dtype, device=A.device)
        if self.strict:
            return A.mT, -identity
        basis, inner = torch.linalg.qr(A.mT)
        return basis, identity - inner @ (P @ basis)

    def check_strength(self, strength: float) -> None:
        """Refuse a strength the method cannot have.

        Raises:
            UserError: if it is not finite, or in between for an odd rank.
        """
        super().check_strength(strength)
        if self.rank % 2 and strength not in (0, 1):
            raise UserError(
                f"`strength` is {strength}, but an odd number of reflections ({self.rank}) has "
                "determinant -1 and so no real powers. Use 0 or 1, or train with an even rank."
            )

    def bake_strength(
        self, parameters: Parameters, strength: float
    ) -> tuple[RotationMethod, Parameters]:
        """Return reflections of R^strength: as many as there are, found again unless it is 1."""
        if strength == 1 and not self.strict:
            return _of_rank(self.rank), parameters
        A, P = self.prepare(parameters)
        if strength == 1:
            return _of_rank(self.rank), {"hra_u": A.mT.contiguous()}
        basis, M = self._within(A, P)
        power = rotation_power(M, strength) if strength else torch.eye(len(M)).to(M)
        even = self.rank + self.rank % 2
        return _of_rank(even), {"hra_u": basis @ reflections(power, even)}

    def invert(self, parameters: Parameters) -> Parameters:
        """Return the reflections in reverse order."""
        return {"hra_u": parameters["hra_u"].flip(-1)}

    def join(
        self, parameters: Parameters, other: RotationMethod, others: Parameters
    ) -> tuple[RotationMethod, Parameters] | None:
        """Return one chain of all reflections."""
        if not isinstance(other, HRA):
            return None
        U = torch.cat([parameters["hra_u"], others["hra_u"]], dim=-1)
        if U.shape[-1] > len(U):  # more reflections than directions
            return None
        return _of_rank(U.shape[-1]), {"hra_u": U}

    def between(
        self, parameters: Parameters, other: RotationMethod, others: Parameters, t: float
    ) -> tuple[RotationMethod, Parameters] | None:
        """Return reflections of `R_a (R_a^T R_b)^t`, within the span of both; ranks add up."""
        if not isinstance(other, HRA) or self.rank % 2 or other.rank % 2:
            return None
        V = torch.cat([parameters["hra_u"], others["hra_u"]], dim=-1)
        basis, _ = torch.linalg.qr(V)
        A, B = (
            method.rotate(basis.mT, method.prepare(own)) @ basis
            for method, own in ((self, parameters), (other, others))
        )
        rank = self.rank + other.rank
        return _of_rank(rank), {"hra_u": basis @ reflections(geodesic(A, B, t), rank)}

    def penalty(self, parameters: Parameters) -> Tensor | None:
        """Return lambda ||I_r - V^T V||_F^2 (eq. 6), or None when it is switched off."""
        if self.strict or not self.regularization:
            return None
        V = F.normalize(parameters["hra_u"], dim=-2)
        gram = V.mT @ V
        identity = torch.eye(self.rank, dtype=gram.dtype, device=gram.device)
        return self.regularization * (gram - identity).square().sum()

    def runs_in_peft(self, layer: Adaptable) -> bool:
        """Whether PEFT runs the layer as it is: of convolutions it passes over many settings."""
        return is_plain(layer)

    def peft_config(self) -> dict[str, Any]:
        """Return PEFT's `r` and `apply_GS`."""
        return {"r": self.rank, "apply_GS": self.strict}

    @classmethod
    def from_peft(cls, config: Mapping[str, Any], tensors: Parameters) -> HRA:
        """Return the settings of a PEFT HRA folder, whose rank may be odd."""
        rank, strict = config.get("r", 8), bool(config.get("apply_GS", False))
        return _of_rank(rank, strict=strict)

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> HRA:
        """Return the method that `settings` were taken from, whose rank may be odd."""
        return dataclasses.replace(_of_rank(settings["rank"], strict=True), **settings)


class OddHRA(HRA):
    """HRA of an odd rank, as found in PEFT's folders: it can be loaded but not started.

    Its determinant is -1, so it has no real powers: its strength is 0 or 1.
    """

    def _require_pairs(self) -> None:
        pass

    def start(self, d: int, out: int, *, generator: torch.Generator | None) -> dict[str, Tensor]:
        """Refuse: an odd number of reflections is never the identity.

        Raises:
            UserError: always.
        """
        raise UserError(f"{self.rank} reflections are never the identity. Use an even rank.")


def _of_rank(rank: int, *, strict: bool = False) -> HRA:
    """Return HRA of a rank that may be odd."""
    odd = isinstance(rank, int) and rank % 2
    return (OddHRA if odd else HRA)(rank=rank, strict=strict)

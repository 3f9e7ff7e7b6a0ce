"""HRA: a chain of Householder reflections (Yuan et al., 2405.17484)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from orthodiff.adapters.checks import require_at_least_zero, require_positive
from orthodiff.adapters.method import Factors, Method, Parameters
from orthodiff.errors import UserError
from orthodiff.ops.orthogonal import compact_wy, mirror, reflect
from orthodiff.ops.rotations import (
    geodesic,
    reflections,
    rotation_angles,
    rotation_power,
)


@dataclass(frozen=True)
class HRA(Method):
    """R = H_1 ... H_r with H_i = I - 2 u_i u_i^T; d * r parameters a layer, at LoRA's cost.

    Raises:
        UserError: for an odd rank, or settings out of range.
    """

    name: ClassVar[str] = "hra"
    title: ClassVar[str] = "Householder reflection adaptation (2405.17484)"
    peft_type: ClassVar[str] = "HRA"
    factor_count: ClassVar[int] = 2

    rank: int = field(
        default=8,
        metadata={"help": "Number of reflections; even, so that training starts at the base."},
    )
    regularization: float = field(
        default=0.0,
        metadata={"help": "Weight of ||I - V^T V||^2, which pulls the reflections apart."},
    )
    strict: bool = field(
        default=False,
        metadata={
            "help": "Keep the reflections orthogonal to each other (infinite regularization). "
            "Such a chain is never the identity, so training starts away from the base model."
        },
    )

    def __post_init__(self) -> None:
        require_positive("rank", self.rank, example=8)
        require_at_least_zero("regularization", self.regularization)
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
            raise UserError(
                f"`rank` is {self.rank}, but the layer is {d} wide, and more reflections than that "
                f"turn it no further. Use a rank of at most {d - d % 2}."
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
        """Return A (*batch, r, d) and S (*batch, r, r) with R = I - A^T S A."""
        return (mirror if self.strict else compact_wy)(parameters["hra_u"])

    def rotate(self, rows: Tensor, factors: Factors, *, inverse: bool = False) -> Tensor:
        """Return `rows R`, or `rows R^T` with `inverse`; rows (..., d)."""
        return reflect(rows, *factors, inverse=inverse)

    def power(self, factors: Factors, strength: float) -> Factors:
        """Return A and S of R^strength, which differs from I only on the span of the reflections.

        Strict reflections turn r/2 planes by pi, which leaves the planes open: columns are paired
        in order.
        """
        A, S = factors
        if strength == 0:
            return A, torch.zeros_like(S)
        basis, M = self._within(A, S)
        identity = torch.eye(len(M), dtype=M.dtype, device=M.device)
        return basis.mT.contiguous(), identity - rotation_power(M, strength)

    def thin_change(self, matrix: Tensor, factors: Factors) -> tuple[Tensor, Tensor]:
        """Return A (r, d) and C = -S^T A W^T (r, out), as `W (I - A^T S A) = W + C^T A`."""
        A, S = factors
        return A, -S.mT.to(matrix.dtype) @ (A.to(matrix.dtype) @ matrix.mT)

    def low_rank(
        self, matrix: Tensor, parameters: Parameters, *, strength: float
    ) -> tuple[Tensor, Tensor]:
        """Return B = -W A^T S and A: the change is of low rank exactly."""
        factors = self.prepare(parameters)
        A, C = self.thin_change(matrix, factors if strength == 1 else self.power(factors, strength))
        return C.mT, A

    def angles(self, factors: Factors) -> Tensor:
        """Return the angles of R on the span of the reflections, in radians, largest first."""
        return rotation_angles(self._within(*factors)[1])

    def _within(self, A: Tensor, S: Tensor) -> tuple[Tensor, Tensor]:
        """Return an orthonormal basis (d, r) of the reflections' span and R within it (r, r)."""
        identity = torch.eye(len(A), dtype=A.dtype, device=A.device)
        if self.strict:
            return A.mT, -identity
        basis, inner = torch.linalg.qr(A.mT)
        return basis, identity - inner @ S @ inner.mT

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

    def bake_strength(self, parameters: Parameters, strength: float) -> tuple[Method, Parameters]:
        """Return reflections of R^strength: as many as there are, found again unless it is 1."""
        if strength == 1 and not self.strict:
            return _of_rank(self.rank), parameters
        A, S = self.prepare(parameters)
        if strength == 1:
            return _of_rank(self.rank), {"hra_u": A.mT.contiguous()}
        basis, M = self._within(A, S)
        power = rotation_power(M, strength) if strength else torch.eye(len(M)).to(M)
        even = self.rank + self.rank % 2
        return _of_rank(even), {"hra_u": basis @ reflections(power, even)}

    def invert(self, parameters: Parameters) -> Parameters:
        """Return the reflections in reverse order."""
        return {"hra_u": parameters["hra_u"].flip(-1)}

    def join(
        self, parameters: Parameters, other: Method, others: Parameters
    ) -> tuple[Method, Parameters] | None:
        """Return one chain of all reflections."""
        if not isinstance(other, HRA):
            return None
        U = torch.cat([parameters["hra_u"], others["hra_u"]], dim=-1)
        if U.shape[-1] > len(U):  # more reflections than directions
            return None
        return _of_rank(U.shape[-1]), {"hra_u": U}

    def between(
        self, parameters: Parameters, other: Method, others: Parameters, t: float
    ) -> tuple[Method, Parameters] | None:
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

    def penalty(self, factors: Factors) -> Tensor | None:
        """Return lambda ||I_r - V^T V||_F^2 (eq. 6), or None when it is switched off."""
        if self.strict or not self.regularization:
            return None
        V = F.normalize(factors[0], dim=-1)
        gram = V @ V.mT
        identity = torch.eye(self.rank, dtype=gram.dtype, device=gram.device)
        return self.regularization * (gram - identity).square().sum()

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

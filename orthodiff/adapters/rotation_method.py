"""A method that rotates: its layers, and its rotations as elements of a group."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from orthodiff.adapters.layers.adaptable import Adaptable
from orthodiff.adapters.layers.conv import AdaptedConv2d
from orthodiff.adapters.layers.linear import AdaptedLinear
from orthodiff.adapters.layers.rotated import RotatedLayer
from orthodiff.adapters.method import Method
from orthodiff.adapters.rotation import Parameters, Rotation
from orthodiff.errors import UserError


@dataclass(frozen=True)
class RotationMethod(Rotation, Method):
    """Settings of a rotation. A new one gives `name`, `title`, `shapes`, `prepare` and `rotate`.

    `power` and `angles` add strength; the functions below add products, inverses and ways between
    two adapters. All may be left out: `compose` then makes a chain.
    """

    def wrap(self, layer: Adaptable, parameters: Parameters) -> RotatedLayer:
        """Return `layer` wrapped with these parameters; the layer itself stays as it is."""
        if isinstance(layer, nn.Conv2d):
            return AdaptedConv2d(layer, self, parameters)
        return AdaptedLinear(layer, self, parameters)

    def check_strength(self, strength: float) -> None:
        """Refuse a strength the method cannot have.

        Raises:
            UserError: if it is not finite, or not 1 for a method without powers.
        """
        super().check_strength(strength)
        if strength != 1 and type(self).power is Rotation.power:
            raise UserError(
                f"`strength` is {strength}, but {self.name} has no powers, so it can only be 1."
            )

    def bake_strength(
        self, parameters: Parameters, strength: float
    ) -> tuple[RotationMethod, Parameters]:
        """Return a method and parameters that rotate at strength 1 as these do at `strength`.

        What matters in training only is left out of the method.

        Raises:
            UserError: for a method without powers, unless the strength is 1.
        """
        self.check_strength(strength)
        return self, parameters

    def invert(self, parameters: Parameters) -> Parameters | None:
        """Return parameters of R^T for a method at strength 1, or None where it has none."""
        return None

    def join(
        self, parameters: Parameters, other: RotationMethod, others: Parameters
    ) -> tuple[RotationMethod, Parameters] | None:
        """Return a method and parameters of `R R_other`, at strength 1, or None for a chain."""
        return None

    def between(
        self, parameters: Parameters, other: RotationMethod, others: Parameters, t: float
    ) -> tuple[RotationMethod, Parameters] | None:
        """Return a method and parameters on the geodesic to `other`'s, at strength 1, or None."""
        return None

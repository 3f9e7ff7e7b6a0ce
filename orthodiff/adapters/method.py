"""What every adapter is: settings, the parameters of a layer, and the layer that runs them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from orthodiff.adapters.layers.adaptable import Adaptable
from orthodiff.adapters.layers.adapted import AdaptedLayer
from orthodiff.adapters.peft_format.method_format import PeftFormat
from orthodiff.adapters.rotation import Parameters
from orthodiff.adapters.settings import Settings
from orthodiff.errors import UserError


@dataclass(frozen=True)
class Method(Settings, PeftFormat):
    """Settings of an adapter. Methods that rotate derive from `RotationMethod`."""

    name: ClassVar[str]
    """Name in `ADAPTERS`, on the command line and in saved recipes."""
    title: ClassVar[str]
    """Full name for people, with its source."""

    def shapes(self, d: int, out: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the parameters of a layer of shape (out, d), by name.

        Raises:
            UserError: if the settings do not fit the width d; the sentence lists what fits.
        """
        raise NotImplementedError

    def start(self, d: int, out: int, *, generator: torch.Generator | None) -> dict[str, Tensor]:
        """Return the float32 parameters of a layer of shape (out, d) at the start of training.

        Raises:
            UserError: if the settings do not fit the width d; the sentence lists what fits.
        """
        return {name: torch.zeros(shape) for name, shape in self.shapes(d, out).items()}

    def wrap(self, layer: Adaptable, parameters: Parameters) -> AdaptedLayer:
        """Return `layer` wrapped with these parameters; the layer itself stays as it is.

        Raises:
            UserError: if the layer cannot be adapted by this method.
        """
        raise NotImplementedError

    def low_rank(
        self, matrix: Tensor, parameters: Parameters, *, strength: float
    ) -> tuple[Tensor, Tensor] | None:
        """Return B (out, r) and A (r, d) with `W + B A` the adapted W, or None for a full change.

        `matrix` is W (out, d); it and the parameters are of one dtype, in which this is computed.
        """
        return None

    def check_strength(self, strength: float) -> None:
        """Refuse a strength the method cannot have.

        Raises:
            UserError: if it is not a finite number.
        """
        number = isinstance(strength, int | float) and not isinstance(strength, bool)
        if not number or not math.isfinite(strength):
            raise UserError(
                f"`strength` is {strength!r}, but it must be a finite number. Use for example 1."
            )

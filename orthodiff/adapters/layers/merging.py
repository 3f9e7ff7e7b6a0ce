"""Exchange a frozen layer's weight for its adapted one, and back."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from orthodiff.adapters.layers.adaptable import is_packed
from orthodiff.errors import UserError


class Merging:
    """What adapted layers share: the base layer holds another parameter while they are merged.

    The original one is kept aside as the object it is, so that unmerging restores every bit, and a
    parameter that other layers share, as tied embeddings do, stays theirs.
    """

    base_layer: Any
    _aside: tuple[nn.Parameter] | None = None  # in a tuple, where `nn.Module` does not list it

    def unpacked_weight(self) -> Tensor:
        """Return the original weight.

        Raises:
            UserError: if it is quantized, so that no change of it could be put back.
        """
        if is_packed(self.base_layer):
            raise UserError(
                "The base model is quantized, so an adapted weight does not fit back into it. "
                "Leave the adapter apart, or load the base model in float16 or float32 to merge."
            )
        return self.original_weight

    def adapted_weight(self) -> Tensor:
        """Return the adapted weight in the weight's shape, computed in at least float32."""
        raise NotImplementedError

    @property
    def original_weight(self) -> nn.Parameter:
        """The base layer's own weight, merged or not."""
        return self.base_layer.weight if self._aside is None else self._aside[0]

    @property
    def merged(self) -> bool:
        """Whether the base layer now holds the adapted weight."""
        return self._aside is not None

    def merge(self) -> None:
        """Put the adapted weight into the base layer.

        Raises:
            UserError: if the base layer is quantized.
        """
        if not self.merged:
            adapted = nn.Parameter(self.adapted_weight(), requires_grad=False)
            self._aside, self.base_layer.weight = (self.base_layer.weight,), adapted

    def unmerge(self) -> None:
        """Put the original weight back, bit for bit."""
        if self._aside is not None:
            (original,), merged = self._aside, self.base_layer.weight
            original.data = original.data.to(merged.device, merged.dtype)
            self.base_layer.weight, self._aside = original, None

    def keep_merged(self) -> None:
        """Let go of the original weight, so that the adapted one stays for good."""
        self._aside = None

"""What an adapter needs from an adapted layer, whoever made it."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor, nn


class AdaptedLayer(Protocol):
    """A frozen layer, its trainable parameters, and the ways to merge them."""

    base_layer: Any
    strength: float

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        """Return the trainable parameters under the method's own names."""

    def unpacked_weight(self) -> Tensor:
        """Return the base layer's own weight, merged or not, unless it is out of reach."""

    @property
    def merged(self) -> bool:
        """Whether the base layer now holds the adapted weight."""

    def adapted_weight(self) -> Tensor:
        """Return the adapted weight in the weight's shape, computed in at least float32."""

    def merge(self) -> None:
        """Put the adapted weight into the base layer."""

    def unmerge(self) -> None:
        """Put the original weight back, bit for bit."""

    def keep_merged(self) -> None:
        """Let go of the original weight, so that the adapted one stays for good."""

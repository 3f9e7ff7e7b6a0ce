"""Exchange a frozen layer's weight for its adapted one, and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from orthodiff.adapters.layers.adaptable import device_of, out_of_reach
from orthodiff.errors import UserError


class Merging:
    """What adapted layers share: the base layer holds another parameter while they are merged.

    The original one is kept aside as the object it is, so that unmerging restores every bit, and a
    parameter that other layers share, as tied embeddings do, stays theirs.
    """

    base_layer: Any
    _aside: tuple[nn.Parameter] | None = None  # in a tuple, where `nn.Module` does not list it

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        """Return the trainable parameters under the method's own names."""
        raise NotImplementedError

    def adapted_weight(self) -> Tensor:
        """Return the adapted weight in the weight's shape, computed in at least float32."""
        raise NotImplementedError

    def live_weight(self) -> Tensor:
        """Return the adapted weight as a function of the parameters, for those who read it."""
        raise NotImplementedError

    def unpacked_weight(self) -> Tensor:
        """Return the original weight.

        Raises:
            UserError: if it is out of reach, so that no change of it could be put back.
        """
        if self._aside is not None:
            return self._aside[0]
        reason = out_of_reach(self.base_layer)
        if reason is None and self.base_layer.weight.is_meta:
            reason = "is on the meta device, so that its weight has no numbers"
        if reason == "is quantized":
            raise UserError(
                "The base model is quantized, so an adapted weight does not fit back into it. "
                "Leave the adapter apart, or load the base model in float16 or float32 to merge."
            )
        if reason:
            raise UserError(
                f"The layer {reason}, so an adapted weight cannot be put into it. Leave the "
                "adapter apart, or undo that first."
            )
        weight: Tensor = self.base_layer.weight
        return weight

    @property
    def weight(self) -> Tensor:
        """The weight in effect, for modules that read it instead of calling the layer.

        torch's fused `nn.TransformerEncoderLayer` does, and diffusers' `fuse_qkv_projections`.
        """
        if self.merged or out_of_reach(self.base_layer) is not None:
            weight: Tensor = self.base_layer.weight
            return weight
        return self.live_weight()

    @property
    def bias(self) -> Tensor | None:
        """The base layer's bias (out,), if any."""
        bias: Tensor | None = self.base_layer.bias
        return bias

    @property
    def merged(self) -> bool:
        """Whether the base layer now holds the adapted weight."""
        return self._aside is not None

    def merge(self) -> None:
        """Put the adapted weight into the base layer.

        Raises:
            UserError: if the base layer's weight is out of reach.
        """
        if not self.merged:
            original = self.unpacked_weight()
            with torch.inference_mode(False), torch.no_grad():
                # laid out in memory as the original is: rotated blocks leave transposed strides,
                # which safetensors refuses
                weight = torch.empty_like(original).copy_(self.adapted_weight())
                adapted = nn.Parameter(weight, requires_grad=False)
            self.base_layer.weight = adapted
            self._aside = (original,)  # type: ignore[assignment]

    def unmerge(self) -> None:
        """Put the original weight back, bit for bit, where the model has moved to since."""
        if self._aside is not None:
            (original,), merged = self._aside, self.base_layer.weight
            if (original.device, original.dtype) != (merged.device, merged.dtype):
                moved = original.data.to(merged.device, merged.dtype)
                if torch._has_compatible_shallow_copy_type(original, moved):
                    original.data = moved
                else:  # as `nn.Module.to` does, where a tensor cannot change its kind
                    original = nn.Parameter(moved, requires_grad=original.requires_grad)
            self.base_layer.weight, self._aside = original, None

    def keep_merged(self) -> None:
        """Let go of the original weight, so that the adapted one stays for good."""
        self._aside = None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Move or cast the layer, as `nn.Module` does.

        Raises:
            UserError: if its parameters would come off the meta device, where they lost their
                numbers.
        """
        were_meta = any(p.is_meta for p in self.adapter_parameters().values())
        result = super()._apply(fn, recurse)  # type: ignore[misc]
        if were_meta and not all(p.is_meta for p in self.adapter_parameters().values()):
            raise UserError(
                "The adapter was attached on the meta device, which keeps no numbers. Give the "
                "model its weights first, then attach the adapter."
            )
        return result

    def __getattr__(self, name: str) -> Any:
        """Look up what callers expect of a plain layer, such as `in_features` or `kernel_size`."""
        try:
            return super().__getattr__(name)  # type: ignore[misc]
        except AttributeError:
            base = vars(self).get("_modules", {}).get("base_layer")
            # torch's and accelerate's own marks are of that module alone
            if base is None or name.startswith("_"):
                raise
            return getattr(base, name)


def new_parameter(value: Tensor, base_layer: Any) -> nn.Parameter:
    """Return a trainable parameter with this value where the layer computes.

    It is no inference tensor, even if the adapter is attached under `torch.inference_mode`: such
    tensors can neither be trained nor be told apart from older versions of themselves.
    """
    with torch.inference_mode(False), torch.no_grad():
        moved = value.to(device_of(base_layer))
        return nn.Parameter(moved.clone() if moved.is_inference() else moved)

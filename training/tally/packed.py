"""A stand-in for a linear layer whose weight lies in few bits: the same bytes, no numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class PackedLinear(nn.Linear):
    """As large as `layer`, a quantized one; its whole weight is there only during a product."""

    def __init__(self, layer: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        packed = torch.empty(packed_bytes(layer), dtype=torch.uint8)
        self.weight = nn.Parameter(packed, requires_grad=False)
        bias = None if layer.bias is None else torch.empty_like(layer.bias, device="cpu")
        self.register_parameter("bias", None if bias is None else nn.Parameter(bias, False))

    def forward(self, input: Tensor) -> Tensor:
        """The product with a weight that is unpacked for it, as bitsandbytes does."""
        output = _Product.apply(input, self.weight, (self.out_features, self.in_features))
        return output if self.bias is None else output + self.bias.to(output.dtype)


class _Product(torch.autograd.Function):
    """`x W^T`, which keeps the packed weight alone for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, packed: Tensor, shape: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(packed)
        ctx.shape = shape
        return x @ packed.new_empty(shape, dtype=x.dtype).T

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (packed,), (gradient,) = ctx.saved_tensors, gradients
        return gradient @ packed.new_empty(ctx.shape, dtype=gradient.dtype), None, None


def is_packed(module: nn.Module) -> bool:
    """Whether this is a linear layer of bitsandbytes."""
    return isinstance(module, nn.Linear) and type(module.weight) is not nn.Parameter


def packed_bytes(layer: nn.Linear) -> int:
    """Bytes of a quantized weight and of its scales."""
    weight: Any = layer.weight
    state = getattr(weight, "quant_state", None)
    scales = [getattr(weight, "SCB", None), getattr(state, "absmax", None)]
    scales.append(getattr(getattr(state, "state2", None), "absmax", None))
    return int(weight.nbytes) + sum(s.nbytes for s in scales if isinstance(s, Tensor))

"""Convolutions by frozen filters that are laid out for the kernel once, and not at every call.

oneDNN rearranges filters before it convolves. Over few pixels that takes as long as the product.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

aten, mkldnn = torch.ops.aten, torch.ops.mkldnn
PRIVATE = ("_reorder_convolution_weight", "_convolution_pointwise")
"""Operations that torch does not promise to keep; without them nothing is packed."""
ROOM = 1 << 29
"""Bytes of filters that are kept twice, at most."""
IN_PLAIN: tuple[Any, ...] = ("none", [], "")
"""Nothing is fused with the convolution."""
_Call = tuple[Tensor, Tensor, bool, list[Any]]


class Packing:
    """Finds convolutions to the same bits with filters that are ready."""

    def __init__(self) -> None:
        self._packed: dict[Any, tuple[Tensor, Tensor]] = {}
        is_possible = torch.backends.mkldnn.is_available() and all(
            hasattr(mkldnn, name) for name in PRIVATE
        )
        self._room = ROOM if is_possible else 0

    def instead(self, func: Any, args: Sequence[Any], output: Any) -> tuple[Any, list[Any]] | None:
        """An operation and its arguments that give what `func` has `output`, in less time."""
        if func is aten.convolution.default:
            forward = _forward(*args)
        elif func is aten.convolution_backward.default:
            forward, output = _backward(*args), output[0]
        else:
            return None
        if forward is None or not output.is_contiguous(memory_format=torch.channels_last):
            return None
        x, filters, is_turned, rest = forward
        ready = self._ready(x, filters, is_turned, rest)
        if ready is None:
            return None
        call = [x, ready, *rest, *IN_PLAIN]
        result = mkldnn._convolution_pointwise(*call)
        same = result.stride() == output.stride() and torch.equal(result, output)
        return (mkldnn._convolution_pointwise.default, call) if same else None

    def _ready(
        self, x: Tensor, filters: Tensor, is_turned: bool, rest: Sequence[Any]
    ) -> Tensor | None:
        """The filters as the kernel wants them; None where there is no room for them."""
        key = id(filters), is_turned
        if key not in self._packed:
            size = filters.numel() * filters.element_size()
            if size > self._room:
                return None
            self._room -= size
            turned = filters.transpose(0, 1).flip(2, 3) if is_turned else filters
            _, *geometry = rest
            packed = mkldnn._reorder_convolution_weight(turned.contiguous(), *geometry, x.shape)
            self._packed[key] = filters, packed
        return self._packed[key][1]


class _Geometry(NamedTuple):
    """What torch's convolutions are told beside tensors, in its order."""

    stride: list[int]
    padding: list[int]
    dilation: list[int]
    transposed: bool
    output_padding: list[int]
    groups: int


def _forward(x: Tensor, filters: Tensor, bias: Tensor | None, *words: Any) -> _Call | None:
    """A convolution: what goes in, filters, whether they are to be turned, and the other words."""
    how = _Geometry(*words)
    if how.transposed or how.groups > 1 or not _is_frozen(filters):
        return None
    return x, filters, False, [bias, how.padding, how.stride, how.dilation, how.groups]


def _backward(
    gradient: Tensor, _x: Tensor, filters: Tensor, _bias_sizes: Any, *words: Any
) -> _Call | None:
    """The gradient by a convolution's input: a convolution with filters turned by half a turn."""
    *geometry, asked = words
    how = _Geometry(*geometry)
    is_plain = not how.transposed and how.groups == 1 and asked == [True, False, False]
    if not is_plain or {*how.stride, *how.dilation} != {1} or not _is_frozen(filters):
        return None
    sizes = zip(filters.shape[2:], how.padding, strict=True)
    around = [size - 1 - margin for size, margin in sizes]
    if min(around) < 0:
        return None
    return gradient, filters, True, [None, around, how.stride, how.dilation, how.groups]


def _is_frozen(filters: Tensor) -> bool:
    """Whether filters (out, in, height, width) stay as they are; halves not every CPU can pack."""
    is_plain = filters.ndim == 4 and filters.dtype == torch.float32
    return is_plain and filters.is_leaf and not filters.requires_grad

"""One all-reduce a step: gradients, loss and signals of all processes in one flat tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from accelerate import Accelerator


def average(
    accelerator: Accelerator,
    gradients: Sequence[Tensor | None],
    like: Sequence[Tensor],
    *rest: Tensor,
) -> tuple[list[Tensor], list[Tensor]]:
    """The mean over processes of each of the `gradients`, and of each tensor in `rest`.

    A gradient that is missing counts as zeros of the shape in `like`. Adapters are small, so no
    model wrapper is needed; but a call for each of their thousand tensors would cost more than the
    sums themselves.
    """
    present = [
        torch.zeros_like(other) if gradient is None else gradient
        for gradient, other in zip(gradients, like, strict=True)
    ]
    parts = [*present, *rest]
    flat = accelerator.reduce(torch.cat([part.flatten().float() for part in parts]), "mean")
    pieces = flat.split([part.numel() for part in parts])
    means = [piece.view_as(part).to(part.dtype) for piece, part in zip(pieces, parts, strict=True)]
    return means[: len(present)], means[len(present) :]

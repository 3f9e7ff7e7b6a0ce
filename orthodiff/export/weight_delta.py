"""What an adapter changes in each weight: as a product of two thin matrices, or in full."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from orthodiff.adapters.layers.adaptable import Adaptable
from orthodiff.adapters.layers.adapted import AdaptedLayer
from orthodiff.errors import UserError

if TYPE_CHECKING:
    from orthodiff.adapters.adapter import Adapter
    from orthodiff.models import Base


@dataclass(frozen=True)
class Request:
    """What is written, and how: adapters attached to a base, by part ("unet", "text_encoder", ...).

    `base` is None where only an adapted model itself is at hand.
    """

    adapters: Mapping[str, Adapter]
    base: Base | None
    recipe: Mapping[str, str]
    tolerance: float = 0.01
    max_rank: int | None = None

    @property
    def model(self) -> Any:
        """The base's UNet, or else the model that is at hand."""
        return self.base.denoiser if self.base else next(iter(self.adapters.values())).model

    def layers(self) -> Iterator[tuple[str, AdaptedLayer, Adapter]]:
        """Yield every adapted layer with its `part.name` and its adapter."""
        for part, adapter in self.adapters.items():
            for name, layer in adapter.layers.items():
                yield f"{part}.{name}", layer, adapter


@dataclass(frozen=True)
class Contents:
    """Tensors and header of a file, and for the LoRA formats what is left out by layer."""

    tensors: dict[str, Tensor]
    header: dict[str, str]
    changes: Mapping[str, LowRank] = field(default_factory=dict)


def whole_base(request: Request) -> Base:
    """Return the base.

    Raises:
        UserError: if only the adapted part is at hand.
    """
    if request.base is None:
        raise UserError("A whole model needs the whole base. Give `base` as a folder or hub id.")
    return request.base


@dataclass(frozen=True)
class LowRank:
    """The change `B A` of one layer's weight, in the layer's own shapes.

    `down` is A, (r, d) or filters (r, in, height, width); `up` is B, (out, r) or (out, r, 1, 1).
    `error` is the norm of what is left out, relative to the norm of the whole change.
    """

    down: Tensor
    up: Tensor
    error: float

    @property
    def rank(self) -> int:
        """Number of rows of A."""
        return len(self.down)

    def padded(self, rank: int) -> LowRank:
        """Return the same change with zeros up to `rank`."""
        down = self.down.new_zeros(rank, *self.down.shape[1:])
        up = self.up.new_zeros(len(self.up), rank, *self.up.shape[2:])
        down[: self.rank], up[:, : self.rank] = self.down, self.up
        return LowRank(down, up, self.error)


@torch.no_grad()
def low_rank_changes(request: Request) -> dict[str, LowRank]:
    """Return the change of every `part.layer`: exact for HRA and LoRA, else a truncated SVD.

    An SVD keeps the smallest rank whose relative error is at most the tolerance, and no more than
    the largest rank allowed.

    Raises:
        UserError: for a convolution in groups, or a quantized base.
    """
    changes = {}
    for name, layer, adapter in request.layers():
        base: Adaptable = layer.base_layer
        if getattr(base, "groups", 1) > 1:
            raise UserError(
                f"Layer {name} is a convolution in groups, which a LoRA file cannot hold. "
                "Export with format `diff` or merge."
            )
        parameters = {
            key: p.detach().cpu().double() for key, p in layer.adapter_parameters().items()
        }
        matrix = layer.unpacked_weight().flatten(1).cpu().double()
        product = adapter.method.low_rank(matrix, parameters, strength=adapter.strength)
        if product is None:
            change = full_change(layer).flatten(1)
            truncated = truncate(change, request.tolerance, request.max_rank)
            changes[name] = _shaped(*truncated, base)
        else:
            changes[name] = _shaped(*product, 0.0, base)
    return changes


@torch.no_grad()
def full_change(layer: AdaptedLayer) -> Tensor:
    """Return the float32 difference between the adapted weight and the original one.

    Raises:
        UserError: if the base is quantized.
    """
    return layer.adapted_weight().float() - layer.unpacked_weight().float()


def truncate(
    change: Tensor, tolerance: float, max_rank: int | None
) -> tuple[Tensor, Tensor, float]:
    """Return B (out, r), A (r, d) and the relative error `||change - B A|| / ||change||`."""
    U, S, Vh = torch.linalg.svd(change, full_matrices=False)
    left_out = S.cpu().double().square().flip(0).cumsum(0).flip(0).sqrt()
    left_out = torch.cat([left_out, left_out.new_zeros(1)])
    size = float(left_out[0]) or 1.0
    rank = max(int((left_out > tolerance * size).sum()), 1)
    rank = rank if max_rank is None else min(rank, max_rank)
    root = S[:rank].sqrt()
    return U[:, :rank] * root, root[:, None] * Vh[:rank], float(left_out[rank]) / size


def _shaped(up: Tensor, down: Tensor, error: float, base: Adaptable) -> LowRank:
    """Return the matrices B and A as float32 filters if the layer is a convolution."""
    down, up = down.float().contiguous(), up.float().contiguous()
    if isinstance(base, torch.nn.Linear):
        return LowRank(down, up, error)
    return LowRank(down.view(len(down), *base.weight.shape[1:]), up[..., None, None], error)

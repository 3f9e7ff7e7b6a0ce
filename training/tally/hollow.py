"""Copies of models without their numbers."""

from __future__ import annotations

import copy
import dataclasses
from typing import TypeVar

import torch
from torch import Tensor, nn

from orthodiff.models import Base
from orthodiff.models.offload import Lending

from .packed import PackedLinear, is_packed

Model = TypeVar("Model", bound=nn.Module)


def hollow(model: Model) -> Model:
    """A copy on the CPU with the same layers, whose weights were never written and take no memory.

    Quantized layers are stood in for by others of their size.
    """
    copies: dict[int, object] = {
        id(module): PackedLinear(module)  # type: ignore[arg-type]
        for module in model.modules()
        if is_packed(module)
    }
    copies |= {id(tensor): _empty(tensor) for tensor in (*model.parameters(), *model.buffers())}
    return copy.deepcopy(model, copies)


def hollow_base(base: Base, device: torch.device) -> Base:
    """A copy of `base` without numbers, whose parts take turns on `device`.

    It samples in one step: memory is the same in every one.
    """
    texts = [dataclasses.replace(text, model=hollow(text.model)) for text in base.texts]
    twin = dataclasses.replace(
        base,
        denoiser=hollow(base.denoiser),
        vae=hollow(base.vae),
        texts=tuple(texts),
        recommended=dataclasses.replace(base.recommended, num_inference_steps=1),
        prompts={},
        fingerprints=dict(base.fingerprints),
        checked_prompts=set(base.checked_prompts),
        lending=Lending(),
    )
    twin.offload_to_cpu("model", device)
    return twin


def _empty(tensor: Tensor) -> Tensor:
    empty = torch.empty(tensor.shape, dtype=tensor.dtype)
    return nn.Parameter(empty, requires_grad=False) if isinstance(tensor, nn.Parameter) else empty

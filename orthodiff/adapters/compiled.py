"""Compiles a model whose layers are adapted: solved outside, once for all layers of a shape."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from orthodiff.adapters.layers.rotated import RotatedLayer
from orthodiff.errors import UserError


def compile_model(
    model: nn.Module, *, repeated_blocks: bool = False, backend: str | Any = "inductor"
) -> None:
    """Compile a model in place, or only its `repeated_blocks` as diffusers names them.

    What the layers' rotations depend on is solved before each pass, as in an uncompiled model, and
    the graphs take the factors as inputs: a batched solve for each shape of layers instead of one
    in each layer. Call the model itself, not parts of it: a compiled layer takes the factors of the
    last pass. Adapters that are attached later solve within the graphs.

    Blocks of one shape share a graph, which makes compiling several times as short.

    Raises:
        UserError: the model's class does not say which blocks are repeated.
    """
    for module in model.modules():
        if isinstance(module, RotatedLayer):
            module.takes_graph_inputs = True
    if not repeated_blocks:
        # `model.compile()` would compile the hooks too, and with them the solves
        model.forward = torch.compile(model.forward, backend=backend)
        return
    try:
        model.compile_repeated_blocks(backend=backend)  # type: ignore[operator]
    except (AttributeError, ValueError) as error:
        raise UserError(
            f"{type(model).__name__} does not say which of its blocks are repeated. Leave out "
            "--compile_repeated_blocks, which compiles it as a whole."
        ) from error

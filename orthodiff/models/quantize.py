"""Linear layers of a frozen denoiser in 8 or 4 bits, by bitsandbytes: a quarter of the memory.

Adapters are trained on top in their own precision, as QLoRA does (arXiv:2305.14314).
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Literal

import torch
from torch import nn

from orthodiff.errors import UserError

Bits = Literal["4bit", "8bit"]
BLOCK = 64
"""Numbers that share a scale in 4 bits; layers of other widths, as tiny models have, stay whole."""


def quantize_linear_layers(model: nn.Module, bits: Bits, *, device: torch.device | str) -> None:
    """Replace every linear layer of `model` by one of `bits`, and put the model on `device`.

    Weights are quantized as they arrive there, so the model should still be on the CPU. Products
    are computed in the precision that the weights had.

    Raises:
        UserError: bitsandbytes is not installed.
    """
    check_quantization()
    for name, layer in list(model.named_modules()):
        if type(layer) is nn.Linear and (bits == "8bit" or _fits_blocks(layer)):
            parent, _, child = name.rpartition(".")
            quantized = _quantized(layer, bits).to(device)
            quantized.train(layer.training)
            setattr(model.get_submodule(parent), child, quantized)
    model.to(device)


def check_quantization() -> None:
    """Refuse where bitsandbytes is missing.

    Raises:
        UserError: saying how to install it.
    """
    if find_spec("bitsandbytes") is None:
        raise UserError(
            "`quantize_base` needs bitsandbytes, which is not installed. Run "
            "`pip install 'orthodiff[bitsandbytes]'`, or leave it out."
        )


def _fits_blocks(layer: nn.Linear) -> bool:
    return layer.in_features % BLOCK == 0 and layer.out_features % BLOCK == 0


def _quantized(layer: nn.Linear, bits: Bits) -> nn.Module:
    import bitsandbytes

    kinds, weight = bitsandbytes.nn, layer.weight.data
    new: Any
    if bits == "4bit":
        new = kinds.Linear4bit(
            layer.in_features,
            layer.out_features,
            bias=layer.bias is not None,
            compute_dtype=weight.dtype,
            quant_type="nf4",
            device="meta",
        )
        new.weight = kinds.Params4bit(weight, requires_grad=False, quant_type="nf4", module=new)
    else:
        new = kinds.Linear8bitLt(
            layer.in_features,
            layer.out_features,
            bias=layer.bias is not None,
            has_fp16_weights=False,
            device="meta",
        )
        new.weight = kinds.Int8Params(weight, requires_grad=False, has_fp16_weights=False)
    if layer.bias is not None:
        new.bias = nn.Parameter(layer.bias.data, requires_grad=False)
    return new

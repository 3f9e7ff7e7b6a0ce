"""A whole Stable Diffusion 1.x model in one file, under the names of the original code (LDM)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from orthodiff.errors import UserError
from orthodiff.export.change import Contents, Request
from orthodiff.families import Base
from orthodiff.modelspec import modelspec

UNET_INNER = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
UNET_OUTER = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}
VAE_RULES = (
    (r"down_blocks\.(\d+)\.resnets\.", r"down.\1.block."),
    (r"down_blocks\.(\d+)\.downsamplers\.0\.", r"down.\1.downsample."),
    (r"up_blocks\.(\d+)\.resnets\.", r"up.\1.block."),
    (r"up_blocks\.(\d+)\.upsamplers\.0\.", r"up.\1.upsample."),
    (r"mid_block\.resnets\.0", "mid.block_1"),
    (r"mid_block\.resnets\.1", "mid.block_2"),
    (r"mid_block\.attentions\.0\.group_norm", "mid.attn_1.norm"),
    (r"mid_block\.attentions\.0\.to_([qkv])", r"mid.attn_1.\1"),
    (r"mid_block\.attentions\.0\.to_out\.0", "mid.attn_1.proj_out"),
    (r"conv_shortcut", "nin_shortcut"),
    (r"conv_norm_out", "norm_out"),
)


def single(request: Request) -> Contents:
    """Return the whole model with the adapter merged in.

    Raises:
        UserError: if only the adapted part is at hand, or for Stable Diffusion 2.x.
    """
    if request.base is None:
        raise UserError("A whole model needs the whole base. Give `base` as a folder or hub id.")
    request.adapter.merge()
    request.adapter.detach(merged=True)
    return Contents(whole_model(request.base), modelspec(request.base.unet, "", request.recipe))


def whole_model(base: Base) -> dict[str, Tensor]:
    """Return the weights of UNet, autoencoder and text encoder by LDM's names.

    Raises:
        UserError: for Stable Diffusion 2.x, whose text encoder the original code writes otherwise.
    """
    if base.text_encoder.config.hidden_act != "quick_gelu":
        raise UserError(
            "The single-file format is written for Stable Diffusion 1.x only, and this base has "
            "another text encoder. Merge into a folder instead."
        )
    text = {f"text_model.{k.removeprefix('text_model.')}": v for k, v in _state(base.text_encoder)}
    parts = {
        "model.diffusion_model.": _unet(base.unet),
        "first_stage_model.": _vae(base.vae),
        "cond_stage_model.transformer.": text,
    }
    return {
        f"{prefix}{name}": tensor.detach().contiguous()
        for prefix, tensors in parts.items()
        for name, tensor in tensors.items()
    }


def _state(module: Any) -> Iterator[tuple[str, Tensor]]:
    yield from module.state_dict().items()


def _unet(unet: Any) -> dict[str, Tensor]:
    """Number the blocks in the order in which they run."""
    names = UNET_OUTER | dict(_down(unet)) | dict(_up(unet))
    return {_renamed(key, names): tensor for key, tensor in _state(unet)}


def _down(unet: Any) -> Iterator[tuple[str, str]]:
    number = 1
    for i, block in enumerate(unet.down_blocks):
        for j in range(len(block.resnets)):
            yield f"down_blocks.{i}.resnets.{j}", f"input_blocks.{number}.0"
            yield f"down_blocks.{i}.attentions.{j}", f"input_blocks.{number}.1"
            number += 1
        if block.downsamplers:
            yield f"down_blocks.{i}.downsamplers.0.conv", f"input_blocks.{number}.0.op"
            number += 1


def _up(unet: Any) -> Iterator[tuple[str, str]]:
    number = 0
    for i, block in enumerate(unet.up_blocks):
        for j in range(len(block.resnets)):
            yield f"up_blocks.{i}.resnets.{j}", f"output_blocks.{number}.0"
            yield f"up_blocks.{i}.attentions.{j}", f"output_blocks.{number}.1"
            number += 1
        if block.upsamplers:
            place = 2 if getattr(block, "attentions", None) else 1
            yield f"up_blocks.{i}.upsamplers.0.conv", f"output_blocks.{number - 1}.{place}.conv"


def _renamed(key: str, names: Mapping[str, str]) -> str:
    outer = next(name for name in names if key.startswith(f"{name}."))
    inner = key.removeprefix(f"{outer}.")
    if ".resnets." in outer:
        first, _, rest = inner.partition(".")
        inner = f"{UNET_INNER[first]}.{rest}"
    return f"{names[outer]}.{inner}"


def _vae(vae: Any) -> dict[str, Tensor]:
    """Count the decoder's blocks from the picture's side; attention is a 1x1 convolution."""
    last = len(vae.decoder.up_blocks) - 1
    tensors = {}
    for key, tensor in _state(vae):
        name = key
        for pattern, replacement in VAE_RULES:
            name = re.sub(pattern, replacement, name)
        name = re.sub(r"(?<=decoder\.up\.)\d+", lambda match: str(last - int(match[0])), name)
        pointwise = ".mid.attn_1." in name and tensor.ndim == 2
        tensors[name] = tensor[..., None, None] if pointwise else tensor
    return tensors

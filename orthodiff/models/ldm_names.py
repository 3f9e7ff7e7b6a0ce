"""The names of the original code (LDM, later SGM), which single files and SDXL's LoRAs use."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

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
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
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
OPEN_CLIP_RULES = (
    (r"^text_model\.embeddings\.token_embedding\.", "token_embedding."),
    (r"^text_model\.embeddings\.position_embedding\.weight", "positional_embedding"),
    (r"^text_model\.final_layer_norm\.", "ln_final."),
    (r"^text_model\.encoder\.layers\.", "transformer.resblocks."),
    (r"^text_projection\.weight", "text_projection"),
    (r"\.layer_norm(\d)\.", r".ln_\1."),
    (r"\.mlp\.fc1\.", ".mlp.c_fc."),
    (r"\.mlp\.fc2\.", ".mlp.c_proj."),
    (r"\.self_attn\.out_proj\.", ".attn.out_proj."),
)


def text_name(name: str) -> str:
    """Return a text encoder's name of a layer as every version of transformers reads it."""
    whole = name.startswith(("text_model.", "text_projection"))
    return name if whole else f"text_model.{name}"


def unet_names(unet: Any) -> dict[str, str]:
    """Return the original code's name of every block; blocks are numbered as they run."""
    return UNET_OUTER | dict(_down(unet)) | dict(_up(unet))


def unet_name(key: str, names: Mapping[str, str]) -> str:
    """Return the original code's name of a parameter of the UNet."""
    outer = next(name for name in names if key.startswith(f"{name}."))
    inner = key.removeprefix(f"{outer}.")
    if ".resnets." in outer:
        first, _, rest = inner.partition(".")
        inner = f"{UNET_INNER[first]}.{rest}"
    return f"{names[outer]}.{inner}"


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


def unet_state(unet: Any) -> dict[str, Tensor]:
    """Return the UNet's weights by the original code's names."""
    names = unet_names(unet)
    return {unet_name(key, names): tensor for key, tensor in unet.state_dict().items()}


def vae_state(vae: Any) -> dict[str, Tensor]:
    """Return the autoencoder's: its decoder counts from the image, attention is 1x1 filters."""
    last = len(vae.decoder.up_blocks) - 1
    tensors = {}
    for key, tensor in vae.state_dict().items():
        name = _ruled(key, VAE_RULES)
        name = re.sub(r"(?<=decoder\.up\.)\d+", lambda match: str(last - int(match[0])), name)
        pointwise = ".mid.attn_1." in name and tensor.ndim == 2
        tensors[name] = tensor[..., None, None] if pointwise else tensor
    return tensors


def clip_state(text_encoder: Any) -> dict[str, Tensor]:
    """Return the weights of a text encoder of OpenAI's kind, which keeps transformers' names."""
    return {text_name(key): tensor for key, tensor in text_encoder.state_dict().items()}


def open_clip_state(text_encoder: Any) -> dict[str, Tensor]:
    """Return the weights of a text encoder as OpenCLIP keeps them: query, key and value as one."""
    state, tensors = clip_state(text_encoder), {}
    for key, tensor in state.items():
        name = _ruled(key, OPEN_CLIP_RULES)
        if ".q_proj." in key:
            joined = [state[key.replace(".q_proj.", f".{part}_proj.")] for part in "qkv"]
            tensors[name.replace(".self_attn.q_proj.", ".attn.in_proj_")] = torch.cat(joined)
        elif not re.search(r"\.[kv]_proj\.|position_ids", key):
            tensors[name] = tensor.T if key.startswith("text_projection") else tensor
    return tensors


def _ruled(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name

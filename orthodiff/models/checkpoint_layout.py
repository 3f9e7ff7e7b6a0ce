"""What a single checkpoint file holds, told from the shapes of its tensors.

Such files carry the names of the original code (LDM, SGM, OpenCLIP) and no configuration. What
shapes do not tell is the same in all models of a kind: heads of 64 numbers (8 heads in Stable
Diffusion 1.x), norms of 32 groups, the noise schedule.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Shapes = Mapping[str, tuple[int, ...]]
UNET, VAE = "model.diffusion_model.", "first_stage_model."
SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}


@dataclass(frozen=True)
class CheckpointLayout:
    """One kind of file: its text encoders by name, each with the prefix of its tensors."""

    pipeline: str
    scheduler: str
    resolution: int
    texts: Mapping[str, str]
    scaling_factor: float = 0.18215
    noise: Mapping[str, Any] = field(default_factory=dict)
    unet: Mapping[str, Any] = field(default_factory=dict)
    index: Mapping[str, Any] = field(default_factory=dict)


LAYOUTS = {
    768: CheckpointLayout(
        "StableDiffusionPipeline",
        "PNDMScheduler",
        512,
        {"text_encoder": "cond_stage_model.transformer."},
        noise={"skip_prk_steps": True, "set_alpha_to_one": False},
        unet={"attention_head_dim": 8},
        index={"requires_safety_checker": False},
    ),
    1024: CheckpointLayout(
        "StableDiffusionPipeline",
        "DDIMScheduler",
        768,
        {"text_encoder": "cond_stage_model.model."},
        noise={"set_alpha_to_one": False, "clip_sample": False},
        unet={"upcast_attention": True},
        index={"requires_safety_checker": False},
    ),
    2048: CheckpointLayout(
        "StableDiffusionXLPipeline",
        "EulerDiscreteScheduler",
        1024,
        {
            "text_encoder": "conditioner.embedders.0.transformer.",
            "text_encoder_2": "conditioner.embedders.1.model.",
        },
        scaling_factor=0.13025,
        unet={"addition_embed_type": "text_time", "addition_time_embed_dim": 256},
        index={"force_zeros_for_empty_prompt": True},
    ),
}
"""By the width of the text that the UNet reads: Stable Diffusion 1.x, 2.x and XL."""


def text_width(shapes: Shapes) -> int | None:
    """The width of the text that the UNet reads, or None where the file holds no such UNet."""
    keys = (key for key in shapes if key.startswith(UNET) and key.endswith("attn2.to_k.weight"))
    key = next(keys, None)
    return shapes[key][1] if key else None


def unet_config(layout: CheckpointLayout, shapes: Shapes, *, resolution: int) -> dict[str, Any]:
    """The configuration of diffusers' UNet2DConditionModel."""
    own = _below(shapes, UNET)
    levels = _levels(own)
    channels = [own[f"input_blocks.{level[0]}.0.out_layers.3.weight"][0] for level in levels]
    depths = [_count(own, rf"input_blocks\.{level[0]}\.1\.transformer_blocks") for level in levels]
    middle = _count(own, r"middle_block\.1\.transformer_blocks")
    proj_in = next(shape for key, shape in own.items() if key.endswith("1.proj_in.weight"))
    projection = own.get("label_emb.0.0.weight")
    return {
        "sample_size": resolution // 2 ** (len(_autoencoder_channels(shapes)) - 1),
        "in_channels": own["input_blocks.0.0.weight"][1],
        "out_channels": own["out.2.weight"][0],
        "block_out_channels": channels,
        "layers_per_block": len(levels[0]),
        "down_block_types": ["CrossAttnDownBlock2D" if d else "DownBlock2D" for d in depths],
        "up_block_types": ["CrossAttnUpBlock2D" if d else "UpBlock2D" for d in depths[::-1]],
        "transformer_layers_per_block": [*(d or 1 for d in depths[:-1]), depths[-1] or middle],
        "cross_attention_dim": text_width(shapes),
        "attention_head_dim": [max(width // 64, 1) for width in channels],
        "use_linear_projection": len(proj_in) == 2,
        "projection_class_embeddings_input_dim": projection[1] if projection else None,
        **layout.unet,
    }


def vae_config(layout: CheckpointLayout, shapes: Shapes, *, resolution: int) -> dict[str, Any]:
    """The configuration of diffusers' AutoencoderKL."""
    own, channels = _below(shapes, VAE), _autoencoder_channels(shapes)
    return {
        "block_out_channels": channels,
        "down_block_types": ["DownEncoderBlock2D"] * len(channels),
        "up_block_types": ["UpDecoderBlock2D"] * len(channels),
        "layers_per_block": _count(own, r"encoder\.down\.0\.block"),
        "latent_channels": own["decoder.conv_in.weight"][1],
        "sample_size": resolution,
        "scaling_factor": layout.scaling_factor,
    }


def text_config(shapes: Shapes, prefix: str) -> dict[str, Any]:
    """The configuration of transformers' CLIP text model, from OpenAI's or OpenCLIP's names."""
    own = _below(shapes, prefix)
    is_open = "positional_embedding" in own
    embedding = "" if is_open else "text_model.embeddings."
    inner = "transformer.resblocks" if is_open else "text_model.encoder.layers"
    words, width = own[f"{embedding}token_embedding.weight"]
    length = own["positional_embedding" if is_open else f"{embedding}position_embedding.weight"][0]
    projection = own.get("text_projection" if is_open else "text_projection.weight")
    layers = _count(own, re.escape(inner))
    # Stable Diffusion 2 reads the last layer but one of a whole OpenCLIP.
    unused = is_open and projection is not None and prefix.startswith("cond_stage_model")
    return {
        "vocab_size": words,
        "hidden_size": width,
        "max_position_embeddings": length,
        "num_hidden_layers": layers - unused,
        "num_attention_heads": max(width // 64, 1),
        "intermediate_size": own[f"{inner}.0.mlp.{'c_fc' if is_open else 'fc1'}.weight"][0],
        "hidden_act": "gelu" if is_open else "quick_gelu",
        "projection_dim": projection[1] if projection else width,
    }


def noise_config(layout: CheckpointLayout, shapes: Shapes, *, prediction: str) -> dict[str, Any]:
    """The configuration of the scheduler; `ztsnr` marks a schedule that ends without signal."""
    config = {**SCHEDULE, **layout.noise, "prediction_type": prediction}
    if f"{UNET}ztsnr" in shapes or "ztsnr" in shapes:
        config |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    return config


def _below(shapes: Shapes, prefix: str) -> Shapes:
    return {k.removeprefix(prefix): shape for k, shape in shapes.items() if k.startswith(prefix)}


def _levels(unet: Shapes) -> list[list[int]]:
    """The numbers of the input blocks that hold a residual block, by level of resolution."""
    levels: list[list[int]] = [[]]
    for number in range(1, _count(unet, "input_blocks")):
        if f"input_blocks.{number}.0.op.weight" in unet:
            levels.append([])
        else:
            levels[-1].append(number)
    return levels


def _autoencoder_channels(shapes: Shapes) -> list[int]:
    own = _below(shapes, VAE)
    count = _count(own, r"encoder\.down")
    return [own[f"encoder.down.{level}.block.0.conv2.weight"][0] for level in range(count)]


def _count(shapes: Shapes, pattern: str) -> int:
    """How many different numbers follow `pattern` in the names."""
    matches = (re.match(rf"{pattern}\.(\d+)\.", key) for key in shapes)
    return len({match[1] for match in matches if match})

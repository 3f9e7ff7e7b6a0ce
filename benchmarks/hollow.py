"""Stable Diffusion 1.5 and XL in their real sizes without their weights: bases to count on.

Every part has the real layers, made of memory that was never written and so takes none. They are
loaded like any other base, from a folder that says only what they are (`write_folder`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from orthodiff.io.assets import shipped
from orthodiff.models import Base, StableDiffusion, StableDiffusionXL, register_base
from orthodiff.models.text_encoder import TextEncoder, open_tokenizer

CLIP_L = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "projection_dim": 768,
}
CLIP_BIG_G = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "hidden_act": "gelu",
    "projection_dim": 1280,
}
UNET_SD15 = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}
UNET_SDXL = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
}


class HollowSD15(StableDiffusion):
    """Stable Diffusion 1.5 without weights."""

    family = "hollow-sd"
    pipelines = ("HollowSD15Pipeline",)
    unet_config: ClassVar[Mapping[str, Any]] = UNET_SD15
    vae_config: ClassVar[Mapping[str, Any]] = {**VAE, "scaling_factor": 0.18215}
    text_configs: ClassVar[Mapping[str, Mapping[str, Any]]] = {"text_encoder": CLIP_L}

    @classmethod
    def load(
        cls, folder: Path, *, name: str, variant: str | None, dtype: torch.dtype, device: str
    ) -> Base:
        """Make the parts in their sizes."""
        from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

        parts = (cls.unet_config, dtype), (cls.vae_config, torch.float32)
        unet, vae = (
            hollow(lambda k=kind, c=config: k(**c), of)  # type: ignore[misc]
            for kind, (config, of) in zip((UNet2DConditionModel, AutoencoderKL), parts, strict=True)
        )
        return cls.assemble(
            folder,
            {"force_zeros_for_empty_prompt": len(cls.text_configs) > 1},
            name=name,
            denoiser=unet,
            vae=vae,
            texts=[_text(part, config, dtype) for part, config in cls.text_configs.items()],
            scheduler=DDIMScheduler(clip_sample=False, steps_offset=1),
            device=device,
        )


class HollowSDXL(HollowSD15, StableDiffusionXL):
    """Stable Diffusion XL without weights."""

    family = "hollow-sdxl"
    pipelines = ("HollowSDXLPipeline",)
    unet_config = UNET_SDXL
    vae_config: ClassVar[Mapping[str, Any]] = {**VAE, "scaling_factor": 0.13025}
    text_configs: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "text_encoder": CLIP_L,
        "text_encoder_2": CLIP_BIG_G,
    }


HOLLOW: dict[str, type[HollowSD15]] = {"sd15": HollowSD15, "sdxl": HollowSDXL}


def write_folder(kind: str, folder: Path) -> Path:
    """A folder that `load_base` opens as the hollow base `kind`."""
    family = HOLLOW[kind]
    folder.mkdir(parents=True, exist_ok=True)
    index = {"_class_name": family.pipelines[0]}
    (folder / "model_index.json").write_text(json.dumps(index), "utf-8")
    for part in ("unet", "vae", *family.text_configs):  # whose files tell caches apart
        (folder / part).mkdir(exist_ok=True)
        (folder / part / "model.safetensors").write_bytes(b"hollow")
    return folder


def register() -> None:
    """Let `load_base` know the hollow families."""
    for family in HOLLOW.values():
        register_base(family)


def hollow(make: Any, dtype: torch.dtype) -> Any:
    """What `make` builds, in `dtype`, in memory that is never written."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device("meta"):
            part: nn.Module = make()
        return part.to_empty(device="cpu")
    finally:
        torch.set_default_dtype(default)


def _text(part: str, config: Mapping[str, Any], dtype: torch.dtype) -> TextEncoder:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    kind: Any = CLIPTextModel if part == "text_encoder" else CLIPTextModelWithProjection
    whole = CLIPTextConfig(vocab_size=49408, max_position_embeddings=77, **config)
    tokenizer = open_tokenizer(shipped("pocket") / "tokenizer")
    tokenizer.model_max_length = 77
    return TextEncoder(part, hollow(lambda: kind(whole), dtype), tokenizer)

"""A tiny random SD3-like base: a diffusion transformer, flow matching, a family of its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel
from torch import Tensor
from transformers import CLIPTextModelWithProjection

from orthodiff.models import Base, Conditioning, Recommended
from orthodiff.models.sd import StableDiffusion
from orthodiff.models.text_encoder import TextEncoder, open_tokenizer
from tests.tiny import TINY_TEXT, TINY_VAE, _text_config, byte_tokenizer

SHIFT = 0.25


class TinyFlow(StableDiffusion):
    """The latents and text of Stable Diffusion with SD3's transformer and objective."""

    family = "tiny-flow"
    pipelines = ("TinyFlowPipeline",)
    denoiser_folder = "transformer"

    @classmethod
    def load(
        cls, folder: Path, *, name: str, variant: str | None, dtype: torch.dtype, device: str
    ) -> Base:
        text = CLIPTextModelWithProjection.from_pretrained(folder / "text_encoder", dtype=dtype)
        denoiser = SD3Transformer2DModel.from_pretrained(folder / "transformer", torch_dtype=dtype)
        vae = AutoencoderKL.from_pretrained(folder / "vae")
        for part in (text, denoiser, vae):
            part.to(device).eval().requires_grad_(False)
        return cls(
            name=name,
            folder=folder,
            denoiser=denoiser,
            vae=vae,
            texts=(TextEncoder("text_encoder", text, open_tokenizer(folder / "tokenizer")),),
            scheduler=FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler"),
            recommended=Recommended(2.0, 3, 32),
        )

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        features = self.texts[0].encode_prompts(prompts)
        return Conditioning(features.penultimate, pooled=features.pooled)

    def predict(self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        return self.denoiser(
            hidden_states=noisy,
            timestep=timesteps.expand(len(noisy)),
            encoder_hidden_states=conditioning.hidden,
            pooled_projections=conditioning.pooled,
        ).sample


def make_tiny_flow(folder: Path) -> Path:
    """Write the folder."""
    torch.manual_seed(0)
    tokenizer = byte_tokenizer(length=32)
    tokenizer.save_pretrained(folder / "tokenizer")
    text = CLIPTextModelWithProjection(_text_config(tokenizer, TINY_TEXT))
    text.save_pretrained(folder / "text_encoder")
    AutoencoderKL(**TINY_VAE, shift_factor=SHIFT, scaling_factor=1.5).save_pretrained(
        folder / "vae"
    )
    SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=32,
        caption_projection_dim=32,
        pooled_projection_dim=16,
        pos_embed_max_size=16,
    ).save_pretrained(folder / "transformer")
    FlowMatchEulerDiscreteScheduler(shift=3.0).save_pretrained(folder / "scheduler")
    index = {"_class_name": "TinyFlowPipeline"}
    (folder / "model_index.json").write_text(json.dumps(index), "utf-8")
    return folder

"""A tiny Stable Diffusion folder with random weights: real parts, made in about a second.

`python -m tests.tiny OUT` writes it; `--xl` writes a tiny Stable Diffusion XL, `--sd15` Stable
Diffusion 1.5's sizes (about 4 GB of random weights), `--prediction_type v_prediction` another
objective.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch

TINY_UNET = {
    "sample_size": 8,
    "block_out_channels": (16, 32),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "attention_head_dim": 8,
    "cross_attention_dim": 32,
}
TINY_VAE = {
    "block_out_channels": (8, 8, 8),
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "latent_channels": 4,
    "sample_size": 32,
}
SD15_UNET = {"sample_size": 64, "cross_attention_dim": 768}
SD15_VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 512,
}
TINY_TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
SD15_TEXT = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12}
SPECIAL = ("<|startoftext|>", "<|endoftext|>")


def make_tiny(folder: Path, *, prediction_type: str = "epsilon", sd15: bool = False) -> Path:
    """Write a StableDiffusionPipeline folder, with a CLIP `scorer/` in the tiny one."""
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextModel

    torch.manual_seed(0)
    tokenizer = byte_tokenizer(length=77 if sd15 else 32)
    text = CLIPTextModel(_text_config(tokenizer, SD15_TEXT if sd15 else TINY_TEXT))
    unet = SD15_UNET if sd15 else TINY_UNET
    StableDiffusionPipeline(
        vae=AutoencoderKL(**(SD15_VAE if sd15 else TINY_VAE)),
        text_encoder=text,
        tokenizer=tokenizer,
        unet=UNet2DConditionModel(**unet),
        scheduler=DDIMScheduler(
            beta_schedule="scaled_linear",
            beta_start=0.00085,
            beta_end=0.012,
            clip_sample=False,
            prediction_type=prediction_type,
            steps_offset=1,
            timestep_spacing="trailing",
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    if not sd15:
        make_scorer(folder / "scorer", tokenizer=tokenizer)
        advice = {"guidance_scale": 2.0, "num_inference_steps": 3, "resolution": 32}
        (folder / "generation_config.json").write_text(json.dumps(advice), "utf-8")
    return folder


def make_tiny_xl(folder: Path) -> Path:
    """Write a StableDiffusionXLPipeline folder: two text encoders, sizes told to the UNet."""
    from diffusers import (
        AutoencoderKL,
        EulerDiscreteScheduler,
        StableDiffusionXLPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(0)
    tokenizer = byte_tokenizer(length=32)
    tokenizer_2 = byte_tokenizer(length=32)
    tokenizer_2.pad_token = "!"
    wide = {**TINY_TEXT, "hidden_size": 48}
    StableDiffusionXLPipeline(
        vae=AutoencoderKL(**TINY_VAE, force_upcast=True),
        text_encoder=CLIPTextModel(_text_config(tokenizer, TINY_TEXT)),
        text_encoder_2=CLIPTextModelWithProjection(_text_config(tokenizer_2, wide)),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer_2,
        unet=UNet2DConditionModel(
            **{
                **TINY_UNET,
                "cross_attention_dim": 32 + 48,
                "transformer_layers_per_block": (1, 2),
                "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
                "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
                "use_linear_projection": True,
                "addition_embed_type": "text_time",
                "addition_time_embed_dim": 8,
                "projection_class_embeddings_input_dim": 6 * 8 + 16,
            }
        ),
        scheduler=EulerDiscreteScheduler(
            beta_schedule="scaled_linear",
            beta_start=0.00085,
            beta_end=0.012,
            steps_offset=1,
            timestep_spacing="leading",
        ),
    ).save_pretrained(folder)
    return folder


def with_scheduler(folder: Path, copy: Path, **changes: object) -> Path:
    """Copy `folder` with other settings in its scheduler."""
    shutil.copytree(folder, copy)
    path = copy / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **changes}), "utf-8")
    return copy


def with_prediction(folder: Path, copy: Path, prediction_type: str) -> Path:
    """Copy `folder` with another objective in its scheduler."""
    return with_scheduler(folder, copy, prediction_type=prediction_type)


def make_scorer(folder: Path, *, tokenizer) -> Path:
    """Write a random CLIPModel with its image processor and tokenizer."""
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPVisionConfig

    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=32,
        patch_size=8,
    )
    text = _text_config(tokenizer, TINY_TEXT)
    config = CLIPConfig(
        text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=16
    )
    CLIPModel(config).save_pretrained(folder)
    size = {"height": 32, "width": 32}
    CLIPImageProcessorPil(size=size, crop_size=size, do_center_crop=False).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def byte_tokenizer(*, length: int):
    """A CLIPTokenizer whose words are their bytes: nothing is unknown to it."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    letters = sorted(ByteLevel.alphabet())
    words = [*SPECIAL, *letters, *(letter + "</w>" for letter in letters)]
    vocabulary = {word: number for number, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=length)


def _text_config(tokenizer, sizes: dict):
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        num_attention_heads=max(sizes["hidden_size"] // 64, 4),
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        projection_dim=16,
        **sizes,
    )


def write_depth_model(folder: Path, *, seed: int = 0) -> Path:
    """A transformers depth model and its image processor, with random weights."""
    from transformers import GLPNConfig, GLPNForDepthEstimation, GLPNImageProcessor

    torch.manual_seed(seed)
    config = GLPNConfig(
        num_encoder_blocks=4, depths=[1] * 4, hidden_sizes=[8, 8, 16, 16],
        num_attention_heads=[1, 1, 2, 2], decoder_hidden_size=8,
    )  # fmt: skip
    GLPNForDepthEstimation(config).save_pretrained(folder)
    GLPNImageProcessor().save_pretrained(folder)
    return folder


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--xl", action="store_true", help="a tiny Stable Diffusion XL")
    parser.add_argument("--sd15", action="store_true", help="Stable Diffusion 1.5's sizes")
    parser.add_argument("--prediction_type", default="epsilon")
    arguments = parser.parse_args()
    if arguments.xl:
        made = make_tiny_xl(arguments.folder)
    else:
        made = make_tiny(
            arguments.folder, prediction_type=arguments.prediction_type, sd15=arguments.sd15
        )
    print(made)

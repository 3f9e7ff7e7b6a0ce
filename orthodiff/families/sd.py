"""Stable Diffusion 1.x and 2.x, and every small model of the same architecture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from orthodiff.errors import UserError
from orthodiff.families.base import Base, on_device, read_recommended
from orthodiff.families.conditioning import Conditioning

_REMEMBERED_PROMPTS = 512
_UNUSABLE = (
    OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError,
)  # fmt: skip
"""What the libraries raise for a folder with missing, damaged or foreign files."""


class StableDiffusion(Base):
    """One CLIP text encoder, one KL autoencoder (always float32), one UNet with cross-attention."""

    family = "sd"
    pipelines = ("StableDiffusionPipeline",)

    @classmethod
    def load(
        cls, folder: Path, *, name: str, variant: str | None, dtype: torch.dtype, device: str
    ) -> Base:
        import diffusers
        from transformers import CLIPTextModel, CLIPTokenizer

        index = json.loads((folder / "model_index.json").read_text("utf-8"))
        options: dict[str, Any] = {"variant": variant, "use_safetensors": True}
        try:
            scheduler = getattr(diffusers, index["scheduler"][1])
            unet = diffusers.UNet2DConditionModel.from_pretrained(
                folder / "unet", torch_dtype=dtype, **options
            )
            vae = diffusers.AutoencoderKL.from_pretrained(
                folder / "vae", torch_dtype=torch.float32, **options
            )
            text_encoder: Any = CLIPTextModel.from_pretrained(
                folder / "text_encoder", dtype=dtype, **options
            )
            tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
            noise = _for_latents(scheduler.from_pretrained(folder / "scheduler"))
        except _UNUSABLE as error:
            raise UserError(
                f"The base model `{name}` is incomplete ({_first_line(error)}). Use a whole "
                "diffusers-format folder with safetensors weights."
            ) from error
        _check_text_to_image(name, unet, vae)
        base = cls(
            name=name,
            folder=folder,
            unet=unet.to(device).eval(),
            vae=vae.to(device).eval().requires_grad_(False),
            text_encoder=text_encoder.to(device).eval().requires_grad_(False),
            tokenizer=tokenizer,
            scheduler=noise,
            recommended=read_recommended(folder, native_resolution=_native(unet, vae)),
        )
        base.unet.requires_grad_(False)
        return base

    @torch.no_grad()
    def embed(self, prompt: str) -> Conditioning:
        if prompt not in self.prompts:
            if len(self.prompts) >= _REMEMBERED_PROMPTS:
                self.prompts.pop(next(iter(self.prompts)))
            self.prompts[prompt] = Conditioning(self._embed(prompt))
        return self.prompts[prompt].to(self.device)

    def _embed(self, prompt: str) -> Tensor:
        tokens = self.tokenizer(
            prompt,
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        wants_mask = getattr(self.text_encoder.config, "use_attention_mask", False)
        with on_device(self.text_encoder, self.device):
            mask = tokens.attention_mask.to(self.device) if wants_mask else None
            return self.text_encoder(tokens.input_ids.to(self.device), attention_mask=mask)[0]

    @torch.no_grad()
    def encode(self, picture: Tensor) -> Tensor:
        with on_device(self.vae, self.device):
            posterior = self.vae.encode(picture[None].to(self.device, self.vae.dtype)).latent_dist
        mean = (posterior.mean - self._shift) * self.vae.config.scaling_factor
        return torch.stack([mean[0], posterior.std[0] * self.vae.config.scaling_factor])

    @torch.no_grad()
    def decode(self, latent: Tensor) -> Tensor:
        latent = latent.to(self.vae.dtype) / self.vae.config.scaling_factor + self._shift
        with on_device(self.vae, self.device):
            return self.vae.decode(latent[None].to(self.device)).sample[0].clamp(-1, 1)

    def predict(self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        return self.unet(noisy, timesteps, encoder_hidden_states=conditioning.hidden).sample

    @property
    def factor(self) -> int:
        return _factor(self.vae)

    @property
    def _shift(self) -> float:
        return self.vae.config.shift_factor or 0.0


def _for_latents(scheduler: Any) -> Any:
    """Correct what old configurations leave unsaid, as diffusers' own pipeline does.

    Clipping to [-1, 1] is for pictures and would ruin latents.
    """
    changes: dict[str, Any] = {}
    if scheduler.config.get("clip_sample"):
        changes["clip_sample"] = False
    if scheduler.config.get("steps_offset", 1) != 1:
        changes["steps_offset"] = 1
    return type(scheduler).from_config(scheduler.config, **changes) if changes else scheduler


def _factor(vae: Any) -> int:
    return 2 ** (len(vae.config.block_out_channels) - 1)


def _native(unet: Any, vae: Any) -> int:
    return int(unet.config.sample_size) * _factor(vae)


def _check_text_to_image(name: str, unet: Any, vae: Any) -> None:
    """Inpainting and depth models take more channels than a latent has.

    Raises:
        UserError: the UNet's input is not one latent.
    """
    if unet.config.in_channels != vae.config.latent_channels:
        raise UserError(
            f"The base model `{name}` has a UNet with {unet.config.in_channels} input channels "
            f"where a latent has {vae.config.latent_channels}: it is made for inpainting or "
            "another guided task, which is not supported. Use its text-to-image sibling."
        )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")

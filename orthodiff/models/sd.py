"""Stable Diffusion 1.x and 2.x, and every small model of the same architecture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from orthodiff.errors import UNUSABLE, UserError, first_line
from orthodiff.models.base import Base, read_recommended
from orthodiff.models.conditioning import Conditioning
from orthodiff.models.text_encoder import TextEncoder, open_tokenizer


class StableDiffusion(Base):
    """One CLIP text encoder, one KL autoencoder (always float32), one UNet with cross-attention."""

    family = "sd"
    pipelines = ("StableDiffusionPipeline",)
    encoders: ClassVar[dict[str, str]] = {"text_encoder": "tokenizer"}
    """The folders of the text encoders, each with its tokenizer's."""

    @classmethod
    def load(
        cls, folder: Path, *, name: str, variant: str | None, dtype: torch.dtype, device: str
    ) -> Base:
        import diffusers

        index = json.loads((folder / "model_index.json").read_text("utf-8"))
        options: dict[str, Any] = {"variant": variant, "use_safetensors": True}
        try:
            _, named = index["scheduler"]
            scheduler = getattr(diffusers, named)
            unet = diffusers.UNet2DConditionModel.from_pretrained(
                folder / "unet", torch_dtype=dtype, **options
            )
            vae = diffusers.AutoencoderKL.from_pretrained(
                folder / "vae", torch_dtype=torch.float32, **options
            )
            texts = [
                _text_encoder(folder, part, tokenizer, dtype=dtype, options=options)
                for part, tokenizer in cls.encoders.items()
            ]
            noise = scheduler.from_pretrained(folder / "scheduler")
        except UNUSABLE as error:
            raise UserError(
                f"The base model `{name}` is incomplete ({first_line(error)}). Use a whole "
                "diffusers-format folder with safetensors weights."
            ) from error
        return cls.assemble(
            folder,
            index,
            name=name,
            denoiser=unet,
            vae=vae,
            texts=texts,
            scheduler=noise,
            device=device,
        )

    @classmethod
    def assemble(
        cls,
        folder: Path,
        index: Mapping[str, Any],
        *,
        name: str,
        denoiser: Any,
        vae: Any,
        texts: Sequence[TextEncoder],
        scheduler: Any,
        device: str,
    ) -> Base:
        """Freeze loaded parts and put them on `device`; `index` is the pipeline's.

        Raises:
            UserError: the UNet does not take one latent.
        """
        _check_text_to_image(name, denoiser, vae)
        for part in (denoiser, vae, *(text.model for text in texts)):
            part.to(device).eval().requires_grad_(False)
        return cls(
            name=name,
            folder=folder,
            denoiser=denoiser,
            vae=vae,
            texts=tuple(texts),
            scheduler=_for_latents(scheduler),
            recommended=read_recommended(folder, native_resolution=_native(denoiser, vae)),
            force_zeros_for_empty_prompt=bool(index.get("force_zeros_for_empty_prompt", False)),
        )

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        return Conditioning(self.texts[0].encode_prompts(prompts).last)

    @torch.no_grad()
    def encode(self, image: Tensor) -> Tensor:
        with self.lending.lend([self.vae], self.device):
            posterior = self.vae.encode(image[None].to(self.device, self.vae.dtype)).latent_dist
        mean = (posterior.mean - self._shift) * self.vae.config.scaling_factor
        return torch.stack([mean[0], posterior.std[0] * self.vae.config.scaling_factor])

    def decode(self, latent: Tensor) -> Tensor:
        return self.decode_batch(latent[None])[0]

    @torch.no_grad()
    def decode_batch(self, latents: Tensor) -> Tensor:
        latents = latents.to(self.vae.dtype) / self.vae.config.scaling_factor + self._shift
        with self.lending.lend([self.vae], self.device):
            return self.vae.decode(latents.to(self.device)).sample.clamp(-1, 1)

    def predict(self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        return self.denoiser(noisy, timesteps, encoder_hidden_states=conditioning.hidden).sample

    @property
    def factor(self) -> int:
        return _factor(self.vae)

    @property
    def _shift(self) -> float:
        return self.vae.config.shift_factor or 0.0


def _text_encoder(
    folder: Path, part: str, tokenizer: str, *, dtype: torch.dtype, options: Mapping[str, Any]
) -> TextEncoder:
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    kind: Any = CLIPTextModel if part == "text_encoder" else CLIPTextModelWithProjection
    model = kind.from_pretrained(folder / part, dtype=dtype, **options)
    return TextEncoder(part, model, open_tokenizer(folder / tokenizer))


def _for_latents(scheduler: Any) -> Any:
    """Correct what old configurations leave unsaid, as diffusers' own pipeline does.

    Clipping to [-1, 1] is for images and would ruin latents.
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

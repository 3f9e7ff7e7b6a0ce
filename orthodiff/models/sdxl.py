"""Stable Diffusion XL (arXiv:2307.01952) and every small model of its architecture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from orthodiff.models.conditioning import Conditioning
from orthodiff.models.sd import StableDiffusion
from orthodiff.models.text_encoder import TextEncoder


class StableDiffusionXL(StableDiffusion):
    """Two CLIP text encoders side by side; the UNet also takes a pooled prompt and sizes."""

    family = "sdxl"
    pipelines = ("StableDiffusionXLPipeline",)
    encoders: ClassVar[dict[str, str]] = {
        "text_encoder": "tokenizer",
        "text_encoder_2": "tokenizer_2",
    }

    @property
    def text_encoder_2(self) -> Any:
        return self.texts[1].model

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        """The last but one layer of both encoders, and what the second sums up.

        The sizes are those of an image of the base's own resolution; `sized` gives others.
        """
        features = [text.encode_prompts(prompts) for text in self.texts]
        hidden = torch.cat([each.penultimate for each in features], dim=-1)
        return Conditioning(
            hidden,
            pooled=features[1].pooled,
            time_ids=torch.zeros(len(prompts), 6, device=hidden.device),
        ).sized((self.recommended.resolution, self.recommended.resolution))

    def layers_used(self, text: TextEncoder) -> int:
        """The last layer of the first encoder is never read; that of the second sums up."""
        return super().layers_used(text) - (text is self.texts[0])

    def predict(self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        added = {"text_embeds": conditioning.pooled, "time_ids": conditioning.time_ids}
        return self.denoiser(
            noisy,
            timesteps,
            encoder_hidden_states=conditioning.hidden,
            added_cond_kwargs=added,
        ).sample

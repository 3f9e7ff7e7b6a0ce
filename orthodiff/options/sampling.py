"""Options that every command that generates images shares, and what they lead to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from orthodiff.components.adapter_set import AdapterSet
from orthodiff.components.compose import load_all
from orthodiff.devices import DTYPES, check_device, default_device, default_dtype
from orthodiff.errors import UserError
from orthodiff.models import Base, load_base
from orthodiff.models.offload import Offload
from orthodiff.models.quantize import Bits
from orthodiff.sampling import GenerateRequest


class SamplingOptions(BaseModel):
    """What every command that generates images needs."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    pretrained_model_name_or_path: str = Field(
        description="base model: folder in diffusers format, hub id, .safetensors file, or pocket"
    )
    revision: str | None = Field(None, description="revision of the base model on the hub")
    variant: str | None = Field(None, description="variant of the base's weight files, e.g. fp16")
    strength: float = Field(1.0, description="0: base, 1: adapter as trained, beyond: more of it")
    merge: bool = Field(False, description="merge the adapter into the weights first")
    num_inference_steps: int | None = Field(
        None, ge=1, description="denoising steps [the base's advice]"
    )
    guidance_scale: float | None = Field(
        None, ge=0, description="classifier-free guidance [the base's advice]"
    )
    negative_prompt: str = Field("", description="what the images should not show")
    max_prompt_tokens: int | None = Field(
        None, ge=1, description="tokens of a prompt that are read, in chunks [one chunk, often 75]"
    )
    width: int | None = Field(None, ge=8, description="width in pixels [the base's own]")
    height: int | None = Field(None, ge=8, description="height in pixels [the base's own]")
    seed: int = Field(
        0, ge=0, lt=2**63, description="seed of the first image; the next has seed + 1"
    )
    batch_size: int = Field(4, ge=1, description="images made at once")
    dtype: Literal["fp32", "fp16", "bf16"] | None = Field(
        None, description="precision [fp32 on a CPU, fp16 on a GPU]"
    )
    offload: Offload = Field(
        "none",
        description="none, model or sequential: parts, or layers, lie on the CPU until they work",
    )
    quantize_base: Bits | None = Field(
        None, description="4bit or 8bit: packs the denoiser's linear layers, by bitsandbytes"
    )
    device: str | None = Field(None, description="cpu, cuda, ... [a GPU if there is one]")

    def open_base(self) -> Base:
        """Load the base.

        Raises:
            UserError: it cannot be found or is not supported, or there is no such device.
        """
        device = self.device or default_device()
        check_device(device)
        base = load_base(
            self.pretrained_model_name_or_path,
            revision=self.revision,
            variant=self.variant,
            dtype=DTYPES[self.dtype] if self.dtype else default_dtype(device),
            device=device,
            offload=self.offload,
            quantize=self.quantize_base,
        )
        if self.max_prompt_tokens:
            base.set_max_prompt_tokens(self.max_prompt_tokens)
        return base

    def request(self, prompts: Sequence[str], *, num_images: int) -> GenerateRequest:
        """These options for `num_images` images of each prompt."""
        return GenerateRequest.grid(
            prompts,
            num_images=num_images,
            seed=self.seed,
            negative_prompt=self.negative_prompt,
            num_inference_steps=self.num_inference_steps,
            guidance_scale=self.guidance_scale,
            width=self.width,
            height=self.height,
            batch_size=self.batch_size,
        )

    def notes(self, request: GenerateRequest) -> list[str]:
        """What of these options is without effect on a `request` that they led to, resolved."""
        if self.negative_prompt and not request.guided:
            return [
                f"The negative prompt has no effect: guidance of {request.guidance_scale:g} is "
                "off. It is on above 1."
            ]
        return []

    def attach(self, base: Base, folders: Sequence[Path]) -> AdapterSet | None:
        """Put what `folders` hold on the base, in this order, at this strength, merged if asked.

        Raises:
            UserError: one is no adapter, does not fit this base, or cannot have this strength.
        """
        asked = "merge" if self.merge else "strength" if self.strength != 1 else None
        if not folders:
            if asked:
                raise UserError(f"`{asked}` needs an adapter. Add --adapter FOLDER.")
            return None
        adapter_set = load_all(base, folders, strength=self.strength)
        if asked and not adapter_set.adapters:
            adapter_set.detach()
            parts = ", ".join(adapter_set.components)
            raise UserError(
                f"`{asked}` is about changed weights, but `{folders[0]}` holds none, only {parts}. "
                "Leave it out; --control_strength says how much a control image counts."
            )
        if self.merge:
            adapter_set.merge()
        return adapter_set

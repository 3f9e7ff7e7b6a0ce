"""Options that every command that makes pictures shares, and what they lead to."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from tqdm import tqdm

from orthodiff.cli.gc import uncollected
from orthodiff.components.adapter_set import AdapterSet
from orthodiff.components.compose import load_all
from orthodiff.errors import UserError
from orthodiff.models import Base, load_base
from orthodiff.sampling import GenerateRequest

REMARKS = ("transformers.utils.import_utils", "bitsandbytes.backends.cpu.ops")
"""Who remarks that torchvision is missing, and kernels of 4-bit products on a CPU."""
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class Options(BaseModel):
    """What every command that makes pictures needs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

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
    negative_prompt: str = Field("", description="what the pictures should not show")
    width: int | None = Field(None, ge=8, description="width in pixels [the base's own]")
    height: int | None = Field(None, ge=8, description="height in pixels [the base's own]")
    seed: int = Field(
        0, ge=0, lt=2**63, description="seed of the first picture; the next has seed + 1"
    )
    batch_size: int = Field(4, ge=1, description="pictures made at once")
    dtype: Literal["fp32", "fp16", "bf16"] | None = Field(
        None, description="precision [fp32 on a CPU, fp16 on a GPU]"
    )
    device: str | None = Field(None, description="cpu, cuda, ... [a GPU if there is one]")

    def open_base(self) -> Base:
        """Load the base.

        Raises:
            UserError: it cannot be found or is not supported, or there is no such device.
        """
        device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        check_device(device)
        default = "fp32" if torch.device(device).type == "cpu" else "fp16"
        with uncollected():
            return load_base(
                self.pretrained_model_name_or_path,
                revision=self.revision,
                variant=self.variant,
                dtype=DTYPES[self.dtype or default],
                device=device,
            )

    def request(self, prompts: Sequence[str], *, num_images: int) -> GenerateRequest:
        """These options for `num_images` pictures of each prompt."""
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
                "Leave it out; --control_strength says how much a map counts."
            )
        if self.merge:
            adapter_set.merge()
        return adapter_set


def check_device(device: str) -> None:
    """Refuse a device that is not here.

    Raises:
        UserError: torch cannot use it.
    """
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(
            f"`device` is {device!r}, which cannot be used here. Leave the flag out, or use cpu."
        ) from error


def make_folder(folder: Path) -> None:
    """Make an output folder.

    Raises:
        UserError: it is a file or cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"The output folder `{folder}` cannot be made ({error.strerror}). "
            "Choose another --output_dir."
        ) from error


class progress:  # noqa: N801 - used like a function: `with progress() as on_step`
    """A bar over denoising steps, on a terminal only."""

    def __enter__(self) -> progress:
        self.bar = tqdm(unit="step", disable=not sys.stderr.isatty())
        return self

    def __call__(self, done: int, total: int) -> None:
        self.bar.total = total
        self.bar.update(done - self.bar.n)

    def __exit__(self, *exception: object) -> None:
        self.bar.close()


def hush() -> None:
    """Silence the libraries' loading bars, and remarks about parts that are never used here."""
    import diffusers
    import transformers

    transformers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.disable_progress_bar()
    for name in REMARKS:
        logging.getLogger(name).setLevel(logging.ERROR)

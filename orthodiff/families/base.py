"""What every base-model family provides: its parts, and five verbs over them."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from orthodiff.errors import UserError
from orthodiff.families.conditioning import Conditioning


@dataclass(frozen=True)
class Recommended:
    """What the makers of a base advise for sampling; `resolution` is in pixels."""

    guidance_scale: float = 7.5
    num_inference_steps: int = 50
    resolution: int = 512


@dataclass
class Base(ABC):
    """A loaded base model.

    `name` is what the user wrote, `folder` where its files lie. Latents are already scaled to unit
    variance; pictures are `(3, H, W)` in [-1, 1]. `prompts` remembers the embeddings made so far,
    `fingerprints` the sums over weight files.
    """

    name: str
    folder: Path
    unet: Any
    vae: Any
    text_encoder: Any
    tokenizer: Any
    scheduler: Any
    recommended: Recommended
    prompts: dict[str, Conditioning] = field(default_factory=dict)
    fingerprints: dict[str, str] = field(default_factory=dict)

    family: ClassVar[str]
    pipelines: ClassVar[tuple[str, ...]]

    @classmethod
    @abstractmethod
    def load(
        cls, folder: Path, *, name: str, variant: str | None, dtype: torch.dtype, device: str
    ) -> Base:
        """Load the parts from a diffusers-format `folder`.

        Raises:
            UserError: the folder is of a kind this family cannot serve, or incomplete.
        """

    @abstractmethod
    def embed(self, prompt: str) -> Conditioning:
        """Prompt -> what steers one sample, on the UNet's device, remembered."""

    @abstractmethod
    def encode(self, picture: Tensor) -> Tensor:
        """Picture `(3, H, W)` -> mean and standard deviation of its latent, `(2, C, h, w)`."""

    @abstractmethod
    def decode(self, latent: Tensor) -> Tensor:
        """Latent `(C, h, w)` -> picture `(3, H, W)`, clamped to [-1, 1]."""

    @abstractmethod
    def predict(self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """The UNet's output `(B, C, h, w)` for noisy latents at integer `timesteps` `(B,)`."""

    @property
    @abstractmethod
    def factor(self) -> int:
        """Pixels per latent along one side."""

    @property
    def device(self) -> torch.device:
        return self.unet.device

    @property
    def dtype(self) -> torch.dtype:
        return self.unet.dtype

    def fingerprint(self, part: str = "unet") -> str:
        """SHA-256 of the weight files of `part` ("unet", "vae" or "text_encoder")."""
        if part not in self.fingerprints:
            self.fingerprints[part] = _sha256((self.folder / part).glob("*.safetensors"))
        return self.fingerprints[part]

    def park_encoders(self) -> None:
        """Move the autoencoder and the text encoder to the CPU: training no longer needs them."""
        self.vae.to("cpu")
        self.text_encoder.to("cpu")


def _sha256(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(paths):
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()


@contextmanager
def on_device(part: nn.Module, device: torch.device) -> Iterator[None]:
    """Lend `part` to `device` for the block, then put it back where it was."""
    home = next(part.parameters()).device
    part.to(device)
    try:
        yield
    finally:
        part.to(home)


def read_recommended(folder: Path, *, native_resolution: int) -> Recommended:
    """Read the optional `generation_config.json`; what it leaves out is the family's usual.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / "generation_config.json"
    usual = Recommended(resolution=native_resolution)
    if not path.is_file():
        return usual
    try:
        given = json.loads(path.read_text("utf-8"))
        return Recommended(
            guidance_scale=float(given.get("guidance_scale", usual.guidance_scale)),
            num_inference_steps=int(given.get("num_inference_steps", usual.num_inference_steps)),
            resolution=int(given.get("resolution", usual.resolution)),
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"`{path}` cannot be read ({error}). Correct or remove it.") from error

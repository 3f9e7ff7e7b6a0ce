"""What every base-model family provides: its components, and five verbs over them."""

from __future__ import annotations

import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from orthodiff.errors import UserError
from orthodiff.io.hashing import sha256_of_files
from orthodiff.models.conditioning import Conditioning
from orthodiff.models.objective import Objective, objective_of
from orthodiff.models.offload import Lending, Offload, layers_on_device
from orthodiff.models.prompts import cut_note, set_max_prompt_tokens
from orthodiff.models.text_encoder import TextEncoder

logger = logging.getLogger(__name__)
REMEMBERED_PROMPTS, CHECKED_PROMPTS = 64, 4096
"""How many prompts a base keeps as embeddings (a few megabytes each at most), or as looked at."""
TILE_ABOVE, OFFLOADED_TILE_ABOVE, TILE = 1536**2, 768**2, 512
"""Pixels above which the autoencoder decodes tile by tile (at 1536 its features take some 5 GB),
and the side of a tile where memory is short."""
NORMS = (nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


@dataclass(frozen=True)
class Recommended:
    """What the makers of a base advise for sampling; `resolution` is in pixels."""

    guidance_scale: float = 7.5
    num_inference_steps: int = 50
    resolution: int = 512


@dataclass
class Base(ABC):
    """A loaded base model.

    `name` is what the user wrote, `folder` where its files lie, or the one file itself.
    `denoiser` is what adapters are attached to: a UNet or a diffusion transformer. Latents are
    already scaled to unit variance; images are `(3, H, W)` in [-1, 1]. With
    `force_zeros_for_empty_prompt` the base was trained to meet zeros where there is no prompt.
    `prompts` remembers what was read so far: clear it when a text encoder changes. `fingerprints`
    remembers the sums over weight files, `checked_prompts` whose length was looked at. With
    `offload` the parts lie on the CPU and work on the `execution_device`.
    """

    name: str
    folder: Path
    denoiser: Any
    vae: Any
    texts: tuple[TextEncoder, ...]
    scheduler: Any
    recommended: Recommended
    force_zeros_for_empty_prompt: bool = False
    prompts: dict[str, Conditioning] = field(default_factory=dict)
    fingerprints: dict[str, str] = field(default_factory=dict)
    checked_prompts: set[str] = field(default_factory=set)
    offload: Offload = "none"
    tile_above: int = TILE_ABOVE
    execution_device: torch.device | None = None
    lending: Lending = field(default_factory=Lending)

    family: ClassVar[str]
    pipelines: ClassVar[tuple[str, ...]]
    denoiser_folder: ClassVar[str] = "unet"
    """Where the denoiser lies in a diffusers-format folder."""

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
    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        """Prompts -> what steers as many samples, by the text encoders where they are now.

        Gradients flow through it to whatever is trained there.
        """

    def layers_used(self, text: TextEncoder) -> int:
        """How many of a text encoder's layers, from the first on, change what is read."""
        return int(text.model.config.num_hidden_layers)

    def negative_embeds(self, prompt: str) -> Conditioning:
        """What guidance leads away from: the negative `prompt`, which may be empty."""
        conditioning = self.embed(prompt)
        keeps = prompt or not self.force_zeros_for_empty_prompt
        return conditioning if keeps else conditioning.zeroed()

    @abstractmethod
    def encode(self, image: Tensor) -> Tensor:
        """Image `(3, H, W)` -> mean and standard deviation of its latent, `(2, C, h, w)`."""

    @abstractmethod
    def decode(self, latent: Tensor) -> Tensor:
        """Latent `(C, h, w)` -> image `(3, H, W)`, clamped to [-1, 1]."""

    def decode_batch(self, latents: Tensor) -> Tensor:
        """Latents `(B, C, h, w)` -> images `(B, 3, H, W)`, clamped to [-1, 1]."""
        return torch.stack([self.decode(latent) for latent in latents])

    @abstractmethod
    def predict(self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """The denoiser's output `(B, C, h, w)` for noisy latents at `timesteps` `(B,)` or a scalar.

        Timesteps are those of `objective`.
        """

    @property
    @abstractmethod
    def factor(self) -> int:
        """Pixels per latent along one side."""

    def reencode(self, prompts: Sequence[str], known: Conditioning) -> Conditioning:
        """`prompts` read anew by text encoders that learn, with the sizes that were `known`.

        Samples whose prompt was dropped keep what stands for no prompt.
        """
        conditioning = replace(self.encode_prompts(prompts), time_ids=known.time_ids)
        if not self.force_zeros_for_empty_prompt:
            return conditioning
        return conditioning.zeroed([not prompt for prompt in prompts])

    @torch.no_grad()
    def embed(self, prompt: str) -> Conditioning:
        """Prompt -> what steers one sample, on the denoiser's device, remembered.

        A warning is logged where its end is not read.
        """
        if prompt not in self.prompts:
            if len(self.prompts) >= REMEMBERED_PROMPTS:
                self.prompts.pop(next(iter(self.prompts)))
            self.warn_of_cut([prompt])
            with self.lending.lend([text.model for text in self.texts], self.device):
                self.prompts[prompt] = self.encode_prompts([prompt])
        return self.prompts[prompt].to(self.device)

    def new_scheduler(self, steps: int, *, size: tuple[int, int]) -> Any:
        """A sampling scheduler set to `steps`, for images of `size` (height, width) in pixels."""
        scheduler = type(self.scheduler).from_config(self.scheduler.config)
        scheduler.set_timesteps(steps, device=self.device)
        return scheduler

    @property
    def objective(self) -> Objective:
        """How noise is added and what the denoiser predicts, on the CPU.

        Raises:
            UserError: the base's scheduler tells of no objective that is served.
        """
        return objective_of(self.scheduler)

    @property
    def unet(self) -> Any:
        """The denoiser by its older name, as diffusers' pipelines for UNets call it."""
        return self.denoiser

    @property
    def latent_channels(self) -> int:
        return int(self.vae.config.latent_channels)

    def to(self, device: torch.device | str) -> None:
        """Move every part to `device`."""
        for part in (self.denoiser, self.vae, *(text.model for text in self.texts)):
            part.to(device)

    def offload_to_cpu(self, offload: Offload, device: torch.device | str) -> None:
        """Let the parts lie on the CPU and work on `device` by turns; see `Offload`.

        The text encoders leave the device before the denoiser comes, and it before the
        autoencoder, which works in tiles above `tile_above` pixels.
        """
        if offload == "none":
            return
        self.to("cpu")
        self.offload, self.execution_device = offload, torch.device(device)
        self.tile_above = min(self.tile_above, OFFLOADED_TILE_ABOVE)
        self.vae.tile_sample_min_size = TILE
        self.vae.tile_latent_min_size = TILE // self.factor

    @contextmanager
    def denoising(self) -> Iterator[None]:
        """Within the block the denoiser can be used on `device`."""
        if self.offload == "sequential":
            with layers_on_device(self.denoiser, self.device):
                yield
        elif self.offload == "model":
            with self.lending.lend([self.denoiser], self.device):
                yield
        else:
            yield

    def warn_of_cut(self, prompts: Sequence[str]) -> None:
        """Log, once for each prompt, which end of it the text encoders do not read."""
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self.checked_prompts]
        if len(self.checked_prompts) > CHECKED_PROMPTS:
            self.checked_prompts.clear()
        self.checked_prompts.update(new)
        if note := cut_note(self.texts, new):
            logger.warning("%s", note)

    def set_max_prompt_tokens(self, most: int) -> None:
        """Read prompts of up to `most` tokens, in chunks of the text encoders' length.

        Raises:
            UserError: so many cannot be read.
        """
        set_max_prompt_tokens(self.texts, most)
        self.prompts.clear()
        self.checked_prompts.clear()

    @property
    def text_encoder(self) -> Any:
        return self.texts[0].model

    @property
    def device(self) -> torch.device:
        """Where the denoiser works."""
        if self.execution_device is not None:
            return self.execution_device
        return next(self.denoiser.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The denoiser's own, which its normalisations tell: adapters never replace those."""
        norms = (m for m in self.denoiser.modules() if isinstance(m, NORMS))
        weights = (m.weight for m in norms if getattr(m, "weight", None) is not None)
        frozen = (p for p in self.denoiser.parameters() if not p.requires_grad)
        floats = (p for p in chain(weights, frozen) if p.is_floating_point())
        return next(floats, next(self.denoiser.parameters())).dtype

    def fingerprint(self, part: str | None = None) -> str:
        """SHA-256 of the weight files of `part` ("vae", "text_encoder", ...), or the denoiser."""
        part = part or self.denoiser_folder
        if part not in self.fingerprints:
            self.fingerprints[part] = sha256_of_files(self._weights(part))
        return self.fingerprints[part]

    def _weights(self, part: str) -> Iterable[Path]:
        """A part's weight files; a base out of one file has all its parts there."""
        is_file = self.folder.is_file()
        return [self.folder] if is_file else (self.folder / part).glob("*.safetensors")

    def keep_denoiser_on_device(self) -> None:
        """Move the denoiser to `device` for good; the other parts still come by turns."""
        if self.offload == "model":
            self.denoiser.to(self.device)
            self.offload = "none"

    def keep_texts_on_device(self) -> None:
        """Move the text encoders to `device` for good, as they are trained."""
        for text in self.texts:
            text.model.to(self.device)


def native_resolution(folder: Path) -> int | None:
    """The side in pixels that the UNet in `folder` was made for; None where it does not say."""
    try:
        unet, vae = (
            json.loads((folder / part / "config.json").read_text("utf-8"))
            for part in ("unet", "vae")
        )
        return int(unet["sample_size"] * 2 ** (len(vae["block_out_channels"]) - 1))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_recommended(folder: Path, *, native_resolution: int) -> Recommended:
    """Read the optional `generation_config.json`; what it leaves out is the family's default.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / "generation_config.json"
    default = Recommended(resolution=native_resolution)
    if not path.is_file():
        return default
    try:
        given = json.loads(path.read_text("utf-8"))
        return Recommended(
            guidance_scale=float(given.get("guidance_scale", default.guidance_scale)),
            num_inference_steps=int(given.get("num_inference_steps", default.num_inference_steps)),
            resolution=int(given.get("resolution", default.resolution)),
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"`{path}` cannot be read ({error}). Correct or remove it.") from error

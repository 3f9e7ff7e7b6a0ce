"""Latents and prompt embeddings, computed once and kept by content: training only looks them up."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from orthodiff.families import Base, Conditioning
from training.dataset import Example


@dataclass(frozen=True)
class Encoded:
    """A stack of training samples.

    `latents` `(N, 2, C, h, w)` holds mean and standard deviation; sample `i` is trained under
    `conditioning[captions[i]]`, one per different caption.
    """

    latents: Tensor
    captions: Tensor
    conditioning: Conditioning

    def __len__(self) -> int:
        return len(self.latents)

    def at(self, indices: Sequence[int], posterior: Tensor) -> tuple[Tensor, Conditioning]:
        """Latents sampled with unit noise `posterior` `(B, C, h, w)`, and what steers them."""
        chosen = self.latents[list(indices)]
        captions = self.captions[list(indices)]
        return chosen[:, 0] + chosen[:, 1] * posterior, self.conditioning[captions]


class Cache:
    """Named tensors by key in a folder; with no folder nothing is kept."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def get(self, key: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """The tensors kept under `key`, else `make()`, kept from now on."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file, save_file

        if self.folder is None:
            return _on_cpu(make())
        path = self.folder / f"{key}.safetensors"
        try:
            return load_file(path)
        except (OSError, SafetensorError):
            made = _on_cpu(make())
        self.folder.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(f".{os.getpid()}.tmp")
        save_file(made, aside)
        aside.replace(path)
        return made


def encode(base: Base, examples: Sequence[Example], cache: Cache) -> Encoded:
    """Encode every picture and every different caption of `examples`."""
    scale = (base.vae.config.get("scaling_factor"), base.vae.config.get("shift_factor"))
    vae, text = f"{base.fingerprint('vae')}/{scale}", base.fingerprint("text_encoder")
    captions = list(dict.fromkeys(example.caption for example in examples))
    latents = [
        cache.get(_key(vae, base, e.image.tobytes()), partial(_latent, base, e)) for e in examples
    ]
    prompts = [cache.get(_key(text, base, c.encode()), partial(_prompt, base, c)) for c in captions]
    return Encoded(
        latents=torch.stack([found["latent"] for found in latents]).float().to(base.device),
        captions=torch.tensor([captions.index(e.caption) for e in examples], device=base.device),
        conditioning=Conditioning.join([Conditioning(**found) for found in prompts]).to(
            base.device, base.dtype
        ),
    )


def _latent(base: Base, example: Example) -> dict[str, Tensor]:
    return {"latent": base.encode(example.pixels())}


def _prompt(base: Base, caption: str) -> dict[str, Tensor]:
    return base.embed(caption).tensors()


def _on_cpu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}


def _key(weights: str, base: Base, content: bytes) -> str:
    """Content, weights and precision decide the value; so does the picture's size, in `content`."""
    return hashlib.sha256(f"{weights}/{base.dtype}/".encode() + content).hexdigest()


def default_cache() -> Path:
    """`$XDG_CACHE_HOME/orthodiff`, usually `~/.cache/orthodiff`."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "orthodiff"

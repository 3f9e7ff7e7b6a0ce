"""Latents, prompt embeddings and maps of models, computed once and kept by content.

Training only looks them up.

Images go through the autoencoder one by one. Batches would be no faster where it matters (1.5 %
with SD 1.5's on a CPU), and its kernels round differently with the batch's size: what the cache
holds would depend on which images happened to be encoded together.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from orthodiff.control import Condition
from orthodiff.errors import UserError
from orthodiff.io.hashing import content_key
from orthodiff.models import Base, Conditioning

from ..data.captions import CaptionRules
from ..data.example import Example
from ..data.views import View, Views
from .cache import Cache


@dataclass(frozen=True)
class Sample:
    """One example in all its `views`, on the CPU.

    `latents` `(V, 2, C, h, w)` holds mean and standard deviation; `masks` `(V, 1, h, w)` is 1
    where the loss counts; `control_images` `(V, 3, H, W)`, grey ones `(V, 1, H, W)`, are bytes. It
    is trained under its `prompts` by turns.
    """

    views: tuple[View, ...]
    latents: Tensor
    prompts: tuple[str, ...]
    masks: Tensor | None = None
    control_images: Tensor | None = None
    repeats: int = 1

    @property
    def shape(self) -> torch.Size:
        """One latent's `(C, h, w)`."""
        return self.latents.shape[2:]


@dataclass(frozen=True)
class Encoded:
    """Training samples, the rules their prompts are chosen by, and every prompt's conditioning."""

    samples: tuple[Sample, ...]
    captions: CaptionRules
    conditioning: Mapping[str, Conditioning]


def encode(
    base: Base,
    examples: Iterable[Example],
    *,
    views: Views,
    captions: CaptionRules,
    cache: Cache,
    condition: Condition | None = None,
) -> Encoded:
    """Encode every view of every image, and every prompt; one example is held at a time.

    Maps are those of a `condition`: an example's own as it would resize them for `generate`, else
    computed from the image as seen.
    """
    keep = partial(_kept_latent, base, _autoencoder(base), cache)
    samples = []
    for example in examples:
        name, size = example.name, example.image.size
        seen = views.showing(name, example.mask, size) or views.of(name, size)  # if found by itself
        pictures = [view.see(example.image) for view in seen]
        samples.append(
            Sample(
                views=seen,
                latents=torch.stack([keep(image) for image in pictures]),
                prompts=(example.caption,)
                if example.is_prior
                else captions.variants(example.caption),
                masks=_masks(example, seen, base.factor),
                control_images=_control_images(example, seen, pictures, condition, cache),
                repeats=example.repeats,
            )
        )
    return Encoded(tuple(samples), captions, _embed(base, samples, captions, cache))


def to_tensor(image: Image.Image) -> Tensor:
    """An RGB image as `(3, H, W)` in [-1, 1]."""
    return _bytes(image).float() / 127.5 - 1


def _kept_latent(base: Base, weights: str, cache: Cache, image: Image.Image) -> Tensor:
    def make() -> dict[str, Tensor]:
        return {"latent": base.encode(to_tensor(image)).float()}

    key = content_key("latent", weights, f"{image.size}", image.tobytes())
    return cache.get(key, make)["latent"]


def _embed(
    base: Base, samples: Sequence[Sample], captions: CaptionRules, cache: Cache
) -> dict[str, Conditioning]:
    """The conditioning of every prompt that can come up."""
    weights = _text_encoders(base)
    prompts = dict.fromkeys(prompt for sample in samples for prompt in sample.prompts)
    if captions.dropout:
        prompts[""] = None
    base.checked_prompts.update(prompts)  # the run's remarks name captions that are cut
    found = {}
    for prompt in prompts:
        key = content_key("prompt", weights, prompt)
        found[prompt] = Conditioning(**cache.get(key, partial(_prompt, base, prompt)))
    return found


def _prompt(base: Base, prompt: str) -> dict[str, Tensor]:
    """No caption is what guidance will lead away from later."""
    return (base.embed(prompt) if prompt else base.negative_embeds("")).tensors()


def _masks(example: Example, views: Sequence[View], factor: int) -> Tensor | None:
    """Each view's mask, averaged over the `factor` squared pixels of a latent's one."""
    if example.mask is None:
        return None
    levels = [
        np.asarray(view.cut(example.mask, Image.Resampling.BILINEAR), np.float32) / 255
        for view in views
    ]
    stacked = torch.from_numpy(np.stack(levels))[:, None]
    return torch.nn.functional.avg_pool2d(stacked, factor)


def _control_images(
    example: Example,
    views: Sequence[View],
    pictures: Sequence[Image.Image],
    condition: Condition | None,
    cache: Cache,
) -> Tensor | None:
    """Each view's map, `(V, 3, H, W)`, or `(V, 1, H, W)` if it is grey: all are held in memory."""
    if condition is None:
        return None
    if (own := example.control_image) is not None:
        seen = [_bytes(view.refit(own, condition.resize).convert("RGB")) for view in views]
    else:
        seen = [_kept_map(condition, image, example.name, cache) for image in pictures]
    maps = torch.stack(seen)
    is_grey = bool((maps == maps[:, :1]).all())
    return maps[:, :1].clone() if is_grey else maps


def _kept_map(condition: Condition, image: Image.Image, name: str, cache: Cache) -> Tensor:
    """The map of an image `(3, H, W)`: kept where a model computes it, else made faster anew."""

    def make() -> dict[str, Tensor]:
        try:
            return {"map": _bytes(condition.compute(image).convert("RGB"))}
        except UserError as error:
            raise UserError(f"`{name}`: {error}") from error

    source = condition.computed_by()
    if source is None:
        return make()["map"]
    settings = json.dumps(condition.settings(), sort_keys=True)
    key = content_key("map", condition.name, settings, source, f"{image.size}", image.tobytes())
    return cache.get(key, make)["map"]


def _bytes(image: Image.Image) -> Tensor:
    """`(3, H, W)` in 0..255."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def _autoencoder(base: Base) -> str:
    """All that decides a latent beside the image."""
    scale = (base.vae.config.get("scaling_factor"), base.vae.config.get("shift_factor"))
    return f"{base.fingerprint('vae')}/{scale}/{base.vae.dtype}"


def _text_encoders(base: Base) -> str:
    """All that decides an embedding beside the prompt: weights, tokenizers, precision."""
    parts = [str(base.dtype)]
    for text in base.texts:
        parts += [base.fingerprint(text.name), _sum(text.tokenizer)]
    return "/".join(parts)


def _sum(tokenizer: Any) -> str:
    """How it cuts and pads is left out: that is what it was last asked for."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    lasting = {name: part for name, part in state.items() if name not in ("truncation", "padding")}
    return hashlib.sha256(json.dumps(lasting).encode()).hexdigest()

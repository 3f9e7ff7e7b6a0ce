"""Latents, masks, prompt embeddings and control images, computed once and kept by content.

Training only reads them. What is in the cache is known by the sums over files, so that a second
start opens no image.

Images go through the autoencoder one by one. Batches would be no faster where it matters (1.5 %
with SD 1.5's on a CPU), and its kernels round differently with the batch's size: what the cache
holds would depend on which images happened to be encoded together.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from orthodiff.control import Condition
from orthodiff.errors import FileError, UserError
from orthodiff.io.atomic import share_file
from orthodiff.io.hashing import content_key
from orthodiff.models import Base

from ..data.captions import CaptionRules
from ..data.dataset import Examples
from ..data.example import Example
from ..data.masks import check_in_sight
from ..data.readers.records import DataRequest
from ..data.table import CONTROL_IMAGE, MASK, NOTHING, PRIOR, ImageFacts, ImageTable
from ..data.usable import refusal
from ..data.views import View, Views
from .samples import EncodedSamples, StoredPrompts, StoredSamples, Stores

__all__ = ["EncodedSamples", "encode", "image_to_tensor"]


def encode(
    base: Base,
    examples: Sequence[Example],
    *,
    views: Views,
    captions: CaptionRules,
    folder: Path | None,
    condition: Condition | None = None,
    skip_bad_files: bool = False,
) -> EncodedSamples:
    """Every view of every image, and every prompt, read from `folder` or encoded into it.

    One example is held at a time. Control images are those of a `condition`: an example's own as
    it would be resized for `generate`, else computed from the image as it is seen.

    Raises:
        UserError: some images cannot be used, and shall not be skipped (all are named).
    """
    if isinstance(examples, Examples):
        table, request = examples.table, examples.request
    else:
        table, request = _described(examples), DataRequest()
    autoencoder, text_encoders = _autoencoder(base), _text_encoders(base)
    stores = Stores.at(folder, autoencoder=autoencoder, text_encoders=text_encoders)
    prompts = StoredPrompts(stores.prompts, text_encoders)
    samples = StoredSamples(
        table,
        request,
        stores,
        views=views,
        captions=captions,
        factor=base.factor,
        condition=condition,
    )
    marker = Marker(folder, samples, prompts, autoencoder=autoencoder)
    if not marker.is_valid(stores):
        bad = _encode_images(base, examples, samples)
        if bad and not skip_bad_files:
            raise UserError(refusal([problem for _, problem in bad], request.place))
        if bad:
            rows = {row for row, _ in bad}
            samples.table = table.select([n for n in range(len(table)) if n not in rows])
        _encode_prompts(base, samples, prompts)
        stores.flush()
        if not bad:
            marker.set(stores)
    return EncodedSamples(samples, captions, prompts)


def image_to_tensor(image: Image.Image) -> Tensor:
    """An RGB image as `(3, H, W)` in [-1, 1]."""
    return _bytes(image).float() / 127.5 - 1


def _encode_images(
    base: Base, examples: Sequence[Example], samples: StoredSamples
) -> list[tuple[int, FileError]]:
    """Encode the images that lack something; those that cannot be used, by row."""
    bad = []
    for row in range(len(samples)):
        facts = samples.table[row]
        if samples.is_complete(facts):
            continue
        try:
            _encode_image(base, examples[row], facts, samples)
        except FileError as problem:
            bad.append((row, problem))
    samples.stores.flush()
    return bad


def _encode_image(base: Base, example: Example, facts: ImageFacts, samples: StoredSamples) -> None:
    if example.image.size != facts.size:
        reason = f"its header says {facts.size}, but it has {example.image.size} pixels"
        raise FileError(example.name, reason, "Save it again")
    views = samples.views.of(example.name, example.image.size)
    keys, stores, condition = samples.keys(facts, views), samples.stores, samples.condition
    if not samples.request.subject_mask:  # such a mask is as good as the model that finds it
        check_in_sight(example.name, example.mask, example.image.size, samples.views)
    for view, key in zip(views, keys.masks or (), strict=False):
        stores.masks.add(key, _mask_row(example.mask, view, base.factor))
    visible_views = samples.views.showing(example.name, example.mask, example.image.size) or views
    for view, latent, control in zip(
        views, keys.latents, keys.control_images or (None,) * len(views), strict=True
    ):
        if view not in visible_views:
            continue
        image = view.see(example.image)
        if latent not in stores.latents:
            stores.latents.add(latent, {"latent": base.encode(image_to_tensor(image)).float()})
        if control is not None and condition is not None and control not in stores.control_images:
            stores.control_images.add(control, _control_row(example, view, image, condition))


def _encode_prompts(base: Base, samples: StoredSamples, prompts: StoredPrompts) -> None:
    """The conditioning of every prompt that can come up."""
    known: set[str] = set()
    if samples.captions.dropout:
        known.add("")
        _encode_prompt(base, "", prompts)
    for row in range(len(samples)):
        for prompt in samples.prompts(samples.table[row]):
            if prompt not in known:
                known.add(prompt)
                _encode_prompt(base, prompt, prompts)


def _encode_prompt(base: Base, prompt: str, prompts: StoredPrompts) -> None:
    """No caption is what guidance will lead away from later."""
    key = prompts.key(prompt)
    base.checked_prompts.add(prompt)  # the run's remarks name captions that are cut
    if key not in prompts.store:
        embedded = base.embed(prompt) if prompt else base.negative_embeds("")
        prompts.store.add(key, embedded.tensors())


def _mask_row(mask: Image.Image | None, view: View, factor: int) -> dict[str, Tensor]:
    """A view's mask, averaged over the `factor` squared pixels of a latent's one."""
    if mask is None:
        return {"none": torch.zeros(1)}
    levels = np.asarray(view.cut(mask, Image.Resampling.BILINEAR), np.float32) / 255
    return {"mask": torch.nn.functional.avg_pool2d(torch.from_numpy(levels)[None], factor)}


def _control_row(
    example: Example, view: View, image: Image.Image, condition: Condition
) -> dict[str, Tensor]:
    """A view's control image `(3, H, W)`, or `(1, H, W)` if it is grey."""
    if example.control_image is not None:
        visible = view.refit(example.control_image, condition.resize)
    else:
        try:
            visible = condition.compute(image)
        except UserError as error:
            raise UserError(f"`{example.name}`: {error}") from error
    levels = _bytes(visible.convert("RGB"))
    is_grey = bool((levels == levels[:1]).all())
    return {"map": levels[:1].clone() if is_grey else levels}


def _described(examples: Sequence[Example]) -> ImageTable:
    """A table of examples that are in memory, by their pixels."""
    return ImageTable.of(
        ImageFacts(
            example.name,
            example.caption,
            _pixels(example.image),
            example.image.size,
            mask=_pixels(example.mask),
            control_image=_pixels(example.control_image),
            repeats=example.repeats,
            flags=MASK * (example.mask is not None)
            + CONTROL_IMAGE * (example.control_image is not None)
            + PRIOR * example.is_prior,
        )
        for example in examples
    )


def _pixels(image: Image.Image | None) -> bytes:
    if image is None:
        return NOTHING
    return bytes.fromhex(content_key("pixels", f"{image.mode} {image.size}", image.tobytes()))


class Marker:
    """A file that says that every row of some samples was encoded, and into which shards.

    As long as those are there, a start need not ask for a million rows.
    """

    def __init__(
        self,
        folder: Path | None,
        samples: StoredSamples,
        prompts: StoredPrompts,
        *,
        autoencoder: str,
    ) -> None:
        self.folder = folder
        self._key: Callable[[], str] = lambda: content_key(
            samples.table.digest(), samples.settings(), autoencoder, prompts.text_encoders
        )

    def is_valid(self, stores: Stores) -> bool:
        if self.folder is None:
            return False
        try:
            shards: dict[str, list[str]] = json.loads(self._path().read_text("utf-8"))
        except (OSError, ValueError):
            return False
        current = self._shards(stores)
        return all(set(names) <= set(current.get(kind, ())) for kind, names in shards.items())

    def set(self, stores: Stores) -> None:
        if self.folder is not None:
            path = self._path()
            path.parent.mkdir(parents=True, exist_ok=True)
            share_file(path, json.dumps(self._shards(stores)).encode())

    def _path(self) -> Path:
        assert self.folder is not None
        return self.folder / "complete" / f"{self._key()[:32]}.json"

    def _shards(self, stores: Stores) -> dict[str, list[str]]:
        return {
            store.folder.name: store.shards() for store in stores.each() if store.folder is not None
        }


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

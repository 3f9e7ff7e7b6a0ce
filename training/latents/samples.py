"""Training samples by number, read from the cache when a step asks for one."""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import overload

import numpy as np
import torch
from torch import Tensor

from orthodiff.control import Condition
from orthodiff.io.images import DECODER
from orthodiff.models import Conditioning

from ..data.captions import CaptionRules
from ..data.readers.records import DataRequest
from ..data.table import CONTROL_IMAGE, MASK, PRIOR, ImageFacts, ImageTable
from ..data.views import View, Views
from .store import TensorStore, row_key


@dataclass(frozen=True)
class StoredRows(Sequence[Tensor]):
    """The rows of some keys in a store, each read when it is asked for."""

    store: TensorStore
    keys: tuple[bytes, ...]
    name: str

    def __len__(self) -> int:
        return len(self.keys)

    @overload
    def __getitem__(self, index: int) -> Tensor: ...
    @overload
    def __getitem__(self, index: slice) -> StoredRows: ...
    def __getitem__(self, index: int | slice) -> Tensor | StoredRows:
        if isinstance(index, slice):
            return StoredRows(self.store, self.keys[index], self.name)
        return self.store[self.keys[index]][self.name]


@dataclass(frozen=True)
class TrainingSample:
    """One example in all its `views`, on the CPU.

    `latents` has one `(2, C, h, w)` for each view, mean and standard deviation; `masks` one
    `(1, h, w)`, 1 where the loss counts; `control_images` one `(3, H, W)`, or `(1, H, W)` if it is
    grey, of bytes. It is trained under its `prompts` by turns.
    """

    views: tuple[View, ...]
    latents: Sequence[Tensor] | Tensor
    prompts: tuple[str, ...]
    masks: Sequence[Tensor] | Tensor | None = None
    control_images: Sequence[Tensor] | Tensor | None = None
    repeats: int = 1

    @property
    def shape(self) -> torch.Size:
        """One latent's `(C, h, w)`."""
        return self.latents[0].shape[1:]


@dataclass(frozen=True)
class EncodedSamples:
    """Training samples, the rules their prompts are chosen by, and every prompt's conditioning."""

    samples: Sequence[TrainingSample]
    captions: CaptionRules
    conditioning: Mapping[str, Conditioning]

    @cached_property
    def repeats(self) -> np.ndarray:
        """How often an epoch sees each sample."""
        if isinstance(self.samples, StoredSamples):
            return self.samples.table.repeats
        return np.array([sample.repeats for sample in self.samples], np.int32)

    @cached_property
    def shapes(self) -> np.ndarray:
        """A number for the shape of each sample: equal shapes have equal numbers."""
        if isinstance(self.samples, StoredSamples):
            return self.samples.shapes
        numbers: dict[tuple[int, ...], int] = {}
        each = [numbers.setdefault(tuple(s.shape), len(numbers)) for s in self.samples]
        return np.array(each, np.int32)


@dataclass(frozen=True)
class Stores:
    """Where encoded data are kept: latents of one autoencoder, embeddings of some encoders."""

    latents: TensorStore
    masks: TensorStore
    control_images: TensorStore
    prompts: TensorStore

    @staticmethod
    def at(folder: Path | None, *, autoencoder: str, text_encoders: str) -> Stores:
        """In a folder of the cache, apart for every autoencoder and set of text encoders."""

        def store(kind: str, encoder: str = "") -> TensorStore:
            mark = f"-{hashlib.sha256(encoder.encode()).hexdigest()[:16]}" if encoder else ""
            return TensorStore(folder and folder / f"{kind}{mark}")

        return Stores(
            store("latents", f"{autoencoder}/{DECODER}"),
            store("masks"),
            store("control-images"),
            store("prompts", text_encoders),
        )

    def each(self) -> tuple[TensorStore, ...]:
        return self.latents, self.masks, self.control_images, self.prompts

    def flush(self) -> None:
        """Write all that was added."""
        for store in self.each():
            store.flush()


@dataclass(frozen=True)
class SampleKeys:
    """The keys of one image's rows; `masks` and `control_images` are None where it has none."""

    latents: tuple[bytes, ...]
    masks: tuple[bytes, ...] | None
    control_images: tuple[bytes, ...] | None


class StoredSamples(Sequence[TrainingSample]):
    """The samples of a table of images: what is known of each image decides its keys."""

    def __init__(
        self,
        table: ImageTable,
        request: DataRequest,
        stores: Stores,
        *,
        views: Views,
        captions: CaptionRules,
        factor: int,
        condition: Condition | None = None,
    ) -> None:
        self.table, self.request, self.stores = table, request, stores
        self.views, self.captions, self.factor, self.condition = views, captions, factor, condition
        self._cached: dict[int, TrainingSample] = {}

    def __len__(self) -> int:
        return len(self.table)

    @overload
    def __getitem__(self, index: int) -> TrainingSample: ...
    @overload
    def __getitem__(self, index: slice) -> list[TrainingSample]: ...
    def __getitem__(self, index: int | slice) -> TrainingSample | list[TrainingSample]:
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        if index not in self._cached:
            if len(self._cached) >= 4096:  # of millions of samples not all may stay in memory
                self._cached.clear()
            self._cached[index] = self._sample(self.table[index])
        return self._cached[index]

    @cached_property
    def shapes(self) -> np.ndarray:
        """A number for the shape of each sample: it follows from the image's size."""
        sizes, number = np.unique(self.table.sizes, axis=0, return_inverse=True)
        shapes: dict[tuple[int, int], int] = {}
        of_size = [
            shapes.setdefault(self.views.of("", (width, height))[0].size, len(shapes))
            for width, height in sizes.tolist()
        ]
        return np.array(of_size, np.int32)[number.reshape(-1)]

    def settings(self) -> str:
        """All that decides the rows of an image beside the image and the encoders."""
        request = (self.request.alpha_mask, self.request.subject_mask)
        condition = self._computing if self.condition else None
        return repr((self.views, self.captions, request, condition, self.factor))

    def prompts(self, facts: ImageFacts) -> tuple[str, ...]:
        """Those that an image is trained under: a class image always under its own."""
        if facts.flags & PRIOR:
            return (facts.caption,)
        return self.captions.variants(facts.caption)

    def keys(self, facts: ImageFacts, views: Sequence[View]) -> SampleKeys:
        """Those of all views of an image."""
        mask, control = self._mask_of(facts), self._control_image_of(facts)
        words_of_views = [_words(view) for view in views]
        return SampleKeys(
            tuple(row_key("latent", facts.image, words) for words in words_of_views),
            None
            if mask is None
            else tuple(row_key("mask", mask, f"{self.factor}", words) for words in words_of_views),
            None
            if control is None
            else tuple(row_key("control image", control, words) for words in words_of_views),
        )

    def is_complete(self, facts: ImageFacts) -> bool:
        """Whether every row of an image is in the cache."""
        views = self.views.of(facts.name, facts.size)
        keys = self.keys(facts, views)
        if not all(key in self.stores.masks for key in keys.masks or ()):
            return False
        shown = self.shown(keys.masks, len(views))
        required = [(self.stores.latents, keys.latents)]
        if keys.control_images:
            required.append((self.stores.control_images, keys.control_images))
        return all(each[number] in store for store, each in required for number in shown)

    def shown(self, masks: Sequence[bytes] | None, count: int) -> list[int]:
        """The views in which some of the mask is seen: all without one, or if it is in none."""
        if masks is None:
            return list(range(count))
        rows = [self.stores.masks[key] for key in masks]
        visible = [n for n, row in enumerate(rows) if "mask" not in row or row["mask"].any()]
        return visible or list(range(count))

    def _sample(self, facts: ImageFacts) -> TrainingSample:
        views = self.views.of(facts.name, facts.size)
        keys = self.keys(facts, views)
        shown = self.shown(keys.masks, len(views))

        def rows(
            store: TensorStore, every: tuple[bytes, ...] | None, name: str
        ) -> StoredRows | None:
            return StoredRows(store, tuple(every[n] for n in shown), name) if every else None

        masks = keys.masks
        if masks and "mask" not in self.stores.masks[masks[0]]:
            masks = None  # looked for, and there is none
        latents = rows(self.stores.latents, keys.latents, "latent")
        assert latents is not None
        return TrainingSample(
            tuple(views[number] for number in shown),
            latents,
            self.prompts(facts),
            rows(self.stores.masks, masks, "mask"),
            rows(self.stores.control_images, keys.control_images, "map"),
            facts.repeats,
        )

    def _mask_of(self, facts: ImageFacts) -> bytes | None:
        """What decides the mask of an image: its file, or how it is looked for."""
        if facts.flags & MASK:
            return b"file" + facts.mask
        if self.request.alpha_mask or self.request.subject_mask:
            how = f"{self.request.alpha_mask} {self.request.subject_mask} "
            return how.encode() + facts.image
        return None

    def _control_image_of(self, facts: ImageFacts) -> bytes | None:
        """What decides a control image: its file, or the image and how it is computed."""
        if self.condition is None:
            return None
        if facts.flags & CONTROL_IMAGE:
            return b"file" + facts.control_image + self._resizing
        return b"computed" + facts.image + self._computing

    @cached_property
    def _resizing(self) -> bytes:
        assert self.condition is not None
        return f"{self.condition.name} {_source(self.condition)}".encode()

    @cached_property
    def _computing(self) -> bytes:
        assert self.condition is not None
        settings = json.dumps(self.condition.settings(), sort_keys=True)
        computed_by = self.condition.computed_by() or ""
        return f"{settings} {computed_by}".encode() + self._resizing


class StoredPrompts(Mapping[str, Conditioning]):
    """The conditioning of prompts, read from the cache when one is asked for."""

    def __init__(self, store: TensorStore, text_encoders: str) -> None:
        self.store, self.text_encoders = store, text_encoders
        self._cached: dict[str, Conditioning] = {}
        self._prompts: dict[str, None] = {}

    def key(self, prompt: str) -> bytes:
        return row_key("prompt", self.text_encoders, prompt)

    def __getitem__(self, prompt: str) -> Conditioning:
        if prompt not in self._cached:
            if len(self._cached) >= 512:  # at 231 KB a prompt these are 118 MB
                self._cached.clear()
            self._cached[prompt] = Conditioning(**self.store[self.key(prompt)])
        return self._cached[prompt]

    def __iter__(self) -> Iterator[str]:
        return iter(self._prompts)

    def __len__(self) -> int:
        return len(self._prompts)


def _words(view: View) -> str:
    """All that decides what a view shows."""
    return f"{view.original} {view.size} {view.box} {view.flipped} {view.tint} {view.interpolation}"


def _source(condition: Condition) -> str:
    """A sum over the code that computes and resizes control images of this kind."""
    names = {kind.__module__ for kind in type(condition).__mro__} - {"abc", "builtins"}
    code = [inspect.getsource(sys.modules[name]) for name in sorted(names)]
    return hashlib.sha256("".join(code).encode()).hexdigest()

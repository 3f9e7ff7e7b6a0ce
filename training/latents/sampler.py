"""Which samples a step sees: a pure function of (seed, step), so nothing needs remembering.

Samples of different shapes cannot lie in one tensor. A stream therefore puts whole steps of one
shape together where it can; what is left over is split into one batch per shape, and their
losses add up. So every epoch sees every sample, in whatever way a step is shared out over
processes and accumulated batches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from orthodiff.models import Conditioning, Objective

from ..data.views import View
from ..objective import derive, draw
from .samples import EncodedSamples

MAX_ORDERS = 3
"""Orders of epochs that are kept: a step may straddle two, and the first is asked for twice."""


@dataclass(frozen=True)
class Batch:
    """`B` samples of one shape.

    Clean `latents` and `noise` are `(B, C, h, w)`, `timesteps` `(B,)`. `weights` `(B,)` say how
    much each error counts in the step's loss, a sum. `mask` `(B, 1, h, w)` is 1 where the loss
    counts fully, `control_image` `(B, 3, H, W)` in 0..1. Until `to` it is of bytes, `(B, 1, H, W)`
    if grey: a quarter or a twelfth of what travels to the device. `regularizer_share` is this
    batch's part of what the adapters' method adds to the loss once a step.
    """

    latents: Tensor
    noise: Tensor
    timesteps: Tensor
    prompt_embeds: Conditioning
    weights: Tensor
    prompts: tuple[str, ...]
    mask: Tensor | None = None
    control_image: Tensor | None = None
    regularizer_share: float = 1.0

    def __len__(self) -> int:
        return len(self.latents)

    def tensors(self) -> list[Tensor]:
        """All numbers in it."""
        known = [
            self.latents,
            self.noise,
            self.timesteps,
            self.weights,
            self.mask,
            self.control_image,
        ]
        return [*(t for t in known if t is not None), *self.prompt_embeds.tensors().values()]

    @staticmethod
    def join(parts: Sequence[Batch]) -> Batch:
        """One after the other; a mask that only some have is full for the others."""
        return Batch(
            latents=torch.cat([part.latents for part in parts]),
            noise=torch.cat([part.noise for part in parts]),
            timesteps=torch.cat([part.timesteps for part in parts]),
            prompt_embeds=Conditioning.join([part.prompt_embeds for part in parts]),
            weights=torch.cat([part.weights for part in parts]),
            prompts=tuple(chain.from_iterable(part.prompts for part in parts)),
            mask=_join_masks(parts),
            control_image=_join_control_images(parts),
        )

    def to(self, device: torch.device, dtype: torch.dtype) -> Batch:
        """On `device`; what steers the denoiser as `dtype`. From pinned memory nobody waits."""

        def moved(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=True)

        batch = self._each(moved, self.prompt_embeds.to(device, dtype))
        if batch.control_image is None:
            return batch
        return replace(batch, control_image=_as_rgb(batch.control_image))

    def pinned(self) -> Batch:
        """In memory that a GPU can read by itself."""
        return self._each(Tensor.pin_memory, self.prompt_embeds)

    def _each(self, change: Callable[[Tensor], Tensor], prompt_embeds: Conditioning) -> Batch:
        """The same with every tensor of its own changed."""
        return replace(
            self,
            latents=change(self.latents),
            noise=change(self.noise),
            timesteps=change(self.timesteps),
            prompt_embeds=prompt_embeds,
            weights=change(self.weights),
            mask=None if self.mask is None else change(self.mask),
            control_image=None if self.control_image is None else change(self.control_image),
        )


@dataclass(frozen=True)
class Stream:
    """An endless shuffled stream over `encoded`; `name` keeps its chance apart from others'.

    Every run of `unit` positions (the samples of one optimizer step, over all processes) is of one
    shape as far as it goes. `weight` multiplies its errors in the loss, `noise_offset` is
    `objective.draw`'s.
    """

    name: str
    encoded: EncodedSamples
    seed: int
    unit: int = 1
    weight: float = 1.0
    noise_offset: float = 0.0

    def at(self, position: int, *, objective: Objective) -> Batch:
        """The one sample at `position`, with a timestep that `objective` draws."""
        sample = self.encoded.samples[self.index(position)]
        view = derive(self.seed, f"view {self.name}", position) % len(sample.views)
        mean, deviation = sample.latents[view]
        prompt = self.encoded.captions.choose(sample.prompts, self.name, position)
        chance = draw(
            self.seed,
            position,
            mean.shape,
            objective=objective,
            stream=self.name,
            offset=self.noise_offset,
        )
        masks, control_images = sample.masks, sample.control_images
        return Batch(
            latents=(mean + deviation * chance.posterior)[None],
            noise=chance.noise[None],
            timesteps=chance.timestep[None],
            prompt_embeds=_as_seen(self.encoded.conditioning[prompt], sample.views[view]),
            weights=torch.tensor([self.weight]),
            prompts=(prompt,),
            mask=None if masks is None else masks[view][None],
            control_image=None if control_images is None else control_images[view][None],
        )

    def index(self, position: int) -> int:
        """The sample at `position`: an epoch sees each as often as it is repeated."""
        epoch, place = divmod(position, len(self._entries))
        return int(self._entries[self._order(epoch)[place]])

    def _order(self, epoch: int) -> np.ndarray:
        """The order of an epoch, which is drawn once; steps may straddle two."""
        orders = self._orders
        if epoch not in orders:
            if len(orders) >= MAX_ORDERS:
                orders.clear()
            orders[epoch] = epoch_order(self.seed, self.name, epoch, self._shapes, self.unit)
        return orders[epoch]

    @cached_property
    def _orders(self) -> dict[int, np.ndarray]:
        return {}

    @cached_property
    def _entries(self) -> np.ndarray:
        """The samples of one epoch by number, in no order."""
        repeats = self.encoded.repeats
        return np.repeat(np.arange(len(repeats), dtype=np.int32), repeats)

    @cached_property
    def _shapes(self) -> np.ndarray:
        return self.encoded.shapes[self._entries]


def epoch_order(seed: int, name: str, epoch: int, shapes: np.ndarray, unit: int) -> np.ndarray:
    """The order of an epoch: a permutation in which units of one shape lie together.

    `shapes` has a number for the shape of each entry. Units are counted from the first epoch's
    start, so the first samples here may complete the last unit of the epoch before. Those, and the
    last, are what is left over by full units.
    """
    generator = torch.Generator().manual_seed(derive(seed, f"order {name}", epoch))
    shuffled = torch.randperm(len(shapes), generator=generator).numpy()
    full, loose = _units_and_rest(shuffled, shapes[shuffled], unit)
    units = full[torch.randperm(len(full), generator=generator).numpy()]
    begun = -epoch * len(shapes) % unit
    # whole units complete the one that was begun, where what is left over does not suffice
    moved = min(max(-(-(begun - len(loose)) // unit), 0), len(units))
    loose = np.concatenate([loose, units[len(units) - moved :][::-1].reshape(-1)])
    order = np.concatenate([loose[:begun], units[: len(units) - moved].reshape(-1), loose[begun:]])
    return order.astype(np.int32)


def _units_and_rest(
    shuffled: np.ndarray, shapes: np.ndarray, unit: int
) -> tuple[np.ndarray, np.ndarray]:
    """Entries of one shape in units `(U, unit)`, and those left over; shapes as they come up."""
    _, first = np.unique(shapes, return_index=True)
    units, rest = [np.zeros((0, unit), shuffled.dtype)], [np.zeros(0, shuffled.dtype)]
    for shape in shapes[np.sort(first)].tolist():
        alike = shuffled[shapes == shape]
        full = len(alike) // unit * unit
        units.append(alike[:full].reshape(-1, unit))
        rest.append(alike[full:])
    return np.concatenate(units), np.concatenate(rest)


def step_batches(
    streams: Sequence[Stream],
    step: int,
    *,
    share: int,
    most: int,
    process: int,
    processes: int,
    objective: Objective,
) -> list[Batch]:
    """The batches of process `process` in `step` (counted from 1), of at most `most` samples each.

    Every stream gives `share` samples to every process. The loss of the step is the sum of
    weights times errors, divided by `share`; all processes' mean is that of `processes * share`.
    """
    first = ((step - 1) * processes + process) * share
    parts = [
        stream.at(position, objective=objective)
        for stream in streams
        for position in range(first, first + share)
    ]
    batches = pack(parts, most=most)
    return [replace(batch, regularizer_share=1 / len(batches)) for batch in batches]


def pack(parts: Sequence[Batch], *, most: int) -> list[Batch]:
    """As few batches of at most `most` samples as shapes allow."""
    by_shape: dict[torch.Size, list[Batch]] = {}
    for part in parts:
        by_shape.setdefault(part.latents.shape[1:], []).append(part)
    return [
        Batch.join(alike[start : start + most])
        for alike in by_shape.values()
        for start in range(0, len(alike), most)
    ]


def _as_seen(prompt_embeds: Conditioning, view: View) -> Conditioning:
    """With the sizes that SDXL is told (height before width)."""
    width, height = view.size
    return prompt_embeds.sized((height, width), original=view.original[::-1], crop=view.corner)


def _as_rgb(levels: Tensor) -> Tensor:
    """Bytes of colour or grey control images -> `(B, 3, H, W)` in 0..1; floats stay as they are."""
    if levels.is_floating_point():
        return levels
    # by a tensor: CUDA multiplies by the inverse of a number, which rounds otherwise than a CPU
    whole = torch.full((), 255.0, device=levels.device)
    return (levels / whole).expand(-1, 3, -1, -1).contiguous()


def _join_masks(parts: Sequence[Batch]) -> Tensor | None:
    if all(part.mask is None for part in parts):
        return None
    return torch.cat(
        [torch.ones_like(part.latents[:, :1]) if part.mask is None else part.mask for part in parts]
    )


def _join_control_images(parts: Sequence[Batch]) -> Tensor | None:
    images = [part.control_image for part in parts if part.control_image is not None]
    if len({image.shape[1] for image in images}) > 1:  # grey ones beside colour ones
        images = [image.expand(-1, 3, -1, -1) for image in images]
    return torch.cat(images) if images else None

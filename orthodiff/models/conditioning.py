"""What a denoiser takes beside the noisy latent: the prompt, and for some families the size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Conditioning:
    """What steers `B` samples.

    `hidden` `(B, tokens, width)` is read by cross-attention. `pooled` `(B, width)` sums a prompt
    up, and `time_ids` `(B, 6)` holds original size, crop and target size (each height or top
    first, in pixels); both are None in families whose UNet does not ask for them.
    """

    hidden: Tensor
    pooled: Tensor | None = None
    time_ids: Tensor | None = None

    def __len__(self) -> int:
        return len(self.hidden)

    @staticmethod
    def join(parts: Sequence[Conditioning]) -> Conditioning:
        """One after the other, all of one family."""
        names = parts[0].tensors()
        return Conditioning(**{n: torch.cat([part.tensors()[n] for part in parts]) for n in names})

    def __getitem__(self, indices: Tensor | Sequence[int] | slice) -> Conditioning:
        """The samples at `indices`, repeated where an index is."""
        return Conditioning(**{name: t[indices] for name, t in self.tensors().items()})

    def tensors(self) -> dict[str, Tensor]:
        """What is not None, by name; `Conditioning(**tensors)` makes an equal one."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Conditioning:
        """On `device`; `hidden` and `pooled` as `dtype`, sizes as they are."""
        moved = {name: tensor.to(device) for name, tensor in self.tensors().items()}
        if dtype is not None:
            moved.update({n: t.to(dtype) for n, t in moved.items() if n != "time_ids"})
        return Conditioning(**moved)

    def expand(self, count: int) -> Conditioning:
        """One sample, `count` times over."""
        return Conditioning(**{n: t.expand(count, *t.shape[1:]) for n, t in self.tensors().items()})

    def zeroed(self, at: Sequence[bool] | None = None) -> Conditioning:
        """The same sizes with zeros for a prompt, everywhere or only in the samples marked."""
        keep = torch.zeros(len(self)) if at is None else ~torch.tensor(at)
        return replace(
            self,
            hidden=self.hidden * keep.to(self.hidden)[:, None, None],
            pooled=None if self.pooled is None else self.pooled * keep.to(self.pooled)[:, None],
        )

    def sized(
        self,
        target: tuple[int, int],
        *,
        original: tuple[int, int] | None = None,
        crop: tuple[int, int] = (0, 0),
    ) -> Conditioning:
        """The same for images of `target` height and width, in families that take the size.

        `original` is the image's size before it was scaled and cropped, `crop` the top left
        corner of the cut.
        """
        if self.time_ids is None:
            return self
        sizes = torch.tensor([*(original or target), *crop, *target])
        return replace(self, time_ids=sizes.to(self.time_ids).expand(len(self), 6))

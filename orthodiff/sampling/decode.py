"""Latents to 8-bit images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from PIL import Image
from torch import Tensor

from orthodiff.errors import UserError
from orthodiff.models import Base

AT_ONCE = 1024 * 1024
"""Pixels that are decoded together."""


def decode_latents(base: Base, latents: Tensor) -> list[Image.Image]:
    """Latents `(B, C, h, w)` -> images.

    Raises:
        UserError: the autoencoder's numbers are not finite.
    """
    height, width = latents.shape[-2:]
    together = max(AT_ONCE // (height * width * base.factor**2), 1)
    with _tiled(base, latents):
        return [
            _to_image(pixels)
            for part in latents.split(together)
            for pixels in base.decode_batch(part)
        ]


@contextmanager
def _tiled(base: Base, latents: Tensor) -> Iterator[None]:
    """Within, large images are decoded in tiles that overlap."""
    height, width = latents.shape[-2:]
    if height * width * base.factor**2 <= base.tile_above:
        yield
        return
    base.vae.enable_tiling()
    try:
        yield
    finally:
        base.vae.disable_tiling()


def _to_image(pixels: Tensor) -> Image.Image:
    """Pixels `(3, H, W)` in [-1, 1] -> 8-bit RGB."""
    if not torch.isfinite(pixels).all():
        raise UserError(
            f"The autoencoder's output is non-finite in {str(pixels.dtype).removeprefix('torch.')}"
            ", so the image would be black. Its weights may be damaged."
        )
    # rounded, not cut off, which would darken every image by half a level
    levels = ((pixels.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return Image.fromarray(levels.permute(1, 2, 0).cpu().numpy())

"""What the loss is."""

from __future__ import annotations

from pydantic import Field

from .base import Options


class ObjectiveOptions(Options):
    snr_gamma: float | None = Field(None, gt=0, description="min-SNR weighting; 5.0 is usual")
    noise_offset: float = Field(
        0.0, ge=0, description="add this much noise per channel, to learn dark and bright; try 0.05"
    )
    unmasked_weight: float = Field(
        0.1, ge=0, le=1, description="weight of the loss outside of an image's mask; 1: no masks"
    )

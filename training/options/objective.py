"""What the loss is."""

from __future__ import annotations

from pydantic import Field

from training.options.base import Options


class ObjectiveOptions(Options):
    snr_gamma: float | None = Field(None, gt=0, description="min-SNR weighting; 5.0 is usual")

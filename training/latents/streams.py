"""The streams of samples that a run draws its batches from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orthodiff.control import Condition
from orthodiff.models import Base

from ..data.captions import CaptionRules
from ..data.example import Example
from ..data.views import Views
from .encode import encode
from .sampler import Stream


@dataclass(frozen=True)
class StreamSettings:
    """What all streams of a run have in common.

    `unit` is how many samples of a stream one optimizer step sees, over all processes.
    """

    views: Views
    captions: CaptionRules
    cache_dir: Path
    seed: int
    unit: int
    noise_offset: float = 0.0
    condition: Condition | None = None
    skip_bad_files: bool = False


def make_stream(
    base: Base,
    name: str,
    examples: Sequence[Example],
    settings: StreamSettings,
    *,
    weight: float = 1.0,
) -> Stream:
    """A stream over `examples`, encoded as the `settings` say."""
    encoded = encode(
        base,
        examples,
        views=settings.views,
        captions=settings.captions,
        folder=settings.cache_dir / "encoded",
        condition=settings.condition,
        skip_bad_files=settings.skip_bad_files,
    )
    return Stream(
        name,
        encoded,
        settings.seed,
        unit=settings.unit,
        weight=weight,
        noise_offset=settings.noise_offset,
    )

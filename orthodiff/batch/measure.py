"""How many images to make at once, and whether to merge, by trying it: batching can lose."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from orthodiff.models import Base, Conditioning
from orthodiff.ops.held import parameters_held

SIZES = (1, 2, 4, 8, 16, 32)
WORTH = 0.97
"""A larger batch must take less than this share of the time per image."""
MOST_SECONDS = 6.0
"""No further size is tried once so long was measured."""
MEASURING_SHARE = 0.1
"""Nor once measuring took so much of the time that the images need one by one."""
MEMORY_SHARE = 0.5
"""Of the memory that is free, what a batch may take."""


@dataclass(frozen=True)
class Measurement:
    """What was tried for images of `pixels`, and what follows from it.

    Merging an adapter takes `merge_seconds`, and saves `merge_saves` an image.
    """

    batch_size: int
    pixels: int
    seconds_per_image: float
    merge_seconds: float = 0.0
    merge_saves: float = 0.0
    why: str = ""

    def size_for(self, pixels: int) -> int:
        """The batch size for images of another size: larger ones in smaller batches."""
        return max(1, min(self.batch_size, self.batch_size * self.pixels // max(pixels, 1)))

    def merge_pays(self, images: int) -> bool:
        """Whether to merge an adapter of which there are so many images."""
        return self.merge_saves * images > self.merge_seconds

    def written(self) -> dict[str, Any]:
        """For the manifest, as JSON."""
        return asdict(self)


@dataclass(frozen=True)
class TimedImages:
    """A step of which kind is timed: images of `size` (height, width), in `steps` steps."""

    prompt: str
    size: tuple[int, int]
    steps: int
    guided: bool

    @property
    def pixels(self) -> int:
        return self.size[0] * self.size[1]


def best_batch_size(
    base: Base, sample: TimedImages, *, most: int
) -> tuple[int, dict[int, float], str]:
    """The size that makes images fastest, seconds per image and step by size, and why it stopped.

    Raises:
        RuntimeError: not even one image at a time works.
    """
    times: dict[int, float] = {}
    begun, reason = time.monotonic(), f"there are no more than {most} alike"
    for size in [each for each in SIZES if each <= most]:
        alone = times.get(1, 0.0) * sample.steps * most
        if size > 2 and time.monotonic() - begun > min(MOST_SECONDS, MEASURING_SHARE * alone):
            reason = f"measuring took {time.monotonic() - begun:.1f} s"
            break
        before = _memory_used(base.device)
        try:
            times[size] = step_seconds(base, sample, size) / size
        except (torch.OutOfMemoryError, MemoryError):
            if size == 1:
                raise
            reason = f"the memory does not hold {size}"
            break
        if size > 1 and times[size] > WORTH * times[size // 2]:
            reason = f"{size} at once gain nothing"
            break
        grown = _memory_used(base.device) - before
        if grown > MEMORY_SHARE * _memory_free(base.device):
            reason = f"{2 * size} would take more than half of the memory that is free"
            break
    return min(times, key=lambda size: times[size]), times, reason


def step_seconds(base: Base, sample: TimedImages, count: int) -> float:
    """The time of one denoising step of `count` images, the better of two after a first."""
    height, width = (side // base.factor for side in sample.size)
    rows = count * (1 + sample.guided)
    noise = torch.randn(rows, base.latent_channels, height, width).to(base.device, base.dtype)
    embedded = base.embed(sample.prompt).sized(sample.size)
    conditioning = Conditioning.join([embedded] * rows)
    timestep = base.new_scheduler(sample.steps, size=sample.size).timesteps[0]
    base.denoiser.eval()
    with torch.no_grad(), parameters_held():
        tries = [_timed(base, lambda: base.predict(noise, timestep, conditioning)) for _ in "abc"]
    return min(tries[1:])


def _timed(base: Base, action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    if base.device.type == "cuda":
        torch.cuda.synchronize(base.device)
    return time.perf_counter() - begun


def _memory_used(device: torch.device) -> int:
    """The most bytes this process has taken so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    with suppress(OSError, ValueError, IndexError):
        return _kilobytes("/proc/self/status", "VmHWM") * 1024
    return 0


def _memory_free(device: torch.device) -> float:
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    with suppress(OSError, ValueError, IndexError):
        return _kilobytes("/proc/meminfo", "MemAvailable") * 1024.0
    return float("inf")


def _kilobytes(path: str, name: str) -> int:
    lines = Path(path).read_text("ascii", "replace").splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])

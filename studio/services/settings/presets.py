"""Steps, learning rate, batch and precision that suit a base and a preset.

What suits the embedded demo model ruins a real one: its learning rate is thirty times too high
there. The figures of Stable Diffusion are those of the recipes in `configs/`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from orthodiff.io.assets import shipped
from orthodiff.models import Recommended
from orthodiff.models.base import native_resolution, read_recommended
from orthodiff.training.options.adapter import default_learning_rate

Preset = Literal["quick", "balanced", "faithful"]
Family = Literal["demo", "sd", "sdxl"]
PRESETS: tuple[Preset, ...] = ("quick", "balanced", "faithful")
STEPS: dict[Family, dict[Preset, int]] = {
    "demo": {"quick": 150, "balanced": 300, "faithful": 600},
    "sd": {"quick": 400, "balanced": 800, "faithful": 1600},
    "sdxl": {"quick": 500, "balanced": 1000, "faithful": 2000},
}
LEARNING_RATES: dict[Family, float] = {"sd": 1e-4, "sdxl": 5e-5}
DEMO_SIDE, SD_SIDE = 256, 768
"""Native sides in pixels up to which a base counts as the demo model, and as Stable Diffusion."""


@dataclass(frozen=True)
class PresetValues:
    """What a preset sets on a base; `mixed_precision` None means full precision."""

    max_train_steps: int
    learning_rate: float
    train_batch_size: int
    resolution: int
    gradient_checkpointing: bool
    mixed_precision: str | None


def preset_family(base: str) -> Family:
    """Which recipe suits a base, by the side it was made for; a hub id is taken for SD or SDXL."""
    side = native_resolution(shipped(base))
    if side is None:
        return "sdxl" if "xl" in base.lower() else "sd"
    return "demo" if side <= DEMO_SIDE else "sd" if side <= SD_SIDE else "sdxl"


def advise(base: str, method: str, preset: Preset) -> PresetValues:
    """The settings of a preset for a method on a base, on this computer."""
    family = preset_family(base)
    is_demo, gpu = family == "demo", torch.cuda.is_available()
    return PresetValues(
        max_train_steps=STEPS[family][preset],
        learning_rate=LEARNING_RATES.get(family) or default_learning_rate(method),
        train_batch_size=4 if is_demo else 1,
        resolution=sampling_advice(base).resolution,
        gradient_checkpointing=family == "sdxl",
        mixed_precision="bf16" if gpu and not is_demo else None,
    )


def sampling_advice(base: str) -> Recommended:
    """What the makers of a base advise for sampling, without loading it."""
    folder = shipped(base)
    default = 1024 if preset_family(base) == "sdxl" else Recommended.resolution
    return read_recommended(folder, native_resolution=native_resolution(folder) or default)

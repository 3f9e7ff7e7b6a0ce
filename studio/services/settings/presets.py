"""Steps, learning rate, batch and precision that suit a base and a preset.

What suits the embedded demo model ruins a real one: its learning rate is thirty times too high
there. Rates, batch and steps of a family are the trainer's own, `training.run.defaults`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from orthodiff.io.assets import shipped
from orthodiff.models import Recommended
from orthodiff.models.base import native_resolution, read_recommended
from orthodiff.training.options.adapter import default_learning_rate
from orthodiff.training.options.optimise import OptimiseOptions
from orthodiff.training.run.defaults import FAMILY_DEFAULTS, SMALL

Preset = Literal["quick", "balanced", "faithful"]
Family = Literal["demo", "sd", "sdxl"]
PRESETS: tuple[Preset, ...] = ("quick", "balanced", "faithful")
SHARES: dict[Preset, float] = {"quick": 0.5, "balanced": 1.0, "faithful": 2.0}
"""Of the steps that are right for a base."""
DEMO_STEPS = 300
BATCH_SIZE = int(OptimiseOptions.model_fields["train_batch_size"].default)
DEMO_SIDE, SD_SIDE = 256, 768
"""Native sides in pixels up to which a base counts as the demo model, and as Stable Diffusion."""


@dataclass(frozen=True)
class PresetValues:
    """What a preset sets on a base; `mixed_precision` None leaves it to the trainer."""

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
    defaults = FAMILY_DEFAULTS[SMALL if family == "demo" else family]
    settings = {"max_train_steps": DEMO_STEPS, "train_batch_size": BATCH_SIZE, **defaults.settings}
    return PresetValues(
        max_train_steps=round(settings["max_train_steps"] * SHARES[preset]),
        learning_rate=defaults.learning_rates.get(method) or default_learning_rate(method),
        train_batch_size=settings["train_batch_size"],
        resolution=sampling_advice(base).resolution,
        gradient_checkpointing=family == "sdxl",
        mixed_precision=None,
    )


def sampling_advice(base: str) -> Recommended:
    """What the makers of a base advise for sampling, without loading it."""
    folder = shipped(base)
    default = 1024 if preset_family(base) == "sdxl" else Recommended.resolution
    return read_recommended(folder, native_resolution=native_resolution(folder) or default)

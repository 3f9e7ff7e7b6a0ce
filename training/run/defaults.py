"""What is right for a base unless flags or YAML say otherwise: by its family and its size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..options.config import Config

if TYPE_CHECKING:
    from orthodiff.models import Base

SMALL = "small"
"""Bases made for images below `SMALL_RESOLUTION` pixels, such as the pocket model: the options'
own defaults are theirs.
"""
SMALL_RESOLUTION = 256


@dataclass(frozen=True)
class FamilyDefaults:
    """Peak learning rates by method, and the other settings that differ between families."""

    learning_rates: Mapping[str, float]
    settings: Mapping[str, Any] = field(default_factory=dict)


# HRA's 1e-4 is of its authors' script, OFT's and BOFT's of theirs, LoRA's of diffusers'; papers
# and examples differ by up to a thousandfold, and nothing of this could be measured here.
LARGE_RATES = {"hra": 1e-4, "oft": 6e-5, "boft": 3e-5, "lora": 1e-4}
FAMILY_DEFAULTS = {
    SMALL: FamilyDefaults({}),
    "sd": FamilyDefaults(LARGE_RATES, {"train_batch_size": 1, "max_train_steps": 800}),
    "sdxl": FamilyDefaults(LARGE_RATES, {"train_batch_size": 1, "max_train_steps": 1000}),
}
"""By `Base.family`; another family, of a package of its own, has the options' plain defaults."""


def base_family(base: Base) -> str:
    """The name in `FAMILY_DEFAULTS`, if the family has one there."""
    is_small = base.recommended.resolution < SMALL_RESOLUTION
    return SMALL if is_small else base.family


def for_base(config: Config, base: Base, *, precision: str) -> tuple[Config, str]:
    """The configuration with the base's defaults where nothing was given, and a line on these."""
    family = base_family(base)
    defaults = FAMILY_DEFAULTS.get(family, FamilyDefaults({}))
    chosen = {n: v for n, v in defaults.settings.items() if n not in config.model_fields_set}
    if config.num_train_epochs is not None:
        chosen.pop("max_train_steps", None)  # epochs count as they were given
    rate = defaults.learning_rates.get(config.method)
    if config.learning_rate is None and config.optimizer != "prodigy" and rate is not None:
        chosen["learning_rate"] = rate
    filled = config.model_copy(update=chosen)
    said = {"learning_rate": f"{filled.peak_lr:g}", "mixed_precision": precision}
    said["resolution"] = str(config.resolution or base.recommended.resolution)
    said |= {name: str(getattr(filled, name)) for name in ("train_batch_size", "max_train_steps")}
    given = {name for name in config.model_fields_set if getattr(config, name) is not None}
    open_settings = [f"{name} {value}" for name, value in said.items() if name not in given]
    return filled, f"Chosen for a base of the family {family}: {', '.join(open_settings)}."

"""What is right for a base unless flags or YAML say otherwise: by its family and its size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orthodiff.errors import UserError

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


LARGE_RATES = {"hra": 1e-4, "oft": 6e-5, "boft": 3e-5, "lora": 1e-4}
"""Published for subjects at batch 1; none was measured here, and sources differ by up to 700 times.

- hra: its authors' script (DaShenZi721/HRA, generation/subject/train_dreambooth_hra.sh: SD 1.5,
  rank 8, 2005 steps). PEFT's example takes 5e-3 (SD 2.1, 1010 steps), the paper 7e-6.
- oft: its authors' script (Zeju1997/oft, oft-db/train_dreambooth_oft.sh: SD 1.5, constrained,
  2005 steps).
- boft: PEFT's example by its authors (examples/boft_dreambooth: SD 2.1, 1010 steps).
- lora: diffusers' scripts for DreamBooth with SD and SDXL (500 steps).

For SDXL only LoRA's is published; there the others are taken over from SD.
"""
FAMILY_DEFAULTS = {
    SMALL: FamilyDefaults({}),
    "sd": FamilyDefaults(LARGE_RATES, {"train_batch_size": 1, "max_train_steps": 800}),
    "sdxl": FamilyDefaults(LARGE_RATES, {"train_batch_size": 1, "max_train_steps": 1000}),
}
"""By `Base.family`."""


def base_family(base: Base) -> str:
    """The name in `FAMILY_DEFAULTS`, if the family has one there."""
    is_small = base.recommended.resolution < SMALL_RESOLUTION
    return SMALL if is_small else base.family


def for_base(config: Config, base: Base, *, precision: str) -> tuple[Config, str]:
    """The configuration with the base's defaults where nothing was given, and a line on these.

    Raises:
        UserError: the family has none, and no learning rate was given.
    """
    family = base_family(base)
    defaults = FAMILY_DEFAULTS.get(family, FamilyDefaults({}))
    if family not in FAMILY_DEFAULTS and config.learning_rate is None:
        _check_finds_its_rate(config, family)
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


def _check_finds_its_rate(config: Config, family: str) -> None:
    if config.optimizer == "prodigy":
        return
    raise UserError(
        f"The base is of the family {family}, for which no preset is known, and the learning rates "
        "of bases differ by a factor of a hundred. Give --learning_rate, for example 1e-4 for a "
        f"large base, or use --optimizer prodigy; --train_batch_size {config.train_batch_size} and "
        f"--max_train_steps {config.max_train_steps} are what it would have."
    )

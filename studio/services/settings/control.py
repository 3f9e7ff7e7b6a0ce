"""The settings of a training on control images, and the configuration they lead to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from orthodiff.control import CONDITIONS, Condition, condition_of
from orthodiff.control.conditions.base import LOCAL
from orthodiff.settings import validate
from orthodiff.training.tasks.control import ControlConfig

from ..jobs.folders import PHOTOS
from .base import FieldError, JobSettings, job_setting
from .limits import check_method, check_text
from .presets import Preset, advise, preset_family, sampling_advice

MOST_STEPS, MOST_PROMPTS = 100_000, 8
BASE, STEPS, MEMORY, SAMPLES = "Base model", "Steps and rates", "Memory", "Samples on the way"
CONTROL_SHARES: dict[Preset, float] = {"quick": 0.25, "balanced": 1.0, "faithful": 2.0}
"""Of a recipe's steps."""
CONVOLUTIONS = tuple(
    f"{block}.resnets.*.{name}"
    for block in ("down_blocks.0", "up_blocks.2")
    for name in ("conv1", "conv2")
)
RECIPES: dict[str, dict[str, Any]] = {
    "demo": {
        "method_settings": {"rank": 24}, "train_batch_size": 16, "max_train_steps": 3000,
        "optimizer": "muon", "learning_rate": 5e-2, "hint_learning_rate": 3e-3,
        "lr_scheduler": "cosine", "lr_warmup_steps": 50,
    },
    "sd": {
        "method_settings": {"rank": 8}, "train_batch_size": 8, "max_train_steps": 20_000,
        "learning_rate": 3e-5, "hint_learning_rate": 3e-5,
    },
}  # fmt: skip
"""What `configs/pocket/canny-hra.yaml` and `configs/sd15/canny-hra.yaml` set for HRA; a test holds
them to it. SDXL has no recipe of its own and takes the latter."""


class ControlSettings(JobSettings):
    """Teach a base model to follow control images."""

    base: str | None = job_setting(None, "Base model", "What is taught", section=BASE)
    preset: Preset = job_setting("balanced", "Preset", "How long to train")
    condition_type: str = job_setting(
        "canny", "Kind of control image", "Computed from the photos, or brought with them",
        max_length=40,
    )  # fmt: skip
    method: str = job_setting("hra", "Method", "How the model may change")
    method_settings: dict[str, float | bool | int | str | None] = job_setting(
        {}, "Settings of the method"
    )
    max_train_steps: int | None = job_setting(
        None, "Steps", "More steps, closer to the control image", section=STEPS, ge=1,
        le=MOST_STEPS, automatic="by the preset",
    )  # fmt: skip
    learning_rate: float | None = job_setting(
        None, "Learning rate", "How far each step goes", section=STEPS, gt=0, le=1,
        automatic="by base and method",
    )  # fmt: skip
    hint_learning_rate: float | None = job_setting(
        None, "Learning rate of the hint encoder", "What reads the control image", section=STEPS,
        gt=0, le=1, automatic="by the base",
    )  # fmt: skip
    train_batch_size: int | None = job_setting(
        None, "Batch size", "Images per step", section=STEPS, ge=1, le=256, automatic="by the base"
    )
    seed: int = job_setting(0, "Seed", "Same seed, same result", section=STEPS, ge=0, lt=2**32)
    resolution: int | None = job_setting(
        None, "Resolution", "Side of the training images", section=MEMORY, unit="pixels",
        ge=32, le=2048, automatic="the base's own",
    )  # fmt: skip
    mixed_precision: Literal["auto", "no", "fp16", "bf16"] = job_setting(
        "auto", "Precision", "bf16 halves the memory on recent GPUs", section=MEMORY
    )
    gradient_checkpointing: bool = job_setting(
        False, "Gradient checkpointing", "Less memory, about a quarter slower", section=MEMORY
    )
    validation_prompts: tuple[str, ...] | None = job_setting(
        None, "Sample prompts", "One per line; each is made with the first control images",
        section=SAMPLES, max_length=MOST_PROMPTS, automatic="the first captions",
    )  # fmt: skip
    validation_steps: int = job_setting(
        200, "Sample every", "Samples, scores and checkpoints", section=SAMPLES, unit="steps",
        ge=1, le=MOST_STEPS,
    )  # fmt: skip


def computable_conditions() -> list[str]:
    """The kinds that are computed from photos without a model of their own."""
    return [name for name, kind in CONDITIONS.items() if _is_computable(kind)]


def check_condition(name: str, *, brings_all: bool) -> Condition:
    """A kind of control image, with its usual settings.

    Raises:
        FieldError: there is no such kind, or it cannot be computed here and a photo brings none.
    """
    if name not in CONDITIONS:
        raise FieldError(
            "condition_type",
            f"`{name}` is no kind of control image. Use one of {', '.join(CONDITIONS)}.",
        )
    condition = condition_of(name)
    if not brings_all and not _is_computable(type(condition)):
        raise FieldError(
            "condition_type",
            f"A {name} image cannot be computed here, as it takes a model of its own. Bring a "
            f"control image with each photo, or use one of {', '.join(computable_conditions())}.",
        )
    return condition


def control_config(
    settings: ControlSettings, *, base: str, folder: Path, samples: Sequence[tuple[str, Path]]
) -> ControlConfig:
    """The checked configuration of a run in `folder`; `samples` are prompts and control images.

    Raises:
        UserError: the first setting that cannot be as it is.
    """
    recipe = _recipe(settings, base)
    method_settings = {**recipe.pop("method_settings"), **settings.method_settings}
    given = {
        name: getattr(settings, name)
        for name in ("learning_rate", "hint_learning_rate", "train_batch_size", "max_train_steps")
        if getattr(settings, name) is not None
    }
    precision = settings.mixed_precision
    values: dict[str, Any] = {
        "pretrained_model_name_or_path": base,
        "train_data_dir": folder / PHOTOS,
        "output_dir": folder,
        "condition_type": settings.condition_type,
        "method": settings.method,
        "seed": settings.seed,
        "resolution": settings.resolution or sampling_advice(base).resolution,
        "mixed_precision": None if precision == "auto" else precision,
        "gradient_checkpointing": settings.gradient_checkpointing,
        "caption_dropout_rate": 0.1,
        "validation_prompt": tuple(check_text("validation_prompts", p) for p, _ in samples),
        "validation_image": tuple(path for _, path in samples),
        "validation_steps": settings.validation_steps,
        "checkpointing_steps": settings.validation_steps,
        "checkpoints_total_limit": 2,
        **recipe,
        **given,
        **check_method(settings.method, method_settings, base),
    }
    if values.get("lr_warmup_steps", 0) >= values["max_train_steps"]:
        del values["lr_warmup_steps"]
    return validate(ControlConfig, values)


def _recipe(settings: ControlSettings, base: str) -> dict[str, Any]:
    """What the recipe for the base says, as far as it holds for the method."""
    family = preset_family(base)
    recipe = dict(RECIPES["demo" if family == "demo" else "sd"])
    recipe["max_train_steps"] = round(recipe["max_train_steps"] * CONTROL_SHARES[settings.preset])
    if settings.method != "hra":
        recipe.pop("optimizer", None)
        recipe["method_settings"] = {}
        recipe["learning_rate"] = advise(base, settings.method, settings.preset).learning_rate
    if Path(base).name == "pocket":  # where this UNet has no attention, which is where edges are
        recipe["target_modules"] = CONVOLUTIONS
    return recipe


def _is_computable(kind: type[Condition]) -> bool:
    return LOCAL not in getattr(kind, "__dataclass_fields__", {}) and kind.name != "landmarks"

"""The settings of a training on a subject or a style, and the configuration they lead to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from orthodiff import ADAPTERS
from orthodiff.settings import validate
from orthodiff.training.tasks.dreambooth import DreamBoothConfig

from ..jobs.folders import PHOTOS
from .base import FieldError, JobSettings, job_setting
from .limits import check_method, check_text
from .presets import Preset, advise

TRIGGER = "sks"
"""A rare word that comes to mean the subject."""
CONTEXTS = ("in the snow", "on the beach")
MOST_STEPS, MOST_PROMPTS = 100_000, 8
BASE, STEPS, MEMORY, SAMPLES = "Base model", "Steps and rate", "Memory", "Samples on the way"
PRIOR = "Keep the class"


class SubjectSettings(JobSettings):
    """Teach a base model one subject or one style."""

    base: str | None = job_setting(None, "Base model", "What is taught", section=BASE)
    preset: Preset = job_setting("balanced", "Preset", "How long to train")
    class_word: str | None = job_setting(
        None, "What is it?", "One or two plain words, such as dog", max_length=60
    )
    trigger: str = job_setting(
        TRIGGER, "Trigger word", "A rare word that comes to mean it", min_length=1, max_length=30
    )
    prompt: str | None = job_setting(
        None, "Training prompt", "Left empty it follows from the words", max_length=300
    )
    style: bool = job_setting(False, "A style", "Learn how images look instead of what they show")
    alpha_mask: bool = job_setting(
        False, "Leave out what is transparent", "Learn only what is opaque in PNG and WebP photos"
    )
    method: str = job_setting("hra", "Method", "How the model may change")
    method_settings: dict[str, float | bool | int | str | None] = job_setting(
        {}, "Settings of the method"
    )
    max_train_steps: int | None = job_setting(
        None, "Steps", "More steps, more likeness", section=STEPS, ge=1, le=MOST_STEPS,
        automatic="by the preset",
    )  # fmt: skip
    learning_rate: float | None = job_setting(
        None, "Learning rate", "How far each step goes", section=STEPS, gt=0, le=1,
        automatic="by base and method",
    )  # fmt: skip
    train_batch_size: int | None = job_setting(
        None, "Batch size", "Images per step", section=STEPS, ge=1, le=256,
        automatic="by the base",
    )  # fmt: skip
    seed: int = job_setting(0, "Seed", "Same seed, same result", section=STEPS, ge=0, lt=2**32)
    resolution: int | None = job_setting(
        None, "Resolution", "Side of the training images", section=MEMORY, unit="pixels",
        ge=32, le=2048, automatic="the base's own",
    )  # fmt: skip
    mixed_precision: Literal["auto", "no", "fp16", "bf16"] = job_setting(
        "auto", "Precision", "bf16 halves the memory on recent GPUs", section=MEMORY
    )
    gradient_checkpointing: bool | None = job_setting(
        None, "Gradient checkpointing", "Less memory, about a quarter slower", section=MEMORY
    )
    validation_prompts: tuple[str, ...] | None = job_setting(
        None, "Sample prompts", "One per line; {trigger} stands for the trigger word",
        section=SAMPLES, max_length=MOST_PROMPTS, automatic="the subject in two places",
    )  # fmt: skip
    validation_steps: int = job_setting(
        100, "Sample every", "Samples, scores and checkpoints", section=SAMPLES, unit="steps",
        ge=10, le=MOST_STEPS,
    )  # fmt: skip
    with_prior_preservation: bool = job_setting(
        False, "Prior preservation", "Also train on images of the class, made by the base",
        section=PRIOR,
    )  # fmt: skip
    num_class_images: int = job_setting(
        100, "Class images", "How many are made", section=PRIOR, ge=1, le=1000
    )


def training_prompt(settings: SubjectSettings) -> str:
    """The prompt that comes to mean the subject.

    Raises:
        FieldError: neither a prompt nor a class word says what it is.
    """
    if settings.prompt and settings.prompt.strip():
        return check_text("prompt", settings.prompt.strip())
    word = check_text("class_word", (settings.class_word or "").strip())
    if settings.style:
        return f"{word or 'an image'} in {settings.trigger} style"
    if not word:
        raise FieldError(
            "class_word", 'Say what is on the photos in one or two plain words, such as "dog".'
        )
    return f"a photo of {settings.trigger} {word}"


def sample_prompts(settings: SubjectSettings) -> tuple[str, ...]:
    """The prompts of the samples on the way."""
    prompt = training_prompt(settings)
    if settings.validation_prompts is None:
        return tuple(f"{prompt} {context}" for context in CONTEXTS)
    lines = (line.strip() for line in settings.validation_prompts)
    return tuple(line.replace("{trigger}", settings.trigger) for line in lines if line)


def subject_config(settings: SubjectSettings, *, base: str, folder: Path) -> DreamBoothConfig:
    """The checked configuration of a run in `folder`, whose photos lie beside.

    Raises:
        UserError: the first setting that cannot be as it is.
    """
    method_values = check_method(settings.method, settings.method_settings, base)
    advice = advise(base, settings.method, settings.preset)
    precision = settings.mixed_precision
    every = settings.validation_steps
    values: dict[str, Any] = {
        "pretrained_model_name_or_path": base,
        "instance_data_dir": folder / PHOTOS,
        "instance_prompt": training_prompt(settings),
        "output_dir": folder,
        "method": settings.method,
        "seed": settings.seed,
        "alpha_mask": settings.alpha_mask,
        "mixed_precision": advice.mixed_precision if precision == "auto" else precision,
        "gradient_checkpointing": _first(
            settings.gradient_checkpointing, advice.gradient_checkpointing
        ),
        "validation_prompt": sample_prompts(settings),
        "validation_steps": every,
        "checkpointing_steps": every,
        "checkpoints_total_limit": 4,
        **_advised(settings, vars(advice)),
        **_prior(settings),
        **method_values,
    }
    return validate(DreamBoothConfig, values)


def method_title(name: str) -> str:
    """What a method is called."""
    return ADAPTERS[name].__name__ if name in ADAPTERS else name


def _advised(settings: SubjectSettings, advice: Mapping[str, Any]) -> dict[str, Any]:
    """What was filled in, else what is advised."""
    names = ("max_train_steps", "learning_rate", "train_batch_size", "resolution")
    return {name: _first(getattr(settings, name), advice[name]) for name in names}


def _prior(settings: SubjectSettings) -> dict[str, Any]:
    if not settings.with_prior_preservation:
        return {}
    word = (settings.class_word or "").strip()
    if not word:
        raise FieldError(
            "class_word", "Prior preservation needs the class: say in one word what it is."
        )
    return {
        "with_prior_preservation": True,
        "class_prompt": f"a photo of a {word}",
        "num_class_images": settings.num_class_images,
    }


def _first(given: Any, otherwise: Any) -> Any:
    return otherwise if given is None else given

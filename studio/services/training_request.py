"""From what a person filled in to the configuration of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orthodiff.errors import UserError
from orthodiff.settings import validate
from orthodiff.training.tasks.dreambooth import DreamBoothConfig

from ..widgets.forms import (
    lines,
    number,
    read_settings,
    whole,
)
from .jobs.store import PHOTOS

TOKEN = "sks"
"""A rare word that comes to mean the subject."""
CONTEXTS = ("in the snow", "on the beach")
MOST_STEPS = 100_000


@dataclass(frozen=True)
class TrainForm:
    """The fields of the page as they came; `settings` are those of the chosen method."""

    base: str
    prompt: str
    method: str
    settings: Mapping[str, Any]
    steps: Any
    learning_rate: Any
    batch_size: Any
    seed: Any
    sample_every: Any
    sample_prompts: str


def make_config(form: TrainForm, *, bases: Sequence[str], folder: Path) -> DreamBoothConfig:
    """The checked configuration of a run in `folder`.

    Raises:
        UserError: the first field that cannot be as it is.
    """
    if form.base not in bases:
        raise UserError("This base model is not offered here. Choose one from the list.")
    if not form.prompt.strip():
        raise UserError(
            "The prompt that names your subject is empty. Write for example "
            f'"{name_prompt("dog")}".'
        )
    steps = whole("Steps", form.steps, least=1, most=MOST_STEPS)
    every = whole("Sample pictures every", form.sample_every, least=1)
    values = {
        "pretrained_model_name_or_path": form.base,
        "instance_data_dir": folder / PHOTOS,
        "instance_prompt": form.prompt.strip(),
        "output_dir": folder,
        "method": form.method,
        "max_train_steps": steps,
        "learning_rate": number("Learning rate", form.learning_rate, least=0, most=1, above=True),
        "train_batch_size": whole("Pictures per step", form.batch_size, least=1, most=256),
        "seed": whole("Seed", form.seed, most=2**32 - 1),
        "validation_prompt": lines(form.sample_prompts),
        "validation_steps": every,
        "checkpointing_steps": max(every, 100),
        "checkpoints_total_limit": 2,
        **read_settings(form.method, form.settings),
    }
    return validate(DreamBoothConfig, values)


def name_prompt(class_word: str) -> str:
    """The prompt that names a subject of this kind."""
    return f"a photo of {TOKEN} {class_word.strip()}".strip()


def in_contexts(prompt: str) -> str:
    """The subject in a few places, one prompt per line."""
    return "\n".join(f"{prompt.strip()} {context}" for context in CONTEXTS)

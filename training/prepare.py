"""Everything a run needs, gathered and checked before anything is written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import orthodiff
from orthodiff import Adapter
from orthodiff.errors import UserError
from orthodiff.families import Base, load_base
from orthodiff.pictures import find_pictures
from training.config import DreamBoothConfig
from training.dataset import Example, load_examples
from training.method import setting_flags
from training.optimise import eight_bit_adamw
from training.prior import check_class_folder
from training.state import check_output, find_checkpoint, load_checkpoint
from training.trackers import check_tensorboard

if TYPE_CHECKING:
    from accelerate import Accelerator

HARMFUL = (
    "pretrained_model_name_or_path",
    "instance_prompt",
    "class_prompt",
    "with_prior_preservation",
    "prior_loss_weight",
    "num_class_images",
    "method",
    "seed",
    "resolution",
    "train_batch_size",
    "gradient_accumulation_steps",
    "learning_rate",
    "scale_lr",
    "lr_scheduler",
    "lr_warmup_steps",
    "lr_num_cycles",
    "lr_power",
    "use_8bit_adam",
    "adam_beta1",
    "adam_beta2",
    "adam_weight_decay",
    "adam_epsilon",
    "max_grad_norm",
    "snr_gamma",
)
DTYPES = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Parts:
    """The pieces of a run, the base still unadapted; `checkpoint` is what to go on from, if any."""

    config: DreamBoothConfig
    accelerator: Accelerator
    base: Base
    num_parameters: int
    examples: list[Example]
    checkpoint: Mapping[str, Any] | None

    @property
    def resolution(self) -> int:
        return self.config.resolution or self.base.recommended.resolution

    @property
    def start_step(self) -> int:
        return int(self.checkpoint["step"]) if self.checkpoint else 0


def prepare(config: DreamBoothConfig) -> Parts:
    """Load and check everything.

    Raises:
        UserError: the run cannot be done as asked; nothing has been written.
    """
    from accelerate import Accelerator

    checkpoint = _checkpoint(config)
    going_on = checkpoint is not None
    check_output(config.output_dir, resume=going_on, overwrite=config.overwrite_output_dir)
    find_pictures(config.instance_data_dir)
    check_class_folder(config)
    check_extras(config)
    accelerator = Accelerator(mixed_precision=config.mixed_precision)
    torch.backends.cuda.matmul.allow_tf32 = config.allow_tf32
    base = load_base(
        config.pretrained_model_name_or_path,
        revision=config.revision,
        variant=config.variant,
        dtype=DTYPES.get(accelerator.mixed_precision, torch.float32),
        device=str(accelerator.device),
    )
    num_parameters = _check_fit(config, base)
    resolution = config.resolution or base.recommended.resolution
    _check_resolution(resolution, base)
    examples = load_examples(
        config.instance_data_dir, config.instance_prompt, resolution=resolution
    )
    return Parts(config, accelerator, base, num_parameters, examples, checkpoint)


def check_extras(config: DreamBoothConfig) -> None:
    """Refuse what needs a package that is not installed.

    Raises:
        UserError: naming the package.
    """
    if config.use_8bit_adam:
        eight_bit_adamw()
    if config.report_to == "tensorboard":
        check_tensorboard()


def _check_fit(config: DreamBoothConfig, base: Base) -> int:
    """Try the adapter on and take it off again; its number of parameters."""
    adapter = attach(config, base)
    count = adapter.num_parameters
    adapter.detach()
    return count


def attach(config: DreamBoothConfig, base: Base) -> Adapter:
    """Attach the configured adapter at its start; same seed, same start.

    Raises:
        UserError: the settings do not fit the base's layers.
    """
    generator = torch.Generator().manual_seed(config.seed)
    return orthodiff.attach(base.unet, config.adapter(), generator=generator)


def _checkpoint(config: DreamBoothConfig) -> dict[str, Any] | None:
    if config.resume_from_checkpoint is None:
        return None
    folder = find_checkpoint(config.output_dir, config.resume_from_checkpoint)
    if folder is None:
        return None
    state = load_checkpoint(folder)
    _check_same_run(config, json.loads(state["config"]), folder)
    if state["step"] > config.max_train_steps:
        raise UserError(
            f"`{folder}` is already past `max_train_steps` {config.max_train_steps}. "
            f"Ask for more than {state['step']} steps, or resume from an earlier checkpoint."
        )
    return state


def _check_same_run(config: DreamBoothConfig, saved: Mapping[str, Any], folder: Path) -> None:
    now = config.resolved()
    names = (*HARMFUL, *(name for name in now if name in setting_flags()))
    changed = [name for name in names if now[name] != saved.get(name)]
    if changed:
        name = changed[0]
        raise UserError(
            f"`{name}` is {now[name]!r}, but `{folder}` was trained with {saved.get(name)!r}, so "
            "it cannot go on like this. Put it back, or start afresh in another --output_dir."
        )


def _check_resolution(resolution: int, base: Base) -> None:
    if resolution % base.factor:
        lower = resolution // base.factor * base.factor
        raise UserError(
            f"`resolution` is {resolution}, but it must be a multiple of {base.factor} for this "
            f"base. Use {lower or base.factor} or {lower + base.factor}."
        )

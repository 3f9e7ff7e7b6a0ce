"""Every option of a run, once: YAML keys, flags, defaults, help and checks all come from here.

Names are those of diffusers' DreamBooth scripts. A method's own settings (`rank`, `block_size`,
...) come from its dataclass in `orthodiff.ADAPTERS`; in YAML and on the command line they stand
beside the others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from orthodiff.adapters import ADAPTERS, Method
from orthodiff.errors import UserError
from orthodiff.flags import Flag, flags_of, nearest, parse_flags, validate
from training.method import make_method, setting_flags

USUAL_RATES = {"hra": 3e-3, "oft": 1e-3, "boft": 1e-3, "lora": 1e-3}
OWN_KEYS = ("settings",)


def usual_rate(method: str) -> float:
    """The peak learning rate of a method unless another is given."""
    return USUAL_RATES.get(method, 1e-4)


class DreamBoothConfig(BaseModel):
    """Personalise a base model on a handful of pictures of one subject."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pretrained_model_name_or_path: str = Field(
        description="base model: a diffusers-format folder or a hub id"
    )
    revision: str | None = Field(None, description="revision of the base model on the hub")
    variant: str | None = Field(None, description="variant of the base's weight files, e.g. fp16")
    instance_data_dir: Path = Field(description="folder with the subject's pictures")
    instance_prompt: str = Field(
        min_length=1, description="prompt naming the subject with a rare token: a photo of sks dog"
    )
    class_data_dir: Path | None = Field(
        None, description="folder with pictures of the class (prior preservation)"
    )
    class_prompt: str | None = Field(None, description="prompt of the class: a photo of a dog")
    with_prior_preservation: bool = Field(
        False, description="also train on pictures of the class, so that it is not forgotten"
    )
    prior_loss_weight: float = Field(1.0, ge=0, description="weight of the class pictures' loss")
    num_class_images: int = Field(
        100, ge=1, description="class pictures; missing ones are made with the base, once"
    )
    sample_batch_size: int = Field(4, ge=1, description="batch size when making class pictures")
    output_dir: Path = Field(Path("runs/dreambooth"), description="folder of the run")
    overwrite_output_dir: bool = Field(
        False, description="replace the run that the output folder already holds"
    )
    cache_dir: Path | None = Field(
        None, description="keep encoded and class pictures here [~/.cache/orthodiff]"
    )
    method: str = Field("hra", description="adapter: " + ", ".join(ADAPTERS))
    settings: dict[str, Any] = Field(default_factory=dict)
    seed: int = Field(0, ge=0, lt=2**63, description="seed of everything random")
    resolution: int | None = Field(
        None, ge=8, description="side of the square pictures in pixels [the base's own]"
    )
    center_crop: bool = Field(True, description="cut the middle square of each picture")
    train_batch_size: int = Field(4, ge=1, description="subject pictures per step and process")
    gradient_accumulation_steps: int = Field(1, ge=1, description="batches per optimizer step")
    gradient_checkpointing: bool = Field(
        False, description="less memory, about a quarter more time per step"
    )
    max_train_steps: int = Field(400, ge=1, description="optimizer steps")
    learning_rate: float | None = Field(None, gt=0, description="peak rate [the method's own]")
    scale_lr: bool = Field(
        False, description="multiply the rate by processes, accumulation and batch size"
    )
    lr_scheduler: Literal[
        "constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial"
    ] = Field("constant", description="course of the rate over the steps")
    lr_warmup_steps: int = Field(0, ge=0, description="steps of rising rate at the start")
    lr_num_cycles: int = Field(1, ge=1, description="restarts of cosine_with_restarts")
    lr_power: float = Field(1.0, gt=0, description="power of polynomial")
    use_8bit_adam: bool = Field(False, description="8-bit AdamW (extra: bitsandbytes; GPU)")
    adam_beta1: float = Field(0.9, ge=0, lt=1, description="AdamW's first decay")
    adam_beta2: float = Field(0.999, ge=0, lt=1, description="AdamW's second decay")
    adam_weight_decay: float = Field(0.0, ge=0, description="AdamW's weight decay")
    adam_epsilon: float = Field(1e-8, gt=0, description="AdamW's epsilon")
    max_grad_norm: float = Field(1.0, ge=0, description="clip the gradient to this norm; 0: never")
    snr_gamma: float | None = Field(None, gt=0, description="min-SNR weighting; 5.0 is usual")
    mixed_precision: Literal["no", "fp16", "bf16"] | None = Field(
        None, description="precision of the base and the activations [accelerate's setting]"
    )
    allow_tf32: bool = Field(False, description="TF32 matrix products on Ampere and newer GPUs")
    validation_prompt: tuple[str, ...] = Field(
        (), description="prompt of the pictures made on the way; may be repeated"
    )
    num_validation_images: int = Field(1, ge=1, description="pictures per validation prompt")
    validation_steps: int = Field(100, ge=1, description="make them at step 0 and every N steps")
    checkpointing_steps: int = Field(500, ge=1, description="save a checkpoint every N steps")
    checkpoints_total_limit: int | None = Field(
        None, ge=1, description="keep only the newest N checkpoints"
    )
    resume_from_checkpoint: str | None = Field(
        None, description="latest, or the path of a checkpoint-N folder"
    )
    report_to: Literal["none", "tensorboard"] = Field(
        "none", description="also log to this tracker; events.jsonl is always written"
    )
    logging_dir: str = Field("logs", description="the tracker's folder inside the output folder")

    @model_validator(mode="before")
    @classmethod
    def _gather_settings(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Move the method's settings, which lie flat beside the others, into `settings`."""
        known = set(setting_flags())
        inner = dict(values.get("settings", {}))
        inner.update({name: value for name, value in values.items() if name in known})
        outer = {name: value for name, value in values.items() if name not in known}
        if isinstance(outer.get("validation_prompt"), str):
            outer["validation_prompt"] = (outer["validation_prompt"],)
        return {**outer, "settings": inner}

    @model_validator(mode="after")
    def _check(self) -> DreamBoothConfig:
        self.adapter()
        if not self.center_crop:
            raise ValueError(
                "`center_crop` is off, but pictures are encoded once: there are no random crops. "
                "Leave the flag out, or crop the pictures beforehand."
            )
        if self.with_prior_preservation and not self.class_prompt:
            raise ValueError(
                "`with_prior_preservation` needs the prompt of the class. "
                'Add --class_prompt, for example "a photo of a dog".'
            )
        if self.class_data_dir and not self.with_prior_preservation:
            raise ValueError(
                "`class_data_dir` is given, but the class pictures would not be used. "
                "Add --with_prior_preservation or leave the folder out."
            )
        return self

    def adapter(self) -> Method:
        """The method's settings object.

        Raises:
            UserError: unknown method, a setting it does not have, or a value it cannot take.
        """
        return make_method(self.method, self.settings)

    @property
    def rate(self) -> float:
        """The peak learning rate before scaling."""
        return self.learning_rate or usual_rate(self.method)

    def resolved(self) -> dict[str, Any]:
        """All values as YAML and JSON know them, the method's settings beside the others."""
        plain = self.model_dump(mode="json", exclude={"settings"})
        return {**plain, **dataclasses.asdict(self.adapter())}

    def to_yaml(self) -> str:
        """The resolved configuration; reading it again gives an equal one."""
        return yaml.safe_dump(self.resolved(), sort_keys=False, allow_unicode=True)


def read_config(arguments: Sequence[str], *, prog: str) -> DreamBoothConfig:
    """Flags over YAML over defaults.

    Raises:
        UserError: anything unknown, missing, contradictory or out of range.
    """
    flags = [
        Flag("config", "YAML file with any of the settings below; flags win over it"),
        *(flag for flag in flags_of(DreamBoothConfig) if flag.name not in OWN_KEYS),
        *setting_flags().values(),
    ]
    given = parse_flags(flags, arguments, prog=prog, description=DreamBoothConfig.__doc__ or "")
    path = given.pop("config", None)
    written = read_yaml(Path(path)) if path else {}
    usual = DreamBoothConfig.model_fields["method"].default
    if "method" in given and given["method"] != written.get("method", usual):
        written = {name: v for name, v in written.items() if name not in setting_flags()}
    return validate(DreamBoothConfig, {**written, **given})


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file of settings.

    Raises:
        UserError: no such file, not YAML, or a key nobody knows (the nearest one is named).
    """
    if not path.is_file():
        raise UserError(f"The configuration file `{path}` does not exist. Check --config.")
    try:
        values = yaml.safe_load(path.read_text("utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = str(error).replace("\n", " ")
        raise UserError(f"`{path}` is not valid YAML: {where}. Correct it there.") from error
    if not isinstance(values, Mapping):
        raise UserError(f"`{path}` must hold `name: value` lines. Compare it with configs/.")
    known = [*DreamBoothConfig.model_fields, *setting_flags()]
    for name in values:
        if name not in known or name in OWN_KEYS:
            raise UserError(f"`{name}` in `{path}` is not a setting.{nearest(str(name), known)}")
    return dict(values)

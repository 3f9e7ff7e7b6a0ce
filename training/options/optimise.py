"""Steps, batches, the optimizer and the course of its rate."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from training.options.base import Harmless, Options, is_on


class OptimiseOptions(Options):
    seed: int = Field(0, ge=0, lt=2**63, description="seed of everything random")
    train_batch_size: Annotated[int, Harmless] = Field(
        4, ge=1, description="subject pictures per batch and process"
    )
    gradient_accumulation_steps: Annotated[int, Harmless] = Field(
        1, ge=1, description="batches per optimizer step"
    )
    max_train_steps: Annotated[int, Harmless] = Field(400, ge=1, description="optimizer steps")
    num_train_epochs: Annotated[int | None, Harmless] = Field(
        None, ge=1, description="the steps of so many passes over the pictures instead"
    )
    learning_rate: float | None = Field(
        None, gt=0, description="peak rate [hra 3e-3, others 1e-3: rates of the pocket model]"
    )
    scale_lr: bool = Field(
        False, description="multiply the rate by processes, accumulation and batch size"
    )
    lr_scheduler: Literal[
        "constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial"
    ] = Field("constant", description="course of the rate over the steps")
    lr_warmup_steps: int = Field(0, ge=0, description="steps of rising rate at the start")
    lr_num_cycles: int = Field(1, ge=1, description="restarts of cosine_with_restarts")
    lr_power: float = Field(1.0, gt=0, description="power of polynomial")
    optimizer: Literal["adamw", "adamw8bit", "prodigy", "schedulefree"] = Field(
        "adamw", description="adamw, adamw8bit, prodigy (finds its rate) or schedulefree (extras)"
    )
    use_8bit_adam: Annotated[bool, Harmless] = Field(
        False, description="the same as --optimizer adamw8bit"
    )
    adam_beta1: float = Field(0.9, ge=0, lt=1, description="AdamW's first decay")
    adam_beta2: float = Field(0.999, ge=0, lt=1, description="AdamW's second decay")
    adam_weight_decay: float = Field(0.0, ge=0, description="AdamW's weight decay")
    adam_epsilon: float = Field(1e-8, gt=0, description="AdamW's epsilon")
    max_grad_norm: float = Field(1.0, ge=0, description="clip the gradient to this norm; 0: never")
    use_ema: bool = Field(False, description="show and save a moving average of the adapter")
    ema_decay: float = Field(0.999, gt=0, lt=1, description="how much of the average a step keeps")

    @model_validator(mode="before")
    @classmethod
    def _name_optimizer(cls, values: dict[str, Any]) -> dict[str, Any]:
        """`use_8bit_adam` names an optimizer too."""
        if not is_on(values.get("use_8bit_adam")):
            return values
        if values.get("optimizer", "adamw8bit") not in ("adamw", "adamw8bit"):
            raise ValueError(
                f"`use_8bit_adam` and `optimizer` {values['optimizer']} contradict each other. "
                "Leave one of them out."
            )
        return {**values, "optimizer": "adamw8bit"}

    def idle_rates(self) -> list[str]:
        """What was said of the rate's course and does not count, one sentence each."""
        course, found = self.lr_scheduler, {}
        if self.lr_warmup_steps and course == "constant" and self.optimizer != "schedulefree":
            found["lr_warmup_steps"] = "use --lr_scheduler constant_with_warmup"
        if self.lr_num_cycles != 1 and course != "cosine_with_restarts":
            found["lr_num_cycles"] = "use --lr_scheduler cosine_with_restarts"
        if self.lr_power != 1 and course != "polynomial":
            found["lr_power"] = "use --lr_scheduler polynomial"
        return [
            f"`{name}` has no effect: `lr_scheduler` is {course}; {remedy}."
            for name, remedy in found.items()
        ]

    @model_validator(mode="after")
    def _check_schedule_free(self) -> Self:
        if self.optimizer != "schedulefree":
            return self
        if not self.lr_scheduler.startswith("constant"):
            raise ValueError(
                f"`lr_scheduler` is {self.lr_scheduler}, but schedulefree needs no schedule. "
                "Leave the flag out; --lr_warmup_steps still counts."
            )
        if self.use_ema:
            raise ValueError(
                "`use_ema` is on, but schedulefree shows an average already. Leave one of them out."
            )
        return self

"""Steps, batches, the optimizer and the course of its rate."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from .alias import Alias
from .base import Harmless, Options

DEFAULT_EMA_DECAY = 0.999


class OptimiseOptions(Options):
    seed: int = Field(0, ge=0, lt=2**63, description="seed of everything random")
    train_batch_size: Annotated[int, Harmless] = Field(
        4, ge=1, description="subject images per batch and process; 1 for SD and SDXL"
    )
    gradient_accumulation_steps: Annotated[int, Harmless] = Field(
        1, ge=1, description="batches per optimizer step"
    )
    max_train_steps: Annotated[int, Harmless] = Field(
        400, ge=1, description="optimizer steps; 800 for SD, 1000 for SDXL"
    )
    num_train_epochs: Annotated[int | None, Harmless] = Field(
        None, ge=1, description="the steps of so many passes over the images instead"
    )
    learning_rate: float | None = Field(
        None,
        gt=0,
        description="peak learning rate [SD and SDXL: hra and lora 1e-4, oft 6e-5, boft 3e-5; "
        "small bases: hra 3e-3, others 1e-3]",
    )
    scale_lr: bool = Field(
        False, description="multiply the learning rate by processes, accumulation and batch size"
    )
    lr_scheduler: Literal[
        "constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial"
    ] = Field("constant", description="schedule of the learning rate")
    lr_warmup_steps: int = Field(
        0, ge=0, description="steps over which the learning rate rises at the start"
    )
    lr_num_cycles: int = Field(1, ge=1, description="restarts of cosine_with_restarts")
    lr_power: float = Field(1.0, gt=0, description="power of polynomial")
    optimizer: Literal["adamw", "muon", "adamw8bit", "prodigy", "schedulefree"] = Field(
        "adamw",
        description="adamw, muon (learns more a step at a higher learning rate), or, as extras, "
        "adamw8bit, prodigy (finds its learning rate) or schedulefree",
    )
    use_8bit_adam: Annotated[bool, Harmless, Alias("optimizer", on="adamw8bit")] = Field(
        False, exclude=True, description="the same as --optimizer adamw8bit"
    )
    adam_beta1: float = Field(0.9, ge=0, lt=1, description="AdamW's first decay, and muon's")
    adam_beta2: float = Field(0.999, ge=0, lt=1, description="AdamW's second decay")
    adam_weight_decay: float = Field(0.0, ge=0, description="AdamW's weight decay")
    adam_epsilon: float = Field(1e-8, gt=0, description="AdamW's epsilon")
    max_grad_norm: float = Field(1.0, ge=0, description="clip the gradient to this norm; 0: never")
    use_ema: bool = Field(False, description="show and save a moving average of the adapter")
    ema_decay: float = Field(
        DEFAULT_EMA_DECAY, gt=0, lt=1, description="how much of the average a step keeps"
    )

    def notes(self) -> list[str]:
        idle = not self.use_ema and self.ema_decay != DEFAULT_EMA_DECAY
        said = "`ema_decay` has no effect: no average is kept; add --use_ema."
        return [
            *super().notes(),
            *self._idle_rates(),
            *self._long_warm_up(),
            *([said] if idle else []),
        ]

    def in_effect(self) -> dict[str, Any]:
        idle = [*self._idle_settings_of_the_course(), *([] if self.use_ema else ["ema_decay"])]
        return {**super().in_effect(), **dict.fromkeys(idle)}

    def _long_warm_up(self) -> list[str]:
        """Whether the run ends before its learning rate has risen to the peak."""
        has_warm_up = self.lr_scheduler != "constant" or self.optimizer == "schedulefree"
        if not has_warm_up or self.lr_warmup_steps < self.max_train_steps:
            return []
        return [
            f"`lr_warmup_steps` is {self.lr_warmup_steps}, but the run has {self.max_train_steps} "
            "steps: it ends before the learning rate has reached its peak."
        ]

    def _idle_rates(self) -> list[str]:
        """What was said of the rate's course and does not count, one sentence each."""
        fields = type(self).model_fields
        return [
            f"`{name}` has no effect: `lr_scheduler` is {self.lr_scheduler}; {remedy}."
            for name, remedy in self._idle_settings_of_the_course().items()
            if getattr(self, name) != fields[name].default
        ]

    def _idle_settings_of_the_course(self) -> dict[str, str]:
        """Those that do not count, each with what would make it count."""
        scheduler, idle = self.lr_scheduler, {}
        if scheduler == "constant" and self.optimizer != "schedulefree":
            idle["lr_warmup_steps"] = "use --lr_scheduler constant_with_warmup"
        if scheduler != "cosine_with_restarts":
            idle["lr_num_cycles"] = "use --lr_scheduler cosine_with_restarts"
        if scheduler != "polynomial":
            idle["lr_power"] = "use --lr_scheduler polynomial"
        return idle

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


class ObjectiveOptions(Options):
    snr_gamma: float | None = Field(None, gt=0, description="min-SNR weighting; 5.0 is usual")
    noise_offset: float = Field(
        0.0, ge=0, description="add this much noise per channel, to learn dark and bright; try 0.05"
    )
    unmasked_weight: float = Field(
        0.1, ge=0, le=1, description="weight of the loss outside of an image's mask; 1: no masks"
    )

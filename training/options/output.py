"""Where a run lies, what it keeps, whom it tells, and whether it is published on the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, model_validator
from typing_extensions import Self

from .base import Harmless, Options


class CheckpointOptions(Options):
    output_dir: Annotated[Path, Harmless] = Field(
        Path("runs/dreambooth"), description="folder of the run"
    )
    overwrite_output_dir: Annotated[bool, Harmless] = Field(
        False,
        exclude=True,
        description="replace the run that the output folder already holds",
    )
    checkpointing_steps: Annotated[int, Harmless] = Field(
        100, ge=1, description="save a checkpoint every N steps, and at the end"
    )
    checkpoints_total_limit: Annotated[int | None, Harmless] = Field(
        None, ge=1, description="keep only the newest N checkpoints (at least 2) and the best"
    )
    resume_from_checkpoint: Annotated[str | None, Harmless] = Field(
        None, description="latest, or the path of a checkpoint-N folder"
    )


class LogOptions(Options):
    report_to: Annotated[
        Literal["none", "tensorboard", "wandb", "trackio", "all"] | None, Harmless
    ] = Field(
        None,
        description="also log to this tracker, or to all that are installed; events.jsonl is "
        "always written [tensorboard, if it is installed]",
    )
    logging_dir: Annotated[str, Harmless] = Field(
        "logs", description="TensorBoard's folder inside the output folder"
    )


class HubOptions(Options):
    push_to_hub: Annotated[bool, Harmless] = Field(
        False, description="upload the adapter and its images to the hub at the end"
    )
    hub_model_id: Annotated[str | None, Harmless] = Field(
        None, description="repository on the hub [the output folder's name]"
    )
    hub_token: Annotated[SecretStr | None, Harmless] = Field(
        None, exclude=True, description="token of the hub, never saved [the one of `hf auth login`]"
    )

    @model_validator(mode="after")
    def _check_hub(self) -> Self:
        for name in ("hub_model_id", "hub_token"):
            if getattr(self, name) is not None and not self.push_to_hub:
                raise ValueError(
                    f"`{name}` is given, but nothing would be uploaded. Add --push_to_hub, or "
                    "leave it out."
                )
        return self

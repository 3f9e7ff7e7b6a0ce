"""Who is told besides events.jsonl."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .base import Harmless, Options


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

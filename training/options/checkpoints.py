"""Where a run lies, what it keeps and where it goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

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

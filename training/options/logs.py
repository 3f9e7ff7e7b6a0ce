"""Who is told besides events.jsonl."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from training.options.base import Harmless, Options


class LogOptions(Options):
    report_to: Annotated[Literal["none", "tensorboard"], Harmless] = Field(
        "none", description="also log to this tracker; events.jsonl is always written"
    )
    logging_dir: Annotated[str, Harmless] = Field(
        "logs", description="the tracker's folder inside the output folder"
    )

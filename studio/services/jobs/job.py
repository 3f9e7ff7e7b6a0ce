"""A job: what was asked for, by whom, and how far it is. Immutable; the store makes new ones."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Status = Literal["queued", "running", "succeeded", "failed", "cancelled", "interrupted"]
Kind = Literal["dreambooth", "control", "batch", "evaluate", "generate", "imported"]
"""`imported` is an adapter that no job has made; no executor ever gets it."""
Wish = Literal["", "cancel", "pause", "finish"]

TERMINAL: tuple[Status, ...] = ("succeeded", "failed", "cancelled", "interrupted")
RESUMABLE: tuple[Status, ...] = ("failed", "cancelled", "interrupted")
TRAININGS: tuple[Kind, ...] = ("dreambooth", "control")
JOB_ID = re.compile(r"j[0-9a-f]{12}")


@dataclass(frozen=True)
class Job:
    """One row of the store; times are unix seconds.

    `request` is the snapshot of the settings, `summary` what remains to be shown when it has ended,
    `handle` how its executor finds its process again. `attempt` counts starts, so that a late word
    about an earlier process changes nothing. `wish` is how a running job has been asked to end:
    `finish` lets a batch write the image that it is making.
    """

    id: str
    kind: Kind
    owner: str
    name: str
    status: Status
    folder: Path
    created: float
    request: Mapping[str, Any] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    handle: Mapping[str, Any] = field(default_factory=dict)
    position: float = 0.0
    attempt: int = 0
    wish: Wish = ""
    started: float | None = None
    ended: float | None = None
    trashed: float | None = None
    error: str = ""

    @property
    def is_active(self) -> bool:
        """Whether it waits or runs."""
        return self.status not in TERMINAL

    @property
    def lane(self) -> str:
        """Which workers it waits for: images on the page do not wait for a night's training."""
        return "images" if self.kind == "generate" else "training"


def new_id() -> str:
    """An id that nobody can guess."""
    return f"j{secrets.token_hex(6)}"

"""After which steps a run saves and measures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Intervals:
    """A checkpoint every `checkpointing_steps` and at the end; validation every
    `validation_steps` and wherever a checkpoint is due, so that each checkpoint has its scores.
    """

    checkpointing_steps: int
    validation_steps: int
    last_step: int

    def saves(self, step: int) -> bool:
        """Whether `step` ends with a checkpoint."""
        return step % self.checkpointing_steps == 0 or step == self.last_step

    def validates(self, step: int) -> bool:
        """Whether `step` ends with validation; step 0, the untrained base, always does."""
        return step % self.validation_steps == 0 or self.saves(step)

"""What an adapter's file says about how it was trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingRecipe:
    """The settings of a run that its adapter's metadata and its model card repeat.

    `task` is what the task says of itself, such as the instance prompt.
    """

    task: Mapping[str, str]
    seed: int
    learning_rate: float
    train_batch_size: int
    resolution: int
    base_sha256: str

    def metadata(self, *, steps: int, seconds: float) -> dict[str, str]:
        """The recipe after so many steps and seconds, as text."""
        return {
            **self.task,
            "steps": str(steps),
            "seed": str(self.seed),
            "learning_rate": f"{self.learning_rate:g}",
            "train_batch_size": str(self.train_batch_size),
            "resolution": str(self.resolution),
            "base_sha256": self.base_sha256,
            "seconds": f"{seconds:.1f}",
        }

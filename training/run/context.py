"""The pieces of a run, gathered and checked, before anything is trained or written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic

from orthodiff.evaluation.metrics import Scorer
from orthodiff.models import Base

from ..data.dataset import Examples
from ..data.example import Example
from ..options.config import Config
from ..tasks import Task

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class RunContext(Generic[Config]):
    """What `prepare` gathers and `build_trainer` takes apart again; the base is still unadapted.

    Nothing else in the package sees the whole of it. `prior_given` are the user's class images,
    `held_out` examples are only measured on, `scorer` scores validation images, `checkpoint` is
    the state to resume from. `provenance` is what else than settings decides where the run ends,
    `chosen` says what was set by default.
    """

    task: Task[Config]
    config: Config
    accelerator: Accelerator
    base: Base
    num_parameters: int
    examples: Examples
    prior_given: Examples
    held_out: Sequence[Example]
    scorer: Scorer | None
    checkpoint: Mapping[str, Any] | None
    repository: str | None
    provenance: Mapping[str, Any]
    chosen: str

    @property
    def resolution(self) -> int:
        return self.config.resolution or self.base.recommended.resolution

    @property
    def start_step(self) -> int:
        return int(self.checkpoint["step"]) if self.checkpoint else 0

    @property
    def seconds_before(self) -> float:
        """Seconds of training behind the checkpoint."""
        return float(self.checkpoint["seconds"]) if self.checkpoint else 0.0

    @property
    def continues_output_dir(self) -> bool:
        """Whether the checkpoint is of the very run in the output folder."""
        return bool(self.checkpoint and self.checkpoint["continues"])

    @property
    def samples_per_process(self) -> int:
        """Samples of the subject in one step of one process."""
        return self.config.train_batch_size * self.config.gradient_accumulation_steps

    @property
    def samples_per_step(self) -> int:
        """Samples of the subject in one step, over all processes."""
        return self.samples_per_process * self.accelerator.num_processes

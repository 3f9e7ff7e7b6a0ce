"""What the loop asks of a task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, Generic

from torch import Tensor

from ..data.dataset import Examples
from ..data.readers.records import DataRequest
from ..options.config import Config

if TYPE_CHECKING:
    from orthodiff.components.adapter_set import AdapterSet
    from orthodiff.control import Condition, Steering
    from orthodiff.models import Base
    from orthodiff.sampling import GenerateRequest

    from ..data.example import Example
    from ..latents.sampler import Batch
    from ..run.shares import Shares


class Task(ABC, Generic[Config]):
    """A kind of training; it has no state, so that one object serves every run.

    `config` is the class of its configuration, whose docstring heads the help.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    config: type[Config]
    has_subject: ClassVar[bool] = True
    """Whether images are to look like those that are learned from."""

    def check(self, config: Config) -> None:
        """Look at what else the run needs than its `examples`.

        Raises:
            UserError: it cannot be used.
        """
        return

    @abstractmethod
    def examples(self, config: Config) -> Examples:
        """What the run learns from, looked at before the base is loaded.

        Raises:
            UserError: there is nothing, or some cannot be used (named).
        """

    def notes(self, config: Config, *, resolution: int) -> list[str]:
        """What will be done otherwise than may be thought, one sentence each."""
        return []

    def samples_per_epoch(self, config: Config, examples: Examples) -> int:
        """How many samples one pass over the `examples` sees."""
        return examples.samples_per_epoch

    def held_out(self, config: Config) -> Sequence[Example]:
        """The images of `validation_data_dir`, read as the training's are.

        Raises:
            UserError: there are none, or one cannot be read (named).
        """
        return []

    def prior_examples(
        self, config: Config, base: Base, *, given: Examples, resolution: int, shares: Shares
    ) -> Sequence[Example]:
        """What the run must not unlearn, made with the unadapted `base` if need be.

        `given` is what `prior_given` returned: what it has open is not opened again.
        """
        return []

    def prior_weight(self, config: Config) -> float:
        """The weight of their loss."""
        return 1.0

    def prior_given(self, config: Config) -> Examples:
        """The images among them that the user gave, opened ahead.

        Raises:
            UserError: one cannot be used.
        """
        return Examples((), DataRequest())

    def trial_config(self, config: Config) -> Config:
        """The same with as little of what the run makes first as a dry run can measure."""
        return config

    def not_in_trial(self, config: Config) -> str | None:
        """What a dry run therefore does not measure."""
        return None

    def condition(self, config: Config) -> Condition | None:
        """The kind of control images that it learns to follow."""
        return None

    @abstractmethod
    def attach(self, config: Config, base: Base) -> AdapterSet:
        """Put what is learned into `base`, at its start; same seed, same start.

        Raises:
            UserError: the settings do not fit the base's layers.
        """

    def init_from_data(self, adapter_set: AdapterSet, first_seen: Callable[[], Batch]) -> None:
        """Fit the start of `adapter_set` to the first samples, the same in all processes."""
        return

    @abstractmethod
    def predict(self, base: Base, adapter_set: AdapterSet, noisy: Tensor, batch: Batch) -> Tensor:
        """The adapted UNet's output `(B, C, h, w)` for the batch's noisy latents."""

    def steering(
        self, config: Config, adapter_set: AdapterSet, request: GenerateRequest
    ) -> Steering | None:
        """What steers the validation images of a resolved `request` beside their prompts."""
        return None

    @abstractmethod
    def describe(self, config: Config) -> dict[str, str]:
        """What the file of the adapter says about its task."""

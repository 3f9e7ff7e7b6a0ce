"""What a run takes of a GPU, by doing its start and a step of it on the stand-in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from ..events.log import Event
from ..options.config import Config
from ..run.assemble import build_trainer
from ..run.context import RunContext
from .hollow import hollow_base
from .stand_in import DEVICE, StandIn

CARD, CARD_FLOPS = "RTX 4090", 165e12
"""The card that minutes are told for, and its multiplications and additions a second in bf16, as
its data sheet has them."""
USED, LAUNCH = 0.4, 14e-6
"""Of these a training reaches about so much; and Python takes about so many seconds to launch a
kernel. Both are assumptions: no GPU was at hand."""


@dataclass(frozen=True)
class RunEstimate:
    """Bytes on the device until the first step (`start`) and in a step, and a step's work."""

    start: int
    step: int
    flops: int
    launches: int

    @property
    def peak(self) -> int:
        """The most that is there at any time, in bytes."""
        return max(self.start, self.step)

    @property
    def seconds(self) -> float:
        """Of a step on `CARD`: arithmetic or launches, whichever takes longer."""
        return max(self.flops / (CARD_FLOPS * USED), self.launches * LAUNCH)


def estimate(context: RunContext[Config]) -> RunEstimate:
    """Count what the run of `context` needs; its base is left as it is."""
    with TemporaryDirectory() as scratch, StandIn() as device:
        trainer = build_trainer(_small(context, Path(scratch)), _ignore)
        start, before = device.ledger.restart(), device.ledger.held
        device.flops = device.launches = 0
        trainer.step(context.start_step + 1)
        states = device.ledger.held - before  # of the optimizer: there from the second step on
        step = device.ledger.restart() + states
    batches = context.config.gradient_accumulation_steps
    times = batches / min(batches, 2)
    return RunEstimate(start, step, int(device.flops * times), int(device.launches * times))


def _small(context: RunContext[Config], scratch: Path) -> RunContext[Config]:
    """The same run of one image; more than two accumulated batches need no more memory."""
    config = context.task.trial_config(context.config)
    changes = {
        "output_dir": scratch / "run",
        "cache_dir": scratch / "cache",
        "replay": False,
        "gradient_accumulation_steps": min(config.gradient_accumulation_steps, 2),
    }
    return replace(
        context,
        config=config.model_copy(update=changes),
        base=hollow_base(context.base, DEVICE),
        examples=context.examples[:1],
        held_out=context.held_out[:1],
        checkpoint=None,
        scorer=None,
    )


def _ignore(event: Event) -> None:
    """Nobody hears of a trial."""

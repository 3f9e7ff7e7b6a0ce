"""What to do when memory runs out: the switches that are still off, the most helpful first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..options.config import RunConfig


@dataclass(frozen=True)
class OomHint:
    """A `switch` that lowers the peak of memory by the share `saves`, while it `is_open`."""

    saves: float
    switch: Callable[[RunConfig], str]
    is_open: Callable[[RunConfig], bool]


OOM_HINTS = {
    "gradient_checkpointing": OomHint(
        0.473,
        lambda config: "--gradient_checkpointing",
        lambda config: not config.gradient_checkpointing,
    ),
    "train_batch_size": OomHint(
        0.492,
        lambda config: (
            "--train_batch_size 1 --gradient_accumulation_steps "
            f"{config.train_batch_size * config.gradient_accumulation_steps}"
        ),
        lambda config: config.train_batch_size > 1,
    ),
    "attention": OomHint(
        0.604,
        lambda config: "--attention sdpa",
        lambda config: config.attention == "math",
    ),
    "mixed_precision": OomHint(
        0.499,
        lambda config: "--mixed_precision bf16",
        lambda config: config.mixed_precision in (None, "no"),
    ),
    "resolution": OomHint(
        0.490,
        lambda config: "half the --resolution",
        lambda config: True,
    ),
}
"""Each alone, of the peak of a step: Stable Diffusion 1.5's UNet, HRA of rank 8, float32, batch 4
at 512 pixels, 9.36 GiB. Counted by `python -m benchmarks.memory_switches`.

Latents and prompts are cached in any case, so that neither autoencoder nor text encoder is there;
8-bit optimizers save next to nothing where only an adapter is learned.
"""


def oom_hint(config: RunConfig) -> str:
    """One clause that names the switches in order, and what each saves."""
    still_off = [each for each in OOM_HINTS.values() if each.is_open(config)]
    ordered = sorted(still_off, key=lambda each: -each.saves)
    said = ", ".join(f"{each.switch(config)} (saves {each.saves:.0%})" for each in ordered)
    return (
        f"these help, the most first: {said}; go on with --resume_from_checkpoint latest, "
        "or afresh with another precision or resolution"
    )

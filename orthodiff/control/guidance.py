"""What steers the images of one request: a control, its control images, how much and when."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from PIL import Image

from orthodiff.control.adapter import Control
from orthodiff.control.image import to_tensor
from orthodiff.errors import UserError

At = Callable[[int, int], AbstractContextManager[None]]
"""Step and number of steps -> within this, the UNet is steered, or is not."""


@dataclass(frozen=True)
class Steering:
    """`control_images` are RGB, of the images' size and one per image.

    Hints count `strength` times, in the steps that lie from the share `start` to the share `end`
    of all (as `control_guidance_start` and `_end` of diffusers).
    """

    control: Control
    control_images: Sequence[Image.Image]
    strength: float = 1.0
    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end <= 1:
            raise UserError(
                f"Control lasts from {self.start} to {self.end}, but 0 <= start < end <= 1 is due."
            )

    def over(self, batch: slice) -> At:
        """Encode the control images of some images once, for all their steps."""
        hints = self.control.encode(to_tensor(self.control_images[batch]))

        def at(step: int, steps: int) -> AbstractContextManager[None]:
            if not self.lasts(step, steps):
                return nullcontext()
            return self.control.guided(hints, strength=self.strength)

        return at

    def lasts(self, step: int, steps: int) -> bool:
        """Whether control images count in a step, which must lie wholly between start and end."""
        return self.start <= step / steps and (step + 1) / steps <= self.end


def unsteered(step: int, steps: int) -> AbstractContextManager[None]:
    """No control image steers."""
    return nullcontext()

"""The same events for TensorBoard."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from orthodiff.errors import UserError
from training.events import Event, Failed, Finished, Sample, Step


def check_tensorboard() -> None:
    """Refuse early what would fail later.

    Raises:
        UserError: tensorboard is not installed.
    """
    if find_spec("tensorboard") is None:
        raise UserError(
            "`report_to` is tensorboard, which is not installed. "
            "Run `pip install tensorboard`, or leave the flag out."
        )


class TensorBoard:
    """Writes loss, rate and sample pictures into `folder`."""

    def __init__(self, output_dir: Path, *, folder: str) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.output_dir = output_dir
        self.writer = SummaryWriter(str(output_dir / folder))

    def __call__(self, event: Event) -> None:
        if isinstance(event, Step):
            self.writer.add_scalar("loss", event.loss, event.step)
            self.writer.add_scalar("learning_rate", event.learning_rate, event.step)
        elif isinstance(event, Sample):
            self._pictures(event)
        elif isinstance(event, Finished | Failed):
            self.writer.close()

    def _pictures(self, event: Sample) -> None:
        import numpy as np
        from PIL import Image

        for path, prompt, seed in zip(event.paths, event.prompts, event.seeds, strict=True):
            pixels = np.asarray(Image.open(self.output_dir / path))
            self.writer.add_image(f"{prompt} ({seed})", pixels, event.step, dataformats="HWC")

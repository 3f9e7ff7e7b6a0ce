"""The same events for TensorBoard, Weights & Biases or trackio, through accelerate's trackers."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from orthodiff.errors import UserError, is_unicode, printable

from .log import (
    Event,
    Failed,
    Finished,
    Sample,
    Scored,
    Started,
    Step,
)

if TYPE_CHECKING:
    from ..options.config import RunConfig

PROJECT = "orthodiff"
DEFAULT = "tensorboard"
TRACKERS = (DEFAULT, "wandb", "trackio")


def chosen_trackers(config: RunConfig) -> list[str]:
    """The trackers to log to; unless asked for it is TensorBoard where that can be.

    Raises:
        UserError: the one asked for is not installed.
    """
    name = config.report_to
    if name == "none":
        return []
    if name in (None, "all"):
        trackers = TRACKERS if name else (DEFAULT,)
        return [each for each in trackers if find_spec(each) and not _unwritable(each, config)]
    if find_spec(name) is None:
        raise UserError(
            f"`report_to` is {name}, which is not installed. "
            f"Run `pip install {name}`, or leave the flag out."
        )
    if reason := _unwritable(name, config):
        raise UserError(f"{reason} Use --report_to none, or another --output_dir.")
    return [name]


def tracker_notes(config: RunConfig) -> list[str]:
    """Why a tracker that would be used by default is not, one sentence each."""
    if config.report_to not in (None, "all") or not find_spec(DEFAULT):
        return []
    reason = _unwritable(DEFAULT, config)
    return [reason] if reason else []


def _unwritable(tracker: str, config: RunConfig) -> str | None:
    """Why a tracker cannot write where this run would have it."""
    folder = str(config.output_dir / config.logging_dir)
    if tracker != DEFAULT or is_unicode(folder):
        return None
    return f"TensorBoard cannot write into `{printable(folder)}`, a name that is not in UTF-8."


def check_log(config: RunConfig) -> None:
    """Refuse trackers that could not begin.

    Raises:
        UserError: one is not installed, or its folder is a file.
    """
    place = config.output_dir / config.logging_dir
    if DEFAULT in chosen_trackers(config) and place.exists() and not place.is_dir():
        raise UserError(f"`logging_dir` is `{place}`, which is a file. Give a folder.")


class Tracker:
    """Logs loss, rate, scores and images. Once it has begun, its troubles end no run."""

    def __init__(self, name: str, config: RunConfig) -> None:
        self.name, self.config = name, config
        self.tracker: Any = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, Started):
            self.tracker = self._open(event.start_step)
        elif self.tracker is not None:
            try:
                self._tell(event)
            except Exception as error:
                self.tracker = None
                print(f"{self.name} is told no more: {error}", file=sys.stderr)

    def _open(self, start_step: int) -> Any:
        """Open the log; TensorBoard hides what an earlier turn did beyond `start_step`."""
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        kind: Any = LOGGER_TYPE_TO_CLASS[self.name]
        if kind.requires_logging_directory:
            folder = str(self.config.output_dir / self.config.logging_dir)
            tracker = kind(PROJECT, folder, purge_step=start_step + 1)
        else:
            tracker = kind(PROJECT, name=self.config.output_dir.name)
        tracker.start()
        plain = (str, int, float, bool, type(None))
        settings = self.config.resolved().items()
        tracker.store_init_configuration(
            {name: value if isinstance(value, plain) else str(value) for name, value in settings}
        )
        return tracker

    def _tell(self, event: Event) -> None:
        if isinstance(event, Step):
            values = {"loss": event.loss, "learning_rate": event.learning_rate}
            self.tracker.log(values, step=event.step)
        elif isinstance(event, Scored):
            self.tracker.log(_measured(event), step=event.step)
        elif isinstance(event, Sample):
            self._images(event)
        elif isinstance(event, Finished | Failed):
            self.tracker.finish()

    def _images(self, event: Sample) -> None:
        import numpy as np
        from PIL import Image

        if not hasattr(self.tracker, "log_images"):
            return
        layout = {"dataformats": "NHWC"} if self.name == "tensorboard" else {}
        for path, prompt, seed in zip(event.paths, event.prompts, event.seeds, strict=True):
            pixels = np.asarray(Image.open(self.config.output_dir / path))[None]
            self.tracker.log_images({f"{prompt} ({seed})": pixels}, step=event.step, **layout)


def _measured(event: Scored) -> dict[str, float]:
    values = {
        "validation_loss": event.loss,
        "subject_similarity": event.subject_similarity,
        "prompt_similarity": event.prompt_similarity,
        **{
            f"subject_similarity_{name}": value
            for name, value in event.subject_similarities.items()
        },
    }
    return {name: value for name, value in values.items() if value is not None}

"""The events of a run, shown to whoever watches it."""

from __future__ import annotations

import sys
from typing import TextIO

from tqdm import tqdm

from .log import (
    Event,
    Finished,
    Sample,
    Saved,
    Scored,
    Started,
    Step,
)


class ProgressBar:
    """A bar with loss and time left on a terminal; a line every tenth of the way elsewhere."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self.bar: tqdm | None = None
        self.total = self.processes = 0

    def __call__(self, event: Event) -> None:
        if isinstance(event, Started):
            self._start(event)
        elif isinstance(event, Step):
            self._step(event)
        elif isinstance(event, Saved):
            self._say(f"saved {event.path}")
        elif isinstance(event, Sample):
            self._say(f"sampled {len(event.paths)} images at step {event.step}")
        elif isinstance(event, Scored):
            self._say(f"step {event.step}: {scores_of(event)}")
        else:
            self._end(event)

    def _start(self, event: Started) -> None:
        self.total, self.processes = event.steps, event.processes
        for reason in event.passed_over:
            self._say(f"passed over: {reason}")
        self._say(
            f"{event.method}: {event.parameters:,} trainable parameters on {event.base}, "
            f"steps {event.start_step} to {event.steps}"
        )
        if self.stream.isatty():
            self.bar = tqdm(
                total=event.steps, initial=event.start_step, unit="step", file=self.stream
            )

    def _step(self, event: Step) -> None:
        if self.bar is not None:
            self.bar.set_postfix(loss=f"{event.loss:.4f}", refresh=False)
            self.bar.update(1)
        elif event.step % max(self.total // 10, 1) == 0 or event.step == self.total:
            self._say(
                f"step {event.step}/{self.total}  loss {event.loss:.4f}  "
                f"{event.eta_seconds:.0f} s left"
            )

    def _end(self, event: Event) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None
        if isinstance(event, Finished):
            if event.samples_per_second:
                crew = f"{self.processes} process{'es' if self.processes > 1 else ''}"
                self._say(f"{event.samples_per_second:.2f} samples a second on {crew}")
            if event.best_step is not None:
                self._say(f"best: step {event.best_step} ({event.best_reason})")

    def _say(self, text: str) -> None:
        if self.bar is not None:
            self.bar.write(text, file=self.stream)
        else:
            print(text, file=self.stream, flush=True)


def scores_of(event: Scored) -> str:
    """What was measured, in words."""
    said = []
    if event.loss is not None:
        said.append(f"loss on {event.loss_of} {event.loss:.4f}")
    if event.subject_similarity is not None:
        said.append(f"subject similarity {event.subject_similarity:.3f}")
    for name, similarity in event.subject_similarities.items():
        said.append(f"by {name} {similarity:.3f}")
    if event.prompt_similarity is not None:
        said.append(f"prompt similarity {event.prompt_similarity:.3f}")
    return ", ".join(said)

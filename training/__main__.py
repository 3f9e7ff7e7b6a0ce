"""`python -m training TASK ...`: train an adapter. Exit codes: 0 done, 2 bad request, 1 failed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from orthodiff.errors import UserError
from orthodiff.flags import nearest
from training.events import Event, EventLog, Failed, Report, Started, Step
from training.failures import explain
from training.progress import ProgressBar

if TYPE_CHECKING:
    from training.config import RunConfig
    from training.prepare import Parts
    from training.tasks import Task

CHECK, CHECKING = "check", "report on a folder of pictures before any training"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print(_usage(), end="")
        return 0
    try:
        if words[0] == CHECK:
            from training.data.command import run_check

            return run_check(words[1:])
        return run(_task(words[0]), words[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def run(task: Task, arguments: Sequence[str]) -> int:
    """Train as the flags say.

    Raises:
        UserError: the request cannot be carried out; nothing has been written.
    """
    from training.config import read_config

    config = read_config(arguments, task.config, prog=f"python -m training {task.name}")
    from orthodiff.options import hush

    hush()
    from training.folder import open_run
    from training.prepare import prepare

    parts = prepare(task, config)
    if not parts.accelerator.is_main_process:
        return _run(parts, _Narrator([]))
    resume, overwrite = parts.checkpoint is not None, config.overwrite_output_dir
    with open_run(config.output_dir, resume=resume, overwrite=overwrite):
        return _run(parts, _Narrator(_listeners(config)))


def _listeners(config: RunConfig) -> list[Report]:
    listeners: list[Report] = [EventLog(config.output_dir / "events.jsonl"), ProgressBar()]
    if config.report_to == "tensorboard":
        from training.trackers import TensorBoard

        listeners.append(TensorBoard(config.output_dir, folder=config.logging_dir))
    return listeners


class _Narrator:
    """Passes events on, and remembers how far the run has come."""

    def __init__(self, listeners: Sequence[Report]) -> None:
        self.listeners = listeners
        self.step = 0

    def __call__(self, event: Event) -> None:
        if isinstance(event, Started):
            self.step = event.start_step
        elif isinstance(event, Step):
            self.step = event.step
        for listener in self.listeners:
            listener(event)

    def last_word(self, event: Failed) -> None:
        """Tell everyone who can still be told: what made the run fail may stop them too."""
        for listener in self.listeners:
            with suppress(Exception):
                listener(event)


def _run(parts: Parts, tell: _Narrator) -> int:
    """Train; whatever goes wrong is said in the events before the process ends."""
    from training.loop import train
    from training.signals import Interrupted

    try:
        train(parts, tell)
    except Interrupted as stop:
        print(str(stop), file=sys.stderr)
        tell.last_word(Failed(tell.step, str(stop)))
        return 128 + stop.number
    except Exception as error:
        reason = explain(error)
        print(f"failed: {reason}", file=sys.stderr)
        tell.last_word(Failed(tell.step, reason))
        return 1
    if tell.listeners:
        print(f"adapter written to {parts.config.output_dir}")
    return 0


def _task(word: str) -> Task:
    from training.tasks import TASKS

    if word not in TASKS:
        raise UserError(f"`{word}` is not a task.{nearest(word, [*TASKS, CHECK])}")
    return TASKS[word]


def _usage() -> str:
    from training.tasks import TASKS

    tasks = {**{task.name: task.summary for task in TASKS.values()}, CHECK: CHECKING}
    lines = "".join(f"  {name:<12} {summary}\n" for name, summary in tasks.items())
    return (
        "usage: python -m training TASK [--FLAG VALUE ...]\n\ntasks:\n"
        f"{lines}\nSee `python -m training TASK --help` for all flags.\n"
    )


if __name__ == "__main__":
    sys.exit(main())

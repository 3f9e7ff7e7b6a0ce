"""`python -m training TASK ...`: train an adapter. Exit codes: 0 done, 2 bad request, 1 failed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from orthodiff.cli.gc import uncollected
from orthodiff.cli.streams import surviving_streams
from orthodiff.errors import UserError, explain_os_error, nearest

from ..events.failures import explain, is_out_of_memory
from ..events.log import (
    Event,
    EventLog,
    Failed,
    Report,
    Started,
    Step,
)
from ..events.progress import ProgressBar
from ..events.signals import Interrupted, StopSignal
from ..run import heartbeat

if TYPE_CHECKING:
    from ..options.config import Config, RunConfig
    from ..run.context import RunContext
    from ..tasks import Task

DEFAULT = "dreambooth"
COMMANDS = {
    "check": "report on a folder of images before any training",
    "gallery": "draw what a run sampled on the way, step by step",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code."""
    with surviving_streams():
        return _main(arguments)


def _main(arguments: Sequence[str] | None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print(_usage(), end="")
        return 0
    try:
        if words[0] == "check":
            from .check import run_check

            return run_check(words[1:])
        if words[0] == "gallery":
            from .gallery import main as gallery

            return gallery(words[1:])
        if words[0].startswith("-"):  # a command line of diffusers' DreamBooth script
            words.insert(0, DEFAULT)
        with StopSignal() as stop:
            return run_task(_task(words[0]), words[1:], stop)
    except Interrupted as interrupted:
        print(str(interrupted), file=sys.stderr)
        return 128 + interrupted.number
    except UserError as error:
        if type(error).__name__ != "FailedElsewhereError":  # that one says it itself
            print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if (sentence := explain_os_error(error)) is None:
            raise
        print(f"error: {sentence}", file=sys.stderr)
        return 1


def run_task(task: Task[Config], arguments: Sequence[str], stop: StopSignal) -> int:
    """Train as the flags say, or only say what that would take.

    Raises:
        UserError: the request cannot be carried out; nothing has been written.
    """
    from ..options.config import parse_config

    config = parse_config(arguments, task.config, prog=f"python -m training {task.name}")
    from orthodiff.logs import quiet_libraries

    quiet_libraries()
    code = 1
    try:
        code = _plan(task, config) if config.plan else _train(task, config, stop)
    except (FloatingPointError, MemoryError, OSError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not is_out_of_memory(error):
            raise
        print(f"failed: {explain(error, config)}", file=sys.stderr)
    finally:
        heartbeat.leave(done=code == 0)
    return code


def _train(task: Task[Config], config: Config, stop: StopSignal) -> int:
    context = _prepare(task, config)
    from ..checkpoints.run_dir import open_run

    if context.accelerator.is_main_process:
        _say_notes(context)
    if not context.accelerator.is_main_process:
        return _run(context, _Narrator([]), stop)
    with open_run(
        config.output_dir,
        resume=context.continues_output_dir,
        overwrite=config.overwrite_output_dir,
        start_step=context.start_step,
        writes_card=config.push_to_hub,
    ):
        return _run(context, _Narrator(_listeners(config)), stop)


def _prepare(task: Task[Config], config: Config) -> RunContext[Config]:
    with uncollected(for_good=True):
        from ..run.prepare import prepare

        return prepare(task, config)


def _say_notes(context: RunContext[Config]) -> None:
    """What will not happen although it was asked for."""
    from ..data.dataset import Examples
    from ..events.trackers import tracker_notes
    from ..run.processes import ineffective_environment

    config, notes = context.config, context.config.notes()
    notes += context.task.notes(config, resolution=context.resolution)
    notes += [context.chosen, *context.examples.remarks]
    notes += [*ineffective_environment(), *tracker_notes(config)]
    if isinstance(context.held_out, Examples):
        notes += [f"Held out: {remark}" for remark in context.held_out.remarks]
    if config.resume_from_checkpoint and context.checkpoint is None:
        notes.append(f"`{config.output_dir}` holds no checkpoint, so the run starts at step 0.")
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


def _plan(task: Task[Config], config: Config) -> int:
    context = _prepare(task, config.model_copy(update={"push_to_hub": False}))
    from .plan import make_plan

    plan = make_plan(context)
    if context.accelerator.is_main_process:
        print(f"{plan}\nThis was a plan; leave --plan out to train.")
    return 0


def _listeners(config: RunConfig) -> list[Report]:
    from ..events.trackers import Tracker, chosen_trackers

    trackers = [Tracker(name, config) for name in chosen_trackers(config)]
    return [EventLog(config.output_dir / "events.jsonl"), ProgressBar(), *trackers]


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


def _run(context: RunContext[Config], tell: _Narrator, stop: StopSignal) -> int:
    """Train; whatever goes wrong is said in the events before the process ends."""
    from ..run.assemble import train

    heartbeat.on_loss(lambda reason: tell.last_word(Failed(tell.step, reason)))
    try:
        train(context, tell, stop)
    except Interrupted as interrupted:
        tell.last_word(Failed(tell.step, str(interrupted)))
        raise
    except Exception as error:
        reason = explain(error, context.config)
        print(f"failed: {reason}", file=sys.stderr)
        tell.last_word(Failed(tell.step, reason))
        return 1
    if tell.listeners:
        print(f"adapter written to {context.config.output_dir}")
    return _publish(context, context.repository) if context.repository else 0


def _publish(context: RunContext[Config], repository: str) -> int:
    """Upload to the hub; the run is whole whether that works or not."""
    from ..hub.model_card import write_card
    from ..hub.upload import upload_run
    from ..run.assemble import recipe

    config = context.config
    try:
        write_card(
            config.output_dir,
            repository,
            base=context.base.name,
            method=config.method,
            recipe=recipe(context),
            steps=config.max_train_steps,
        )
        upload_run(config, config.output_dir, repository)
    except Exception as error:  # of the hub, of its http library, of the system
        reason = explain(error, context.config)
        print(f"failed: the adapter is whole, but not uploaded: {reason}", file=sys.stderr)
        return 1
    print(f"uploaded to {repository}")
    return 0


def _task(word: str) -> Task[Any]:
    from ..tasks import TASKS

    if word not in TASKS:
        raise UserError(f"`{word}` is not a task.{nearest(word, [*TASKS, *COMMANDS])}")
    return TASKS[word]


def _usage() -> str:
    from ..tasks import TASKS

    tasks = {**{task.name: task.summary for task in TASKS.values()}, **COMMANDS}
    lines = "".join(f"  {name:<12} {summary}\n" for name, summary in tasks.items())
    return (
        f"usage: python -m training [TASK] [--FLAG VALUE ...]\n\ntasks [{DEFAULT}]:\n"
        f"{lines}\nSee `python -m training TASK --help` for all flags.\n\n"
        "While it runs, `touch OUTPUT_DIR/sample_now` makes the validation images of the present\n"
        "step, and `touch OUTPUT_DIR/save_now` seals a checkpoint; the file vanishes when it is\n"
        "done. Ctrl-C saves and stops.\n"
    )

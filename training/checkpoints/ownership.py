"""Which files in an output folder a run of this program made: only those may be replaced."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from orthodiff.errors import UserError

from .sealed import EVENTS, MANIFEST, STATE, list_checkpoints, read_manifest, step_of

CONFIG, CARD, BEST, SAMPLES, LOGS = "config.yaml", "README.md", "best", "samples", "logs/orthodiff"
ADAPTER_FILE = re.compile(
    r"(text_encoder(_\d+)?/)?adapter_(config\.json|model\.safetensors)"
    r"|control\.json|hint_encoder\.safetensors|tokens\.(json|safetensors)"
)
SAMPLE_FILE = re.compile(r"step-\d{6,}/\d+\.png")
LOG_FILE = re.compile(r"(.*/)?(events\.out\.tfevents\..*|hparams\.yml)")
CARD_MARK = "made with orthodiff"
EVENT_MARK = b'{"event": "'


def check_ownership(output_dir: Path, *, after_step: int, writes_card: bool) -> None:
    """Refuse to replace what others put where a run that begins after `after_step` will write.

    Raises:
        UserError: naming the first such file.
    """
    for path in _in_the_way(output_dir, after_step=after_step, writes_card=writes_card):
        raise UserError(
            f"`{path}` was not made by a run of this program, which would write there. "
            "Move it away, or choose another --output_dir."
        )


def is_run(output_dir: Path) -> bool:
    """Whether the folder carries the mark of a run: its events, or a checkpoint it sealed."""
    if (output_dir / EVENTS).is_file():
        return is_event_log(output_dir / EVENTS)
    return any(sealed_files(folder) for folder in list_checkpoints(output_dir))


def is_event_log(path: Path) -> bool:
    """Whether a file holds events of a run, or nothing; its last line may be cut off."""
    with path.open("rb") as file:
        line = file.readline()
    if not line.endswith(b"\n"):
        return line[: len(EVENT_MARK)] == EVENT_MARK[: len(line)]
    try:
        event = json.loads(line)
    except ValueError:
        return False
    return isinstance(event, dict) and {"event", "time"} <= event.keys()


def sealed_files(checkpoint: Path) -> set[str]:
    """The files that a checkpoint's manifest names, and it itself; none where there is none."""
    try:
        return {MANIFEST, *read_manifest(checkpoint)["files"]}
    except (OSError, ValueError):
        return set()


def foreign_in(folder: Path, own: set[str] | None = None) -> Iterator[Path]:
    """Files in an adapter's folder or a checkpoint that are neither `own` nor named like ours."""
    names = {MANIFEST, STATE, *(own or ())}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in names and not ADAPTER_FILE.fullmatch(name):
            yield path


def own_files(output_dir: Path) -> Iterator[Path]:
    """The files of a run beside its checkpoints, those that announce an adapter first."""
    for name in ("adapter_config.json", "control.json", "tokens.json", CONFIG, EVENTS):
        yield from _existing(output_dir / name)
    for folder, pattern in (("", ADAPTER_FILE), (SAMPLES, SAMPLE_FILE), (LOGS, LOG_FILE)):
        root = output_dir / folder
        paths = sorted(root.rglob("*")) if folder else _adapter_paths(root)
        for path in paths:
            if path.is_file() and pattern.fullmatch(path.relative_to(root).as_posix()):
                yield path
    if (output_dir / BEST).is_dir():
        yield from (path for path in sorted((output_dir / BEST).rglob("*")) if path.is_file())


def _adapter_paths(root: Path) -> list[Path]:
    """What may be an adapter's files: those in a folder and in its text encoders' folders."""
    return sorted((*root.glob("*"), *root.glob("text_encoder*/*")))


def _in_the_way(output_dir: Path, *, after_step: int, writes_card: bool) -> Iterator[Path]:
    events, card = output_dir / EVENTS, output_dir / CARD
    if events.is_file() and not is_event_log(events):
        yield events
    if not is_run(output_dir):
        yield from own_files(output_dir)
    for folder in list_checkpoints(output_dir):
        if (step_of(folder) or 0) > after_step:
            yield from foreign_in(folder, sealed_files(folder))
    if (output_dir / BEST).is_dir():
        own = {n for folder in list_checkpoints(output_dir) for n in sealed_files(folder)}
        yield from foreign_in(output_dir / BEST, own)
    elif (output_dir / BEST).exists():
        yield output_dir / BEST
    if writes_card and card.is_file() and CARD_MARK not in card.read_text("utf-8", "replace"):
        yield card


def _existing(path: Path) -> Iterator[Path]:
    if path.exists():
        yield path

"""Sealed checkpoints: whole or not there.

A checkpoint is written aside, fsynced, sealed with a manifest of sizes and SHA-256 sums, and
renamed into place. Only sealed ones are ever loaded. Each is also an adapter folder.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import re
import shutil
from collections.abc import Collection, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import torch

from orthodiff.components.registry import INCOMPLETE, withdraw
from orthodiff.errors import UserError
from orthodiff.io.atomic import (
    aside,
    publishing,
    remove,
    replacing,
    sync,
    sync_tree,
)

logger = logging.getLogger(__name__)
SCHEMA = 2
"""Of the manifest: raise it when an earlier version could not read what is written."""
STATE, MANIFEST, EVENTS = "training_state.pt", "manifest.json", "events.jsonl"
ANNOUNCING = ("adapter_config.json", "control.json")
"""The file by which a folder is known as an adapter."""
LEAST_KEPT = 2
"""A run never has fewer checkpoints to fall back on, once it has made them."""


class Saveable(Protocol):
    """What can be saved: an adapter, or a bundle of them."""

    def save(self, folder: Path, *, base: str, metadata: Mapping[str, str]) -> None: ...


def save_checkpoint(
    output_dir: Path,
    step: int,
    *,
    adapter_set: Saveable,
    state: Mapping[str, Any],
    base: str,
    metadata: Mapping[str, str],
    limit: int | None = None,
    spare: Collection[int] = (),
) -> Path:
    """Seal `checkpoint-{step}` in `output_dir`, then remove old ones.

    The newest `limit` (at least two) stay, and so do those of the steps in `spare`.
    """
    place = output_dir / f"checkpoint-{step}"
    with replacing(place) as new:
        adapter_set.save(new, base=base, metadata=metadata)
        packed = io.BytesIO()  # a full disk then fails in `write_bytes`, which says so
        torch.save({**state, "step": step}, packed)
        (new / STATE).write_bytes(packed.getbuffer())
        _seal(new)  # last: a checkpoint with a manifest has everything that this names
        if (output_dir / EVENTS).exists():  # no checkpoint outlives the steps that led to it
            sync(output_dir / EVENTS)
    _rotate(output_dir, limit, step=step, spare=spare)
    return place


def load_checkpoint(folder: Path) -> dict[str, Any]:
    """The state saved in a sealed checkpoint.

    Raises:
        UserError: it is not sealed, or a file differs from its manifest.
    """
    problem = damage(folder)
    if problem:
        raise UserError(
            f"The checkpoint `{folder}` cannot be used: {problem}. "
            "Use an earlier one, or --resume_from_checkpoint latest."
        )
    return torch.load(folder / STATE, map_location="cpu", weights_only=True)


def find_checkpoint(output_dir: Path, which: str) -> Path | None:
    """The newest whole checkpoint for `latest` (None if there is none), else the named one.

    Raises:
        UserError: the named folder does not exist, or all there are are damaged.
    """
    if which == "latest":
        return _newest_whole(output_dir)
    for folder in (Path(which), output_dir / which):
        if folder.is_dir():
            return folder
    raise UserError(
        f"The checkpoint `{which}` does not exist. Use --resume_from_checkpoint latest, "
        "or the path of a checkpoint-N folder."
    )


def _newest_whole(output_dir: Path) -> Path | None:
    entries = list_checkpoints(output_dir)
    whole = next((folder for folder in reversed(entries) if not damage(folder)), None)
    if entries and whole is None:
        raise UserError(
            f"The checkpoint `{entries[-1]}` cannot be used: {damage(entries[-1])}; nor can an "
            "earlier one. Start afresh in another --output_dir."
        )
    return whole


def passed_over(output_dir: Path, start_step: int) -> list[str]:
    """What is wrong with the damaged checkpoints beyond `start_step`, one sentence each."""
    newer = (path for path in list_checkpoints(output_dir) if _number(path) > start_step)
    return [f"{path.name}: {problem}" for path in newer if (problem := damage(path))]


def list_checkpoints(output_dir: Path) -> list[Path]:
    """The `checkpoint-N` folders, oldest first."""
    entries = output_dir.iterdir() if output_dir.is_dir() else []
    return sorted((path for path in entries if step_of(path) is not None), key=_number)


def step_of(folder: Path) -> int | None:
    """N of a folder called `checkpoint-N`."""
    match = re.fullmatch(r"checkpoint-(\d+)", folder.name)
    return int(match[1]) if match else None


def _number(checkpoint: Path) -> int:
    return step_of(checkpoint) or 0


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint, or None if it is sealed and whole."""
    try:
        manifest = read_manifest(folder)
    except (OSError, ValueError):
        return "it has no manifest, so it was not finished"
    if manifest.get("schema") != SCHEMA:
        return f"its manifest is of version {manifest.get('schema')}, not {SCHEMA}"
    for name, entry in manifest["files"].items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != entry.get("bytes"):
            return f"{name} is missing or cut short"
        if _sha256(path) != entry.get("sha256"):
            return f"{name} was changed after it was saved"
    return None


def copy_adapter(checkpoint: Path, place: Path) -> None:
    """Copy what is learned, without the optimizer's state, to the folder `place`, in one step.

    Where others have put files there meanwhile, those stay, and each of ours is replaced.
    """
    own = set(read_manifest(checkpoint)["files"])
    is_ours = all(path.relative_to(place).as_posix() in own for path in _files(place))
    with (replacing if is_ours else publishing)(place) as new:
        _copy_learned(checkpoint, new)


def spread_adapter(checkpoint: Path, output_dir: Path) -> None:
    """Put what is learned beside the other files of the run.

    What was there goes first, and what announces an adapter comes last: a crash in between leaves a
    folder that is known as `INCOMPLETE`, never a mixture of two.
    """
    with aside(output_dir, "final") as new:
        names = _copy_learned(checkpoint, new)
        sync_tree(new)
        new = new.rename(output_dir / INCOMPLETE)
        try:
            withdraw(output_dir)
            for name in sorted(names, key=lambda name: name in ANNOUNCING):
                (output_dir / name).parent.mkdir(exist_ok=True)
                (new / name).replace(output_dir / name)
        except BaseException:
            withdraw(output_dir)
            raise
        else:
            sync(output_dir)
        finally:
            shutil.rmtree(new, ignore_errors=True)


def _copy_learned(checkpoint: Path, place: Path) -> list[str]:
    names = [name for name in read_manifest(checkpoint)["files"] if name != STATE]
    for name in names:
        (place / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(checkpoint / name, place / name)
    return names


def _rotate(output_dir: Path, limit: int | None, *, step: int, spare: Collection[int]) -> None:
    """Remove all but the newest sealed ones; a folder that we did not seal is not ours.

    Beyond `step` lies what an earlier turn left: it does not count, for it may be damaged. One
    with files of others in it stays.
    """
    if limit is None:
        return
    earlier = [path for path in list_checkpoints(output_dir) if _number(path) <= step]
    sealed = [path for path in earlier if (path / MANIFEST).is_file()]
    for old in sealed[: -max(limit, LEAST_KEPT)]:
        if step_of(old) not in spare and not _holds_others(old):
            remove(old)


def _holds_others(checkpoint: Path) -> bool:
    """Whether a sealed checkpoint holds files that it was not sealed with; that is said."""
    try:
        own = {MANIFEST, *read_manifest(checkpoint)["files"]}
    except (OSError, ValueError):
        return False
    names = (path.relative_to(checkpoint).as_posix() for path in _files(checkpoint))
    foreign = next((name for name in names if name not in own), None)
    if foreign:
        _warn_once(f"{checkpoint} is kept beyond the limit, as {foreign} lies in it.")
    return foreign is not None


@lru_cache
def _warn_once(message: str) -> None:
    logger.warning(message)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _seal(folder: Path) -> None:
    files = {
        path.relative_to(folder).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": _sha256(path),
        }
        for path in _files(folder)
    }
    content = json.dumps({"schema": SCHEMA, "files": files}, indent=2)
    (folder / MANIFEST).write_text(content, "utf-8")


def read_manifest(folder: Path) -> dict[str, Any]:
    """What a checkpoint was sealed with; raises OSError or ValueError where there is none."""
    manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
    files = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(files, dict) or not all(isinstance(entry, dict) for entry in files.values()):
        raise ValueError("not a manifest")
    return dict(manifest)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

"""Checkpoints that are whole or not there, and the folder of a run.

A checkpoint is written aside, fsynced, sealed with a manifest of sizes and SHA-256 sums, and
renamed into place. Only sealed ones are ever loaded. Each is also an adapter folder.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from orthodiff import Adapter
from orthodiff.errors import UserError

SCHEMA = 1
STATE = "training_state.pt"
MANIFEST = "manifest.json"
RUN_FILES = ("adapter_config.json", "adapter_model.safetensors", "config.yaml", "events.jsonl")


def save_checkpoint(
    output_dir: Path,
    step: int,
    *,
    adapter: Adapter,
    state: Mapping[str, Any],
    base: str,
    metadata: Mapping[str, str],
    limit: int | None = None,
) -> Path:
    """Seal `checkpoint-{step}` in `output_dir`, then remove all but the newest `limit`."""
    aside = output_dir / f".checkpoint-{step}.partial"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    adapter.save(aside, base=base, metadata=metadata)
    torch.save({**state, "step": step}, aside / STATE)
    _seal(aside)
    final = output_dir / f"checkpoint-{step}"
    shutil.rmtree(final, ignore_errors=True)
    aside.rename(final)
    _sync(output_dir)
    for old in list_checkpoints(output_dir)[: -limit if limit else 0]:
        shutil.rmtree(old)
    return final


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
    """The newest sealed checkpoint for `latest` (None if there is none), else the named one.

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
    found = list_checkpoints(output_dir)
    whole = next((folder for folder in reversed(found) if not damage(folder)), None)
    if found and whole is None:
        raise UserError(
            f"The checkpoint `{found[-1]}` cannot be used: {damage(found[-1])}; nor can an earlier "
            "one. Start afresh in another --output_dir."
        )
    return whole


def list_checkpoints(output_dir: Path) -> list[Path]:
    """The `checkpoint-N` folders, oldest first."""
    found = [(re.fullmatch(r"checkpoint-(\d+)", path.name), path) for path in _children(output_dir)]
    return [path for _, path in sorted((int(m[1]), path) for m, path in found if m)]


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint, or None if it is sealed and whole."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
    except (OSError, ValueError):
        return "it has no manifest, so it was not finished"
    if manifest.get("schema") != SCHEMA:
        return f"its manifest is of version {manifest.get('schema')}, not {SCHEMA}"
    for name, entry in manifest["files"].items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != entry["bytes"]:
            return f"{name} is missing or cut short"
        if _sha256(path) != entry["sha256"]:
            return f"{name} was changed after it was saved"
    return None


def check_output(output_dir: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse to mix two runs in one folder.

    Raises:
        UserError: it is a file, or holds a run that is neither continued nor replaced.
    """
    if output_dir.exists() and not output_dir.is_dir():
        raise UserError(f"The output folder `{output_dir}` is a file. Choose another --output_dir.")
    if resume or overwrite:
        return
    choose = "choose another --output_dir or replace it with --overwrite_output_dir"
    if (output_dir / RUN_FILES[0]).exists():
        raise UserError(f"The output folder `{output_dir}` already holds a finished run; {choose}.")
    if list_checkpoints(output_dir):
        raise UserError(
            f"The output folder `{output_dir}` holds an unfinished run; continue it with "
            f"--resume_from_checkpoint latest, {choose}."
        )


@contextmanager
def open_run(output_dir: Path, *, overwrite: bool) -> Iterator[None]:
    """Make the folder and hold its lock, which dies with the process; clear leftovers of a crash.

    Raises:
        UserError: another process trains into this folder, or it cannot be written.
    """
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        lock = (output_dir / ".lock").open("w")
    except OSError as error:
        raise UserError(
            f"The output folder `{output_dir}` cannot be written ({error.strerror}). "
            "Choose another --output_dir."
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"Another process is training into `{output_dir}`. "
                "Wait for it or choose another --output_dir."
            ) from error
        _clear(output_dir, everything=overwrite)
        yield


def _clear(output_dir: Path, *, everything: bool) -> None:
    for path in _children(output_dir):
        if path.is_dir() and path.name.startswith((".checkpoint-", "..checkpoint-")):
            shutil.rmtree(path)
    if everything:
        for folder in (*list_checkpoints(output_dir), output_dir / "samples"):
            shutil.rmtree(folder, ignore_errors=True)
        for name in RUN_FILES:
            (output_dir / name).unlink(missing_ok=True)


def _seal(folder: Path) -> None:
    files = {}
    for path in sorted(_children(folder)):
        _sync(path)
        files[path.name] = {"bytes": path.stat().st_size, "sha256": _sha256(path)}
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps({"schema": SCHEMA, "files": files}, indent=2), "utf-8")
    _sync(manifest)
    _sync(folder)


def _children(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

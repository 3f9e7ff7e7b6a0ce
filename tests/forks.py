"""Real training processes that start at once: forked from one that has imported everything."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

PRELOADED = [
    "diffusers.models.autoencoders.autoencoder_kl",
    "diffusers.models.unets.unet_2d_condition",
    "diffusers.optimization",
    "diffusers.schedulers.scheduling_ddim",
    "diffusers.schedulers.scheduling_ddpm",
    "diffusers.training_utils",
    "transformers.models.clip.image_processing_pil_clip",
    "transformers.models.clip.modeling_clip",
    "transformers.models.clip.tokenization_clip",
    "accelerate",
    "orthodiff.training.cli.main",
    "orthodiff.training.run.assemble",
    "orthodiff.training.events.trackers",
]


def fork(
    words: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    log: Path | None = None,
    before: Callable[[], object] | None = None,
) -> BaseProcess:
    """Start `python -m training WORDS`; its `exitcode` is negative where a signal ended it.

    What it says on standard error goes to `log`; `before` is called in it first.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(
        target=_train, args=(list(words), dict(environment or {}), log, before)
    )
    process.start()
    return process


def fork_group(
    ranks: Sequence[Sequence[str]],
    logs: Path,
    *,
    before: Callable[[], object] | None = None,
    before_last: Callable[[], object] | None = None,
) -> list[BaseProcess]:
    """Start one process of a run for each command line, by rank; they meet through gloo.

    What rank N says on standard error goes to `logs/N.log`. Each calls `before` first, the last one
    `before_last` instead.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(len(ranks))}
    return [
        fork(
            words,
            environment={**group, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            log=logs / f"{rank}.log",
            before=before_last if before_last and rank == len(ranks) - 1 else before,
        )
        for rank, words in enumerate(ranks)
    ]


def _train(
    words: list[str],
    environment: dict[str, str],
    log: Path | None,
    before: Callable[[], object] | None,
) -> None:
    from orthodiff.training.cli.main import main

    os.environ.update(environment)
    if before:
        before()
    if log:
        sys.stderr = log.open("w", buffering=1)
    raise SystemExit(main(words))

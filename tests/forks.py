"""Real training processes that start at once: forked from one that has imported everything."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from multiprocessing.process import BaseProcess

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


def fork(words: Sequence[str]) -> BaseProcess:
    """Start `python -m training WORDS`; its `exitcode` is negative where a signal ended it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=_train, args=(list(words),))
    process.start()
    return process


def _train(words: list[str]) -> None:
    from orthodiff.training.cli.main import main

    raise SystemExit(main(words))

"""The streams of samples that a run draws its batches from."""

from __future__ import annotations

from collections.abc import Sequence

from ..data.example import Example
from ..run.prepare import Parts
from .cache import Cache, default_cache
from .encode import encode
from .sampler import Stream


def make_streams(parts: Parts) -> list[Stream]:
    """The examples, and with prior preservation those of the class; all encoded.

    The main process makes what is missing first, the others find it in the cache.
    """
    with parts.accelerator.main_process_first():
        streams = [make_stream(parts, "subject", parts.examples)]
        prior = parts.task.prior_examples(parts.config, parts.base, resolution=parts.resolution)
        if prior:
            streams.append(
                make_stream(parts, "class", prior, weight=parts.config.prior_loss_weight)
            )
    return streams


def make_stream(
    parts: Parts, name: str, examples: Sequence[Example], *, weight: float = 1.0
) -> Stream:
    """A stream over `examples`, encoded as the run's settings say."""
    config, base = parts.config, parts.base
    encoded = encode(
        base,
        examples,
        views=config.views(parts.resolution, factor=base.factor, seed=config.seed),
        captions=config.caption_rules(seed=config.seed),
        cache=Cache((config.cache_dir or default_cache()) / "encoded"),
        condition=parts.task.condition(config),
    )
    share = config.train_batch_size * config.gradient_accumulation_steps
    return Stream(
        name,
        encoded,
        config.seed,
        unit=share * parts.accelerator.num_processes,
        weight=weight,
        noise_offset=config.noise_offset,
    )

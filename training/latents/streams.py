"""The streams of samples that a run draws its batches from."""

from __future__ import annotations

from collections.abc import Sequence

from ..data.example import Example
from ..run.prepare import RunContext
from .cache import Cache, default_cache
from .encode import encode
from .sampler import Stream


def make_streams(context: RunContext) -> list[Stream]:
    """The examples, and with prior preservation those of the class; all encoded.

    The main process makes what is missing first, the others find it in the cache.
    """
    with context.accelerator.main_process_first():
        streams = [make_stream(context, "subject", context.examples)]
        prior = context.task.prior_examples(
            context.config, context.base, resolution=context.resolution
        )
        if prior:
            streams.append(
                make_stream(context, "class", prior, weight=context.config.prior_loss_weight)
            )
    return streams


def make_stream(
    context: RunContext, name: str, examples: Sequence[Example], *, weight: float = 1.0
) -> Stream:
    """A stream over `examples`, encoded as the run's settings say."""
    config, base = context.config, context.base
    encoded = encode(
        base,
        examples,
        views=config.views(context.resolution, factor=base.factor, seed=config.seed),
        captions=config.caption_rules(seed=config.seed),
        cache=Cache((config.cache_dir or default_cache()) / "encoded"),
        condition=context.task.condition(config),
    )
    share = config.train_batch_size * config.gradient_accumulation_steps
    return Stream(
        name,
        encoded,
        config.seed,
        unit=share * context.accelerator.num_processes,
        weight=weight,
        noise_offset=config.noise_offset,
    )

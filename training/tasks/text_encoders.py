"""Puts what is learned of reading prompts on a base: encoders' adapters, and a new word."""

from __future__ import annotations

import torch

import orthodiff
from orthodiff.adapters import Method
from orthodiff.components import textual_inversion as tokens
from orthodiff.components.registry import Component
from orthodiff.models import Base
from orthodiff.models.text_encoder import TextEncoder

from ..options import TextOptions


def attach_text(
    options: TextOptions, method: Method, base: Base, generator: torch.Generator
) -> dict[str, Component]:
    """The parts asked for by name, at their start.

    Raises:
        UserError: the method's settings do not fit an encoder, or the word is known already.
    """
    parts: dict[str, Component] = {}
    for text in base.texts if options.train_text_encoder else ():
        parts[text.name] = orthodiff.attach(
            text.model, method, targets=_targets(base, text), generator=generator
        )
    if options.placeholder_token:
        parts["tokens"] = tokens.create(
            base,
            options.placeholder_token,
            like=options.initializer_token,
            vectors=options.num_vectors,
            generator=generator,
        )
    return parts


def _targets(base: Base, text: TextEncoder) -> list[str]:
    """The attention of the layers that are read: what is not would never get a gradient."""
    return [
        f"layers.{layer}.self_attn.{name}"
        for layer in range(base.layers_used(text))
        for name in orthodiff.TEXT_ATTENTION
    ]

"""How prompts are read, where a run asks for another way than the base's own."""

from __future__ import annotations

import hashlib
from typing import Any

from orthodiff.errors import UserError
from orthodiff.io import hub
from orthodiff.models import Base
from orthodiff.models.text_encoder import TextEncoder, open_tokenizer

from ..options import ModelOptions


def set_tokenizers(options: ModelOptions, base: Base) -> None:
    """Give every text encoder of `base` the tokenizer, length and mask that `options` ask for.

    Raises:
        UserError: there is no such tokenizer, or the encoder cannot read that many tokens.
    """
    how: tuple[Any, ...] = (
        options.tokenizer_name,
        options.tokenizer_max_length,
        options.text_encoder_use_attention_mask,
    )
    if options.max_prompt_tokens:
        how = (*how, options.max_prompt_tokens)
    if not any(how):
        return
    for text in base.texts:
        if options.tokenizer_name:
            text.tokenizer = _tokenizer(options.tokenizer_name, options.revision)
        if options.tokenizer_max_length:
            text.tokenizer.model_max_length = _length(text, options.tokenizer_max_length)
        if options.text_encoder_use_attention_mask:
            text.model.config.use_attention_mask = True
        mixed = f"{base.fingerprint(text.name)}/{how}"
        base.fingerprints[text.name] = hashlib.sha256(mixed.encode()).hexdigest()
    base.prompts.clear()
    if options.max_prompt_tokens:
        base.set_max_prompt_tokens(options.max_prompt_tokens)


def _tokenizer(name: str, revision: str | None) -> Any:
    why = hub.trouble(name, revision=revision)
    try:
        return open_tokenizer(name, revision=revision, local_files_only=why is not None)
    except (OSError, ValueError, TypeError) as error:
        reason = f" here, and {why}" if why else ""
        raise UserError(
            f"`tokenizer_name` is `{name}`, which holds no CLIP tokenizer{reason}. Give its "
            "folder or hub id, or leave the flag out."
        ) from error


def _length(text: TextEncoder, length: int) -> int:
    most = text.model.config.max_position_embeddings
    if length > most:
        raise UserError(
            f"`tokenizer_max_length` is {length}, but {text.name} reads at most {most} tokens. "
            f"Use {most}, or leave the flag out."
        )
    return length

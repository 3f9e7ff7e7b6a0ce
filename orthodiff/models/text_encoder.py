"""A CLIP text encoder with its tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor


@dataclass
class TextEncoder:
    """Reads prompts; `name` is the encoder's folder in the base, such as `text_encoder_2`.

    `words` are those learned later that take several tokens, and how they are spelled for it.
    """

    name: str
    model: Any
    tokenizer: Any
    words: dict[str, str] = field(default_factory=dict)

    def read(self, prompts: Sequence[str]) -> Any:
        """The encoder's answer to `prompts` with all hidden states, on the encoder's device.

        Prompts are padded to the encoder's length, and cut there.
        """
        tokens = self.tokens(prompts)
        wants_mask = getattr(self.model.config, "use_attention_mask", False)
        mask = tokens.attention_mask.to(self.model.device) if wants_mask else None
        ids: Tensor = tokens.input_ids.to(self.model.device)
        return self.model(ids, attention_mask=mask, output_hidden_states=True)

    def tokens(self, prompts: Sequence[str]) -> Any:
        """The `input_ids` and `attention_mask` `(B, length)` of `prompts`."""
        return self.tokenizer(
            [self._spell(prompt) for prompt in prompts],
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )

    def _spell(self, prompt: str) -> str:
        for word, spelled in self.words.items():
            prompt = prompt.replace(word, spelled)
        return prompt


def open_tokenizer(
    place: str | Path,
    *,
    subfolder: str = "",
    revision: str | None = None,
    local_files_only: bool = True,
) -> Any:
    """The CLIP tokenizer in a folder, or of a hub id, usually from the local cache alone.

    Raises:
        OSError, ValueError: there is none.
    """
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(
        place, subfolder=subfolder, revision=revision, local_files_only=local_files_only
    )
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        raise OSError(f"{place} holds no vocabulary of a tokenizer")
    return tokenizer

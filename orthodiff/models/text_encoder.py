"""A CLIP text encoder with its tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class TextFeatures:
    """What a text encoder makes of `B` prompts.

    `last` and `penultimate` `(B, tokens, width)` are its last layers' outputs, the former
    normalised; `pooled` `(B, width)` sums each prompt up, in encoders that do.
    """

    last: Tensor
    penultimate: Tensor
    pooled: Tensor | None


@dataclass
class TextEncoder:
    """Encodes prompts; `name` is the encoder's folder in the base, such as `text_encoder_2`.

    `words` are those learned later that take several tokens, and how they are spelled for it.
    Prompts are read in `chunks` of `room` tokens, each encoded by itself, and what is longer is
    cut; longer prompts by more chunks is how kohya, compel and AUTOMATIC1111 read them.
    """

    name: str
    model: Any
    tokenizer: Any
    words: dict[str, str] = field(default_factory=dict)
    chunks: int = 1

    @property
    def room(self) -> int:
        """Tokens of a prompt that fit in a chunk, between its start and end."""
        return int(self.tokenizer.model_max_length) - 2

    def encode_prompts(self, prompts: Sequence[str]) -> TextFeatures:
        """The features of `prompts`, on the encoder's device.

        Prompts are padded to the length of all chunks, and cut there. What sums a prompt up is
        that of its first chunk.
        """
        tokens = self.tokens(prompts)
        uses_mask = getattr(self.model.config, "use_attention_mask", False)
        mask = tokens["attention_mask"].to(self.model.device) if uses_mask else None
        ids: Tensor = tokens["input_ids"].to(self.model.device)
        output = self.model(ids, attention_mask=mask, output_hidden_states=True)
        pooled = getattr(output, "text_embeds", None)
        return TextFeatures(
            last=self._join(output.last_hidden_state),
            penultimate=self._join(output.hidden_states[-2]),
            pooled=None if pooled is None else pooled[:: self.chunks],
        )

    def tokens(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """The `input_ids` and `attention_mask` of `prompts`, `(B * chunks, length)`."""
        if self.chunks > 1:
            return self._chunked(prompts)
        return dict(
            self.tokenizer(
                [self._spell(prompt) for prompt in prompts],
                padding="max_length",
                max_length=self.tokenizer.model_max_length,
                truncation=True,
                return_tensors="pt",
            )
        )

    def token_ids(self, prompt: str) -> list[int]:
        """The prompt's own tokens, all of them, without start and end."""
        return list(
            self.tokenizer(
                self._spell(prompt), add_special_tokens=False, truncation=False, verbose=False
            ).input_ids
        )

    def split(self, prompt: str) -> tuple[int, str]:
        """The number of tokens in `prompt`, and the end of it that is not read, if any."""
        ids = self.token_ids(prompt)
        rest = ids[self.room * self.chunks :]
        return len(ids), self.tokenizer.decode(rest).strip() if rest else ""

    def _chunked(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        rows, masks = [], []
        for prompt in prompts:
            ids = self.token_ids(prompt)
            for start in range(0, self.chunks * self.room, self.room):
                piece = ids[start : start + self.room]
                row = [self.tokenizer.bos_token_id, *piece, self.tokenizer.eos_token_id]
                padding = self.room - len(piece)
                rows.append(row + [self.tokenizer.pad_token_id] * padding)
                masks.append([1] * len(row) + [0] * padding)
        return {"input_ids": torch.tensor(rows), "attention_mask": torch.tensor(masks)}

    def _join(self, features: Tensor) -> Tensor:
        """Features of chunks `(B * chunks, length, width)` -> `(B, chunks * length, width)`."""
        return features.reshape(-1, self.chunks * features.shape[1], features.shape[2])

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
    """The CLIP tokenizer in a folder, or of a hub id, from the local cache alone by default.

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

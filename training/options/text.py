"""What is learned beside the UNet: the text encoders, and a new word (textual inversion)."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator
from typing_extensions import Self

from .base import Harmless, Options

DEFAULT_TOKEN_LEARNING_RATE = 5e-3
NEEDS = {
    "text_encoder_lr": "train_text_encoder",
    "initializer_token": "placeholder_token",
    "num_vectors": "placeholder_token",
    "token_learning_rate": "placeholder_token",
}
"""Options that mean nothing without another."""


class TextOptions(Options):
    train_text_encoder: bool = Field(
        False, description="also adapt the attention of the text encoders, with the same method"
    )
    pre_compute_text_embeddings: Annotated[bool, Harmless] = Field(
        False, description="diffusers' flag; always so, unless a text encoder is trained"
    )
    text_encoder_lr: float | None = Field(
        None, gt=0, description="peak learning rate of the text encoders' adapters [the UNet's]"
    )
    placeholder_token: str | None = Field(
        None, description="new word in the prompt whose embedding is learned too, such as <sks>"
    )
    initializer_token: str | None = Field(
        None, description="known word that the new one starts as, such as dog [random]"
    )
    num_vectors: int = Field(1, ge=1, le=16, description="vectors of the new word")
    token_learning_rate: float | None = Field(
        None,
        gt=0,
        description=f"peak learning rate of the new word [{DEFAULT_TOKEN_LEARNING_RATE:g}]",
    )

    @model_validator(mode="after")
    def _check_text(self) -> Self:
        if self.train_text_encoder and self.pre_compute_text_embeddings:
            raise ValueError(
                "`train_text_encoder` and `pre_compute_text_embeddings` contradict each other. "
                "Leave one of them out."
            )
        for name, needed in NEEDS.items():
            is_given = getattr(self, name) != type(self).model_fields[name].default
            if is_given and not getattr(self, needed):
                raise ValueError(
                    f"`{name}` is given, but it does nothing without `{needed}`. "
                    f"Add --{needed}, or leave it out."
                )
        return self

    def in_effect(self) -> dict[str, Any]:
        return {**super().in_effect(), "token_learning_rate": self.text_rate("tokens")}

    def text_rate(self, part: str) -> float | None:
        """The peak learning rate of a part that reads prompts, where it has its own."""
        if part == "tokens":
            return self.token_learning_rate or DEFAULT_TOKEN_LEARNING_RATE
        return self.text_encoder_lr if part.startswith("text_encoder") else None

"""How much of a prompt the text encoders read, and what to say of the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orthodiff.errors import UserError
from orthodiff.models.text_encoder import TextEncoder

MOST_CHUNKS = 8


def set_max_prompt_tokens(texts: Sequence[TextEncoder], most: int) -> None:
    """Let `texts` read prompts of up to `most` tokens, in as many chunks as that takes.

    Raises:
        UserError: it is more than `MOST_CHUNKS` chunks, or less than one token.
    """
    room = min(text.room for text in texts)
    chunks = -(-most // room)
    if not 1 <= chunks <= MOST_CHUNKS:
        raise UserError(
            f"`max_prompt_tokens` is {most}, but it must be from 1 to {MOST_CHUNKS * room}. "
            f"Use a multiple of {room}, for example {2 * room}."
        )
    for text in texts:
        text.chunks = chunks


def cut_note(texts: Sequence[TextEncoder], prompts: Sequence[str]) -> str | None:
    """What is said of prompts that are not read to their end; None if all are."""
    cut = [each for each in (_cut(texts, prompt) for prompt in prompts) if each]
    if not cut:
        return None
    longest = max(cut, key=lambda each: each.tokens)
    room = min(text.room for text in texts)
    others = f" So are {len(cut) - 1} other prompts." if len(cut) > 1 else ""
    return (
        f"The prompt “{_short(longest.prompt)}” has {longest.tokens} tokens, but {longest.limit} "
        f"are read: “{_short(longest.rest)}” is cut off.{others} Shorten it, or use "
        f"--max_prompt_tokens {-(-longest.tokens // room) * room}."
    )


@dataclass(frozen=True)
class _Cut:
    prompt: str
    tokens: int
    limit: int
    rest: str


def _cut(texts: Sequence[TextEncoder], prompt: str) -> _Cut | None:
    """Of the encoder that leaves most of `prompt` unread."""
    most: _Cut | None = None
    for text in texts:
        tokens, rest = text.split(prompt)
        limit = text.room * text.chunks
        if tokens > limit and (most is None or tokens - limit > most.tokens - most.limit):
            most = _Cut(prompt, tokens, limit, rest)
    return most


def _short(text: str, most: int = 60) -> str:
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"

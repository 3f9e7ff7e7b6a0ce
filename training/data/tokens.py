"""How many tokens captions take, counted with the tokenizers of the base that will read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orthodiff.errors import UserError, printable
from orthodiff.models.text_encoder import open_tokenizer

from .readers.folder import name_list

PREVIEW = 40
"""Letters shown of what is cut."""


@dataclass(frozen=True)
class CutCaption:
    """A caption longer than a base reads: its `tokens` of at most `limit`, and what is cut."""

    name: str
    tokens: int
    limit: int
    lost: str


def cut_captions(
    tokenizers: Sequence[Any], captions: Sequence[tuple[str, str]], *, chunks: int = 1
) -> list[CutCaption]:
    """Those of the captions `(name, caption)` of which some tokenizer reads only a part.

    With several `chunks` each has a start and an end, as with `--max_prompt_tokens`.
    """
    shortest = min(tokenizers, key=lambda tokenizer: tokenizer.model_max_length)
    limit = (int(shortest.model_max_length) - 2) * chunks + 2
    # a token has at least one letter, so most captions need not be counted
    long = [(name, caption) for name, caption in captions if len(caption) + 2 > limit]
    if not long:
        return []
    encoded = shortest(
        [caption for _, caption in long],
        truncation=False,
        return_offsets_mapping=True,
        verbose=False,
    )
    cut = []
    for (name, caption), ids, places in zip(
        long, encoded["input_ids"], encoded["offset_mapping"], strict=True
    ):
        if len(ids) > limit:  # the last one read is the end token's place
            cut.append(CutCaption(name, len(ids), limit, caption[places[limit - 1][0] :]))
    return cut


def remark_on(cut: Sequence[CutCaption]) -> list[str]:
    """What is not read, in a sentence."""
    if not cut:
        return []
    first = cut[0]
    lost = first.lost if len(first.lost) <= PREVIEW else f"{first.lost[:PREVIEW]}..."
    return [
        f"{name_list([caption.name for caption in cut])}: captions of more tokens than the "
        f"{first.limit} that this base reads. Of `{printable(first.name)}` ({first.tokens} tokens) "
        f"“{printable(lost)}” is cut. "
        "--max_prompt_tokens reads more."
    ]


def open_tokenizers(base: str) -> list[Any]:
    """The tokenizers of a base's folder, or of a hub id whose files are here.

    Raises:
        UserError: there are none.
    """
    folder = Path(base)
    names = [p.name for p in sorted(folder.glob("tokenizer*")) if p.is_dir()] or ["tokenizer"]
    try:
        return [open_tokenizer(base, subfolder=name) for name in names]
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"`pretrained_model_name_or_path` is `{base}`, which holds no CLIP tokenizer here. "
            "Give a base's folder, or leave the flag out."
        ) from error

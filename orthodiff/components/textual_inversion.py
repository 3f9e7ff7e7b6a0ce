"""New words for a base: rows that its text encoders look up beside their vocabulary.

Textual inversion (Gal et al., arXiv:2208.01618). A word of several vectors is spelled
`<word> <word>_1 ...`, as diffusers does.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_bytes
from torch import Tensor, nn
from torch.nn import functional

from orthodiff.adapters.checks import check_tensors
from orthodiff.errors import UserError
from orthodiff.io.safetensors import read_tensors
from orthodiff.models import Base
from orthodiff.models.text_encoder import TextEncoder

FILE = "tokens.safetensors"
WORD = "placeholder_token"
"""Where the file's header says the word."""
CLIP_NAMES = ("clip_l", "clip_g")
"""What bases of two text encoders call the rows of each; with one, it is the word itself."""


class Tokens:
    """A word of the base's text encoders and its rows `(vectors, width)`, one set per encoder."""

    def __init__(self, base: Base, word: str, rows: Mapping[str, Tensor]) -> None:
        self.base, self.word = base, word
        # no inference tensors, even under `torch.inference_mode`: those cannot be trained
        with torch.inference_mode(False), torch.no_grad():
            self.rows = {
                text.name: nn.Parameter(
                    rows[text.name].clone().to(_table(text).device, torch.float32)
                )
                for text in base.texts
            }
        self._before: dict[str, tuple[Any, Any]] = {}
        for text in base.texts:
            self._teach(text)

    def _teach(self, text: TextEncoder) -> None:
        """Let one encoder know the word; its tokenizer and embedding are replaced, not changed."""
        embedding, rows = text.model.get_input_embeddings(), self.rows[text.name]
        self._before[text.name] = (text.tokenizer, embedding)
        text.tokenizer = copy.deepcopy(text.tokenizer)
        spelled = spelling(self.word, len(rows))
        text.tokenizer.add_tokens(spelled)
        first = text.tokenizer.convert_tokens_to_ids(spelled[0])
        text.words[self.word] = " ".join(spelled)
        text.model.set_input_embeddings(LongerEmbedding(embedding, rows, first=first))

    def detach(self) -> None:
        """Let the text encoders forget the word; this handle keeps its rows."""
        for text in self.base.texts:
            if text.name in self._before:
                text.tokenizer, embedding = self._before.pop(text.name)
                text.model.set_input_embeddings(embedding)
                text.words.pop(self.word, None)

    def parameters(self) -> list[nn.Parameter]:
        """The rows, encoder by encoder."""
        return list(self.rows.values())

    def state_dict(self) -> dict[str, Tensor]:
        """A copy of the rows by encoder."""
        return {name: rows.detach().clone() for name, rows in self.rows.items()}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Set the rows; nothing changes if anything does not fit.

        Raises:
            UserError: names or shapes differ.
        """
        check_tensors(state, {n: tuple(r.shape) for n, r in self.rows.items()}, "The saved state")
        for name, rows in self.rows.items():
            rows.copy_(state[name])

    def save(
        self,
        folder: Path,
        *,
        base: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Write `tokens.safetensors` into `folder`, for `load` and diffusers.

        diffusers' `load_textual_inversion` takes the file itself where the base has one text
        encoder; else its tensors `clip_l` and `clip_g`, one after the other.
        """
        keys = CLIP_NAMES if len(self.rows) > 1 else (self.word,)
        rows = (r.detach().cpu().contiguous() for r in self.rows.values())
        header = {"format": "pt", WORD: self.word, **({"base": base} if base else {})}
        folder.mkdir(parents=True, exist_ok=True)
        content = to_bytes(dict(zip(keys, rows, strict=True)), {**header, **(metadata or {})})
        (folder / FILE).write_bytes(content)


class LongerEmbedding(nn.Module):
    """An embedding with a few rows more, which alone are trained; ids from `first` on are theirs.

    The long table of the vocabulary is neither copied nor given a gradient.
    """

    def __init__(self, vocabulary: Any, rows: nn.Parameter, *, first: int) -> None:
        super().__init__()
        self.vocabulary: Any = vocabulary
        self.rows, self.first = rows, first

    def forward(self, ids: Tensor) -> Tensor:
        known = self.vocabulary(ids.clamp(max=self.first - 1))
        new = functional.embedding((ids - self.first).clamp(min=0), self.rows.to(known.dtype))
        return torch.where((ids >= self.first)[..., None], new, known)

    @property
    def weight(self) -> Tensor:
        """What transformers looks at for device and dtype."""
        return self.vocabulary.weight


def create(
    base: Base,
    word: str,
    *,
    like: str | None = None,
    vectors: int = 1,
    generator: torch.Generator | None = None,
) -> Tokens:
    """Teach the base a new word that starts out as `like`, or else as chance has it.

    Raises:
        UserError: the word is none, or is known already.
    """
    for text in base.texts:
        _check_word(text, word)
    rows = {text.name: _start(text, like, vectors, generator) for text in base.texts}
    return Tokens(base, word, rows)


def load(base: Base, folder: Path) -> Tokens:
    """Teach the base the word saved in `folder`.

    Raises:
        UserError: the file cannot be read, or was learned with another base.
    """
    word, saved = _read(folder)
    rows = dict(zip((text.name for text in base.texts), saved, strict=False))
    widths = [_table(text).shape[1] for text in base.texts]
    if [row.shape[-1] for row in saved] != widths:
        raise UserError(
            f"The word {word} in {folder / FILE} was learned with another base model: its rows "
            f"have {' and '.join(str(row.shape[-1]) for row in saved)} numbers, and this base's "
            f"{' and '.join(map(str, widths))}. Use the base it was trained on."
        )
    for text in base.texts:
        _check_word(text, word)
    return Tokens(base, word, rows)


def describe(folder: Path) -> dict[str, Any]:
    """The word that a folder holds, and how many vectors and numbers.

    Raises:
        UserError: the file cannot be read.
    """
    word, rows = _read(folder)
    return {WORD: word, "vectors": len(rows[0]), "widths": [row.shape[-1] for row in rows]}


def spelling(word: str, vectors: int) -> list[str]:
    """The names of a word's vectors: the word, word_1, word_2, ..."""
    return [word, *(f"{word}_{number}" for number in range(1, vectors))]


def _check_word(text: TextEncoder, word: str) -> None:
    if not word or word != word.strip() or len(word.split()) != 1:
        raise UserError(f"`{WORD}` is {word!r}, but it must be one word. Use for example <sks>.")
    if word in text.tokenizer.get_vocab() or word in text.words:
        raise UserError(
            f"`{WORD}` is {word!r}, which the base knows already. Use a new word, such as "
            f"<{word.strip('<>')}-1>."
        )


def _start(
    text: TextEncoder, like: str | None, vectors: int, generator: torch.Generator | None
) -> Tensor:
    """Rows `(vectors, width)`: those of the words of `like` in turn, else noise of usual size."""
    table = _table(text).detach().float().cpu()
    if like is None:
        noise = torch.randn(vectors, table.shape[1], generator=generator)
        return noise * table.std(0) + table.mean(0)
    ids = text.tokenizer(like, add_special_tokens=False).input_ids
    if not ids:
        raise UserError(
            f"`initializer_token` is {like!r}, which has no words. Use for example dog."
        )
    return table[[ids[number % len(ids)] for number in range(vectors)]]


def _table(text: TextEncoder) -> Tensor:
    return text.model.get_input_embeddings().weight


def _read(folder: Path) -> tuple[str, list[Tensor]]:
    """The word and its rows."""
    path = folder / FILE
    tensors, header = read_tensors(path)
    keys = CLIP_NAMES if set(tensors) == set(CLIP_NAMES) else tuple(tensors)
    rows = [tensors[key] for key in keys]
    word = header.get(WORD) or (keys[0] if len(keys) == 1 else "")
    alike = bool(rows) and all(r.ndim == 2 and len(r) == len(rows[0]) > 0 for r in rows)
    if not word or not alike or not all(row.isfinite().all() for row in rows):
        raise UserError(f"{path} does not hold the rows of one word. Save it again.")
    return word, rows

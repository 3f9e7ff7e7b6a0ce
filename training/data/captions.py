"""What is done to captions: trigger phrase, shuffled tags, and now and then no caption at all."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from ..objective import derive


def mentions(caption: str, phrase: str) -> bool:
    """Whether `phrase` stands in `caption` as whole words: "man" does not in "a woman".

    Capitals do not count, as CLIP reads small letters only.
    """
    edge = r"(?<!\w){}(?!\w)"
    return bool(re.search(edge.format(re.escape(phrase.casefold())), caption.casefold()))


@dataclass(frozen=True)
class CaptionRules:
    """How captions vary.

    `trigger` is put before a caption that does not hold it. With `shuffle` the parts between
    commas change places, in `count` orders drawn once; the first `keep` of them stay. `dropout`
    0..1 is the share of times that the caption is left out.
    """

    trigger: str | None = None
    shuffle: bool = False
    keep: int = 0
    count: int = 1
    dropout: float = 0.0
    seed: int = 0

    def variants(self, caption: str) -> tuple[str, ...]:
        """The different forms of `caption`, the trigger first in each."""
        words = [self._shuffled(caption, n) for n in range(self.count if self.shuffle else 1)]
        return tuple(dict.fromkeys(self._with_trigger(text) for text in words))

    def choose(self, variants: tuple[str, ...], stream: str, position: int) -> str:
        """The caption at `position` of a stream: one of the variants, or none."""
        chance = random.Random(derive(self.seed, f"caption {stream}", position))
        dropped = chance.random() < self.dropout
        chosen = variants[chance.randrange(len(variants))]
        return "" if dropped else chosen

    def _shuffled(self, caption: str, number: int) -> str:
        if not self.shuffle:
            return caption
        parts = [part.strip() for part in caption.split(",") if part.strip()]
        fixed, rest = parts[: self.keep], parts[self.keep :]
        random.Random(derive(self.seed, f"shuffle {caption}", number)).shuffle(rest)
        return ", ".join([*fixed, *rest])

    def _with_trigger(self, caption: str) -> str:
        if not self.trigger or mentions(caption, self.trigger):
            return caption
        return f"{self.trigger}, {caption}" if caption else self.trigger

"""What could be better about images that can all be used: one rule, one function."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..captions import mentions
from ..readers.folder import name_list
from ..readers.records import DataRequest
from ..tokens import cut_captions, remark_on
from .image_stats import ImageStats

BLURRED = 40.0
"""Photos measured 100 and more at 512 pixels, the same ones blurred by 2 pixels 16 and less."""
ALIKE_BITS, ALIKE_TONE = 4, 24.0
"""Different photos of one subject differed in 6 bits and more, copies saved anew in 0 to 2."""
FEWEST = 3
MUCH_CROPPED = 0.34
"""A square loses a third of the usual 3:2 photo, which is not worth a word."""
ENLARGED = 1.25
MOST_WORDS = 60
DARK = 3.0
"""Of 255, the mean of the brightest channel."""


@dataclass(frozen=True)
class Advice:
    """What was found about some `files`, and the `remedy`; `about` is its kind in one word.

    `flag` is the remedy that the command line has besides.
    """

    about: str
    files: tuple[str, ...]
    finding: str
    remedy: str = ""
    flag: str = ""

    @property
    def text(self) -> str:
        """All of it, as the command line tells it."""
        return self._told(self.remedy, self.flag)

    @property
    def plain(self) -> str:
        """The finding and what can be done about it without a command line."""
        return self._told(self.remedy)

    def _told(self, *remedies: str) -> str:
        choices = ", or ".join(remedy for remedy in remedies if remedy)
        return f"{self.finding} {choices}." if choices else self.finding


@dataclass(frozen=True)
class Survey:
    """All usable images, what was asked for, and the `trigger` that captions should hold.

    `tokenizers` are those of the base that will read the captions, where it is known.
    """

    images: Sequence[ImageStats]
    request: DataRequest
    resolution: int
    trigger: str | None
    tokenizers: Sequence[Any] = ()


Rule = Callable[[Survey], Iterator[Advice]]


def few(survey: Survey) -> Iterator[Advice]:
    count = len(survey.images)
    if 0 < count < FEWEST:
        finding = f"There {'is' if count == 1 else 'are'} only {count}."
        yield Advice("few", _names(survey.images), finding, "Add some: 3 to 10 images do well")


def copies(survey: Survey) -> Iterator[Advice]:
    """Pixel by pixel the same."""
    groups = defaultdict(list)
    for stats in survey.images:
        groups[stats.content].append(stats)
    for group in groups.values():
        if len(group) > 1:
            names = _names(group)
            finding = f"{name_list(names)} are the same image."
            yield Advice("duplicates", names, finding, "Keep one of them")


def alike(survey: Survey) -> Iterator[Advice]:
    """Nearly the same: few bits of the difference hash and little of the tone differ."""
    firsts = list({stats.content: stats for stats in reversed(survey.images)}.values())[::-1]
    for first, others in _close(firsts):
        names = _names([first, *others])
        finding = f"{name_list(names)} look almost the same."
        yield Advice("near_duplicates", names, finding, "Keep the best, or vary place and pose")


def blurred(survey: Survey) -> Iterator[Advice]:
    names = _names([stats for stats in survey.images if stats.sharpness < BLURRED])
    if names:
        finding = f"{name_list(names)}: blurred, or with hardly any detail."
        yield Advice("blurred", names, finding, "Replace by sharper ones")


def tiny(survey: Survey) -> Iterator[Advice]:
    names = _names([stats for stats in survey.images if stats.enlarged > ENLARGED])
    if names:
        finding = (
            f"{name_list(names)}: smaller than the {survey.resolution} pixels they are trained at, "
            "so they are enlarged."
        )
        yield Advice("tiny", names, finding, "Find larger versions", "lower --resolution")


def cropped(survey: Survey) -> Iterator[Advice]:
    names = _names([stats for stats in survey.images if stats.cropped > MUCH_CROPPED])
    if names:
        finding = f"{name_list(names)}: more than a third is cut away."
        remedy = "Crop around the subject yourself"
        yield Advice("cropped", names, finding, remedy, "add --enable_bucket")


def trigger(survey: Survey) -> Iterator[Advice]:
    if not survey.trigger:
        return
    own = [stats for stats in survey.images if stats.record.has_own_caption]
    names = _names([s for s in own if not mentions(s.record.caption, survey.trigger)])
    if names:
        finding = f"{name_list(names)}: the caption does not mention “{survey.trigger}”."
        flag = f'--trigger_phrase "{survey.trigger}"'
        yield Advice("trigger", names, finding, "Add the words", flag)


def uncaptioned(survey: Survey) -> Iterator[Advice]:
    names = _names([stats for stats in survey.images if not stats.record.caption])
    if names:
        finding = f"{name_list(names)}: no caption."
        yield Advice(
            "uncaptioned", names, finding, "Write `.txt` files beside", "add --instance_prompt"
        )


def long_captions(survey: Survey) -> Iterator[Advice]:
    """Counted in tokens where the base's tokenizers are known, else guessed from words."""
    if survey.tokenizers:
        captions = [(stats.record.name, stats.record.caption) for stats in survey.images]
        cut = cut_captions(survey.tokenizers, captions)
        for finding in remark_on(cut):
            names = tuple(caption.name for caption in cut)
            yield Advice("long_captions", names, finding, "Shorten the caption")
        return
    long = [stats for stats in survey.images if len(stats.record.caption.split()) > MOST_WORDS]
    if long:
        names = _names(long)
        finding = (
            f"{name_list(names)}: more than {MOST_WORDS} words, so most bases do not read the last."
        )
        flag = "count tokens with --pretrained_model_name_or_path BASE"
        yield Advice("long_captions", names, finding, "Shorten the caption", flag)


def dark(survey: Survey) -> Iterator[Advice]:
    """Such as 16-bit files with levels of 0..255."""
    names = _names([stats for stats in survey.images if max(stats.tone) < DARK])
    if names:
        finding = f"{name_list(names)}: nearly black all over."
        yield Advice("dark", names, finding, "Check how it was saved, or replace it")


def transparent(survey: Survey) -> Iterator[Advice]:
    names = _names(
        [stats for stats in survey.images if stats.is_transparent and not stats.has_mask]
    )
    if names:
        finding = f"{name_list(names)}: partly transparent, and laid on white."
        flag = "Add --alpha_mask to learn only what is opaque"
        yield Advice("transparent", names, finding, flag=flag)


RULES: tuple[Rule, ...] = (
    few, copies, alike, blurred, tiny, cropped, trigger, uncaptioned, long_captions, transparent,
    dark,
)  # fmt: skip


def _close(images: Sequence[ImageStats]) -> Iterator[tuple[ImageStats, list[ImageStats]]]:
    """Each image with the later ones like it; none comes up twice."""
    hashes = np.array([stats.likeness for stats in images], dtype=np.uint64)
    tones = np.array([stats.tone for stats in images], dtype=np.float64).reshape(-1, 3)
    grouped: set[int] = set()
    for number, stats in enumerate(images):
        if number in grouped:
            continue
        bits = np.bitwise_count(hashes[number + 1 :] ^ hashes[number])
        tone = np.abs(tones[number + 1 :] - tones[number]).max(axis=1)
        near = np.flatnonzero((bits <= ALIKE_BITS) & (tone <= ALIKE_TONE)) + number + 1
        others = [place for place in near.tolist() if place not in grouped]
        if others:
            grouped.update(others)
            yield stats, [images[place] for place in others]


def _names(images: Sequence[ImageStats]) -> tuple[str, ...]:
    return tuple(stats.record.name for stats in images)

"""What could be better about pictures that can all be used: one rule, one function."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .image_stats import Look
from .readers.folder import listing
from .readers.records import Request

BLURRED = 40.0
"""Photos measured 100 and more at 512 pixels, the same ones blurred by 2 pixels 16 and less."""
ALIKE_BITS, ALIKE_TONE = 4, 24.0
"""Different photos of one subject differed in 6 bits and more, copies saved anew in 0 to 2."""
FEWEST = 3
MUCH_CROPPED = 0.34
"""A square loses a third of the usual 3:2 photo, which is not worth a word."""
ENLARGED = 1.25
MOST_WORDS = 60


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
        given = ", or ".join(remedy for remedy in remedies if remedy)
        return f"{self.finding} {given}." if given else self.finding


@dataclass(frozen=True)
class Survey:
    """All usable pictures, what was asked for, and the `trigger` that captions should hold."""

    looks: Sequence[Look]
    request: Request
    resolution: int
    trigger: str | None


Rule = Callable[[Survey], Iterator[Advice]]


def few(survey: Survey) -> Iterator[Advice]:
    count = len(survey.looks)
    if 0 < count < FEWEST:
        finding = f"There {'is' if count == 1 else 'are'} only {count}."
        yield Advice("few", _names(survey.looks), finding, "Add some: 3 to 10 pictures do well")


def copies(survey: Survey) -> Iterator[Advice]:
    """Pixel by pixel the same."""
    groups = defaultdict(list)
    for look in survey.looks:
        groups[look.content].append(look)
    for group in groups.values():
        if len(group) > 1:
            names = _names(group)
            finding = f"{listing(names)} are the same picture."
            yield Advice("duplicates", names, finding, "Keep one of them")


def alike(survey: Survey) -> Iterator[Advice]:
    """Nearly the same: few bits of the difference hash and little of the tone differ."""
    firsts = list({look.content: look for look in reversed(survey.looks)}.values())[::-1]
    for first, others in _close(firsts):
        names = _names([first, *others])
        finding = f"{listing(names)} look almost the same."
        yield Advice("near_duplicates", names, finding, "Keep the best, or vary place and pose")


def blurred(survey: Survey) -> Iterator[Advice]:
    names = _names([look for look in survey.looks if look.sharpness < BLURRED])
    if names:
        finding = f"{listing(names)}: blurred, or with hardly any detail."
        yield Advice("blurred", names, finding, "Replace by sharper ones")


def tiny(survey: Survey) -> Iterator[Advice]:
    names = _names([look for look in survey.looks if look.enlarged > ENLARGED])
    if names:
        finding = (
            f"{listing(names)}: smaller than the {survey.resolution} pixels they are trained at, "
            "so they are enlarged."
        )
        yield Advice("tiny", names, finding, "Find larger versions", "lower --resolution")


def cropped(survey: Survey) -> Iterator[Advice]:
    names = _names([look for look in survey.looks if look.cropped > MUCH_CROPPED])
    if names:
        finding = f"{listing(names)}: more than a third is cut away."
        remedy = "Crop around the subject yourself"
        yield Advice("cropped", names, finding, remedy, "add --enable_bucket")


def trigger(survey: Survey) -> Iterator[Advice]:
    word = (survey.trigger or "").casefold()
    own = [look for look in survey.looks if look.record.has_own_caption]
    names = _names([look for look in own if word not in look.record.caption.casefold()])
    if names and word:
        finding = f"{listing(names)}: the caption does not mention “{survey.trigger}”."
        flag = f'--trigger_phrase "{survey.trigger}"'
        yield Advice("trigger", names, finding, "Add the words", flag)


def uncaptioned(survey: Survey) -> Iterator[Advice]:
    names = _names([look for look in survey.looks if not look.record.caption])
    if names:
        finding = f"{listing(names)}: no caption."
        yield Advice(
            "uncaptioned", names, finding, "Write `.txt` files beside", "add --instance_prompt"
        )


def long_captions(survey: Survey) -> Iterator[Advice]:
    long = [look for look in survey.looks if len(look.record.caption.split()) > MOST_WORDS]
    if long:
        names = _names(long)
        finding = f"{listing(names)}: more than {MOST_WORDS} words, the last of which are not read."
        yield Advice("long_captions", names, finding, "Shorten the caption")


def transparent(survey: Survey) -> Iterator[Advice]:
    names = _names([look for look in survey.looks if look.is_transparent and not look.has_mask])
    if names:
        finding = f"{listing(names)}: partly transparent, and laid on white."
        flag = "Add --alpha_mask to learn only what is opaque"
        yield Advice("transparent", names, finding, flag=flag)


RULES: tuple[Rule, ...] = (
    few, copies, alike, blurred, tiny, cropped, trigger, uncaptioned, long_captions, transparent,
)  # fmt: skip


def _close(looks: Sequence[Look]) -> Iterator[tuple[Look, list[Look]]]:
    """Each picture with the later ones like it; none comes up twice."""
    hashes = np.array([look.likeness for look in looks], dtype=np.uint64)
    tones = np.array([look.tone for look in looks], dtype=np.float64).reshape(-1, 3)
    taken: set[int] = set()
    for number, look in enumerate(looks):
        if number in taken:
            continue
        bits = np.bitwise_count(hashes[number + 1 :] ^ hashes[number])
        tone = np.abs(tones[number + 1 :] - tones[number]).max(axis=1)
        near = np.flatnonzero((bits <= ALIKE_BITS) & (tone <= ALIKE_TONE)) + number + 1
        others = [place for place in near.tolist() if place not in taken]
        if others:
            taken.update(others)
            yield look, [looks[place] for place in others]


def _names(looks: Sequence[Look]) -> tuple[str, ...]:
    return tuple(look.record.name for look in looks)

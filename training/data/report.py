"""The report in words, for the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from orthodiff.errors import printable

from .check import Report


def in_words(report: Report) -> str:
    """A few lines: what was found, what cannot be used, what could be better."""
    lines = [*_found(report), *_problems(report), *_advice(report)]
    return "\n".join(lines)


def summary(report: Report) -> str:
    """What was found, in a sentence: "5 pictures of 768 x 768 pixels, ..."."""
    count = len(report.looks)
    parts = [f"{count} picture{'s' if count != 1 else ''}{_sizes(report)}"]
    parts += [words for words in (_captions(report), _layers(report)) if words]
    return ", ".join(parts)


def cropping(report: Report) -> str:
    """How much is cut away, in a sentence."""
    most = max(report.looks, key=lambda look: look.cropped)
    if most.cropped < 0.005:
        return "nothing is cut away"
    mean = sum(look.cropped for look in report.looks) / len(report.looks)
    name = printable(most.record.name)
    share = f"{mean:.0%} of the pictures is cut away"
    alike = most.cropped - min(look.cropped for look in report.looks) < 0.02
    return share if alike else f"{share}, most of `{name}` ({most.cropped:.0%})"


def _found(report: Report) -> Iterator[str]:
    yield f"{printable(report.place)}: {report.layout}, {summary(report)}"
    repeats = Counter(look.record.repeats for look in report.looks)
    if set(repeats) - {1}:
        told = ", ".join(f"{n} repeated {often} times" for often, n in sorted(repeats.items()))
        yield f"in an epoch: {sum(k * n for k, n in repeats.items())} samples ({told})"
    if report.looks:
        yield f"at {report.resolution} pixels: {cropping(report)}"


def _sizes(report: Report) -> str:
    sizes = sorted({look.size for look in report.looks}, key=lambda size: size[0] * size[1])
    if not sizes:
        return ""
    first, last = (f"{width} x {height}" for width, height in (sizes[0], sizes[-1]))
    return f" of {first} pixels" if first == last else f" from {first} to {last} pixels"


def _captions(report: Report) -> str:
    own = sum(look.record.has_own_caption for look in report.looks)
    return f"{own} with captions of their own" if own else ""


def _layers(report: Report) -> str:
    masks = sum(look.has_mask for look in report.looks)
    conditions = sum(look.has_condition for look in report.looks)
    told = [f"{masks} with masks"] if masks else []
    return ", ".join([*told, *([f"{conditions} with conditions"] if conditions else [])])


def _problems(report: Report) -> Iterator[str]:
    if report.problems:
        yield f"\n{len(report.problems)} cannot be used:"
        yield from (f"  {problem}" for problem in report.problems)


def _advice(report: Report) -> Iterator[str]:
    if report.advice:
        yield "\nadvice:"
        yield from (f"  {told.text}" for told in report.advice)
    elif report.is_usable:
        yield "\nall is well"

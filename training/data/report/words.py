"""The report in words, for the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from orthodiff.errors import printable

from .check import DataReport


def in_words(report: DataReport) -> str:
    """A few lines: what was found, what cannot be used, what could be better."""
    lines = [*_found(report), *_problems(report), *_advice(report)]
    return "\n".join(lines)


def summary(report: DataReport) -> str:
    """What was found, in a sentence: "5 images of 768 x 768 pixels, ..."."""
    count = len(report.images)
    parts = [f"{count} image{'s' if count != 1 else ''}{_sizes(report)}"]
    parts += [words for words in (_captions(report), _layers(report)) if words]
    return ", ".join(parts)


def cropping(report: DataReport) -> str:
    """How much is cut away, in a sentence."""
    most = max(report.images, key=lambda stats: stats.cropped)
    if most.cropped < 0.005:
        return "nothing is cut away"
    mean = sum(stats.cropped for stats in report.images) / len(report.images)
    name = printable(most.record.name)
    share = f"{mean:.0%} of the images is cut away"
    alike = most.cropped - min(stats.cropped for stats in report.images) < 0.02
    return share if alike else f"{share}, most of `{name}` ({most.cropped:.0%})"


def _found(report: DataReport) -> Iterator[str]:
    yield f"{printable(report.place)}: {report.layout}, {summary(report)}"
    repeats = Counter(stats.record.repeats for stats in report.images)
    if set(repeats) - {1}:
        parts = ", ".join(f"{n} repeated {often} times" for often, n in sorted(repeats.items()))
        yield f"in an epoch: {sum(k * n for k, n in repeats.items())} samples ({parts})"
    if report.images:
        yield f"at {report.resolution} pixels: {cropping(report)}"


def _sizes(report: DataReport) -> str:
    sizes = sorted({stats.size for stats in report.images}, key=lambda size: size[0] * size[1])
    if not sizes:
        return ""
    first, last = (f"{width} x {height}" for width, height in (sizes[0], sizes[-1]))
    return f" of {first} pixels" if first == last else f" from {first} to {last} pixels"


def _captions(report: DataReport) -> str:
    own = sum(stats.record.has_own_caption for stats in report.images)
    return f"{own} with captions of their own" if own else ""


def _layers(report: DataReport) -> str:
    masks = sum(stats.has_mask for stats in report.images)
    conditions = sum(stats.has_control_image for stats in report.images)
    parts = [f"{masks} with masks"] if masks else []
    return ", ".join([*parts, *([f"{conditions} with conditions"] if conditions else [])])


def _problems(report: DataReport) -> Iterator[str]:
    if report.problems:
        yield f"\n{len(report.problems)} cannot be used:"
        yield from (f"  {problem}" for problem in report.problems)


def _advice(report: DataReport) -> Iterator[str]:
    if report.advice:
        yield "\nadvice:"
        yield from (f"  {advice.text}" for advice in report.advice)
    elif report.is_usable:
        yield "\nall is well"

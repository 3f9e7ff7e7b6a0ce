"""Aspect-ratio buckets: the few sizes that images of every shape are brought to.

Sizes are `(width, height)` in pixels, as Pillow has them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from orthodiff.errors import UserError

Size = tuple[int, int]


def make_buckets(
    resolution: int, *, step: int, smallest: int, largest: int, factor: int
) -> tuple[Size, ...]:
    """Every shape of about `resolution` squared pixels and no more, the square among them.

    Sides are multiples of `step` from `smallest` to `largest`, as kohya's trainer makes them:
    each width gets the greatest height that keeps within the area, and the other way round.

    Raises:
        UserError: `step` is not a multiple of `factor`, or the bounds leave out the square.
    """
    if step % factor:
        raise UserError(_not_a_multiple("bucket_reso_steps", step, factor))
    if not smallest <= resolution <= largest:
        raise UserError(
            f"Buckets from {smallest} to {largest} pixels a side leave out the square of "
            f"{resolution}. Correct --min_bucket_reso or --max_bucket_reso."
        )
    sizes = {(resolution, resolution)}
    for side in range(-(-smallest // step) * step, largest + 1, step):
        other = min(resolution**2 // side, largest) // step * step
        if other >= smallest:
            sizes |= {(side, other), (other, side)}
    return tuple(sorted(sizes))


def parse_buckets(text: str, *, factor: int = 1) -> tuple[Size, ...]:
    """`height,width;height,width;...`, the notation of diffusers' scripts.

    Raises:
        UserError: it is not written like that, or a side is not a multiple of `factor`.
    """
    pairs = [re.fullmatch(r"\s*(\d+)\s*,\s*(\d+)\s*", pair) for pair in text.split(";")]
    sizes = [(int(pair[2]), int(pair[1])) for pair in pairs if pair]
    if len(sizes) < len(pairs) or min(map(min, sizes)) < 1:
        raise UserError(
            f"`aspect_ratio_buckets` is {text!r}, which is not a list of height,width pairs. "
            'Write for example "512,512;640,384;384,640".'
        )
    for side in (side for size in sizes for side in size):
        if side % factor:
            raise UserError(_not_a_multiple("aspect_ratio_buckets", side, factor))
    return tuple(sizes)


def nearest_bucket(size: Size, buckets: Sequence[Size]) -> Size:
    """The bucket nearest in aspect ratio to an image of `size`; of equals the largest."""
    return min(buckets, key=lambda bucket: (_distance(size, bucket), -math.prod(bucket)))


def whole_size(size: Size, resolution: int, *, step: int) -> Size:
    """A size for an uncut image: about `resolution` squared pixels, sides multiples of `step`."""
    scale = resolution / math.sqrt(math.prod(size))
    width, height = (max(round(side * scale / step), 1) * step for side in size)
    return width, height


def _distance(one: Size, other: Size) -> float:
    """How far two shapes are apart, whichever is the wider: the logarithm of their ratios."""
    return abs(math.log(one[0] / one[1]) - math.log(other[0] / other[1]))


def _not_a_multiple(option: str, side: int, factor: int) -> str:
    return (
        f"`{option}` asks for sides of {side} pixels, but this base makes images in multiples "
        f"of {factor}. Use {max(round(side / factor), 1) * factor}."
    )

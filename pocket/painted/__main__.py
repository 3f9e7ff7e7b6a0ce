"""Paint subjects and data sets of the pocket world.

    python -m pocket.painted --subject 3 --count 5 --out DIR
    python -m pocket.painted --pairs canny --count 5000 --out DIR

paint the held-out subject number 3 in five poses and contexts, and a data set of images with
control images (`--split held-out`: other classes and layouts, to test on).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from orthodiff.errors import UserError
from pocket.painted.pairs import write_pairs
from pocket.painted.world import write_subject

BOUNDS = {
    "count": (1, 1_000_000),
    "size": (16, 2048),
    "seed": (0, 2**32 - 1),
    "subject": (0, 2**32 - 1),
}
"""The least and the most that the command line takes."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Paint images of the pocket world.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--subject", type=int, help="number of a held-out subject to paint")
    what.add_argument(
        "--pairs",
        choices=("canny", "scribble", "segmentation"),
        help="images with maps of this kind, as a data set",
    )
    parser.add_argument("--count", type=int, default=5, help="how many images")
    parser.add_argument("--seed", type=int, default=0, help="seed of the pairs")
    parser.add_argument(
        "--split",
        choices=("train", "held-out"),
        default="train",
        help="classes and layouts of the pairs: those to train on, or those kept for tests",
    )
    parser.add_argument("--size", type=int, default=64, help="side in pixels")
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace the pairs, or images of these names, that --out holds already",
    )
    try:
        print(_write(parser.parse_args()))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _write(options: argparse.Namespace) -> str:
    """Check the options, paint, and say what was painted."""
    for name, (least, most) in BOUNDS.items():
        value = getattr(options, name)
        if value is not None and not least <= value <= most:
            raise UserError(f"Use a `{name}` of {least} to {most}, not {value}.")
    try:
        return _paint(options)
    except OSError as error:
        raise UserError(
            f"The folder `{options.out}` cannot be written ({error.strerror or error}). "
            "Choose another --out."
        ) from error


def _paint(options: argparse.Namespace) -> str:
    if options.pairs is None:
        _check_empty(options.out, overwrite=options.overwrite)
        card = write_subject(options.subject, options.count, options.out, size=options.size)
        return f"{options.count} images of {card['caption']} in {options.out}"
    write_pairs(
        options.pairs,
        options.count,
        options.out,
        seed=options.seed,
        split=options.split,
        size=options.size,
        overwrite=options.overwrite,
    )
    return f"{options.count} {options.split} pairs with {options.pairs} maps in {options.out}"


def _check_empty(out: Path, *, overwrite: bool) -> None:
    if not overwrite and out.is_dir() and any(out.iterdir()):
        raise UserError(
            f"`{out}` is not empty. Choose a new folder, or add --overwrite to write the images "
            "beside what is there."
        )


if __name__ == "__main__":
    main()

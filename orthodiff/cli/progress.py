"""A progress bar over denoising steps."""

from __future__ import annotations

import sys

from tqdm import tqdm


class progress:  # noqa: N801 - used like a function: `with progress() as on_step`
    """A bar over denoising steps, on a terminal only."""

    def __enter__(self) -> progress:
        self.bar = tqdm(unit="step", disable=not sys.stderr.isatty())
        return self

    def __call__(self, done: int, total: int) -> None:
        self.bar.total = total
        self.bar.update(done - self.bar.n)

    def __exit__(self, *exception: object) -> None:
        self.bar.close()


def print_note(text: str) -> None:
    """Say what was done otherwise than may be thought, on standard error."""
    print(f"note: {text}", file=sys.stderr)

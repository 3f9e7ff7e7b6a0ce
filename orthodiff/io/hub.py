"""The hub, asked once and within seconds: where it gives nothing, what is kept here is used.

Its client would try again for half a minute, once for every file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Literal

from orthodiff.errors import first_line

SECONDS = 4.0
"""How long the hub may take to answer."""
_ALONE = Lock()


def trouble(
    name: str | Path, *, revision: str | None = None, kind: Literal["model", "dataset"] = "model"
) -> str | None:
    """Why the hub does not give `name`, with the remedy; None if it does, or if `name` is a path.

    What was downloaded before may still be at hand.
    """
    from huggingface_hub import HfApi

    if Path(name).exists():
        return None
    try:
        HfApi().repo_info(str(name), revision=revision, repo_type=kind, timeout=SECONDS)
    except Exception as error:  # of the hub, of its http library, of the system
        return tell(error)
    return None


def tell(error: Exception) -> str:
    """What an error of the hub's client means, and the remedy."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return "it is gated: accept its terms on its page of the hub, then run `hf auth login`"
    if isinstance(error, errors.RevisionNotFoundError):
        return "the hub has it, but not this revision: check --revision"
    if isinstance(error, errors.RepositoryNotFoundError | errors.HFValidationError):
        return "the hub shows none of this name: check it, or run `hf auth login` if it is private"
    return f"the hub cannot be reached ({first_line(error)}): connect, or give a folder"


@contextmanager
def offline() -> Iterator[None]:
    """Within the block libraries that cannot be told otherwise look only at what is kept here."""
    from huggingface_hub import constants

    with _ALONE:
        before = constants.HF_HUB_OFFLINE
        constants.HF_HUB_OFFLINE = True
        try:
            yield
        finally:
            constants.HF_HUB_OFFLINE = before

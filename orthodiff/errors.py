"""The one error a user is meant to read."""

from safetensors import SafetensorError


class UserError(ValueError):
    """A request that cannot be carried out, told in one sentence: what, why, and what to do.

    Command lines print it and exit with code 2; the studio shows it next to the form.
    """


UNUSABLE = (
    OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError,
)  # fmt: skip
"""What the libraries raise for a model folder with missing, damaged or foreign files."""

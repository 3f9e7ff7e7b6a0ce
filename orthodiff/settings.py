"""One setting of an adapter or a condition, read from a flag, a YAML value or a form."""

from __future__ import annotations

from typing import Any, get_args

from orthodiff.errors import UserError

KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}
EXAMPLE = 8
"""Of a setting without a default: those are numbers."""


def typed(name: str, kind: Any, value: Any, *, example: Any) -> Any:
    """A setting's `value`, perhaps a flag's text, as its `kind`.

    Raises:
        UserError: it is not, and does not read as, one.
    """
    from pydantic import TypeAdapter, ValidationError

    written = str(value) if isinstance(value, bool) else value  # true is no number
    try:
        return TypeAdapter(kind).validate_python(written)
    except ValidationError as error:
        words = [KINDS[one] for one in (kind, *get_args(kind)) if one in KINDS]
        raise UserError(
            f"`{name}` is {value!r}, but it must be {' or '.join(words)}. Use for example "
            f"{EXAMPLE if example is None else str(example).lower()}."
        ) from error

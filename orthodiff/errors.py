"""The one error a user is meant to read."""


class UserError(ValueError):
    """A request that cannot be carried out, told in one sentence: what, why, and what to do.

    Command lines print it and exit with code 2; the studio shows it next to the form.
    """


def printable(text: object) -> str:
    """One line of what others wrote, fit for a terminal: no control characters, no broken ones."""
    words = " ".join(str(text).split())
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in words
    )

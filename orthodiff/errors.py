"""The one error a user is meant to read."""


class UserError(ValueError):
    """A request that cannot be carried out, told in one sentence: what, why, and what to do.

    Command lines print it and exit with code 2; the studio shows it next to the form.
    """

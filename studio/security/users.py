"""The people who may use a studio, each with a long random token.

Tokens are random, so their SHA-256 can be kept: there is nothing to guess. A file of users has a
line `name sha256` for each; `orthodiff studio --add_user NAME` writes it and prints the token once.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from orthodiff.errors import UserError

VARIABLE = "ORTHODIFF_TOKEN"
LOCAL_USER, TOKEN_USER = "local", "owner"
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
DIGEST = re.compile(r"[0-9a-f]{64}")
LEAST_LENGTH = 16


@dataclass(frozen=True)
class Users:
    """Digests of tokens by name; without any, everybody is the one local user."""

    digests: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        """Whether no login is needed."""
        return not self.digests

    @property
    def first(self) -> str:
        """Who gets the runs that were started on the command line."""
        return next(iter(self.digests), LOCAL_USER)

    def owner_of(self, token: str) -> str | None:
        """Whose token this is. All are compared, each in constant time."""
        given, owner = token_digest(token), None
        for name, digest in self.digests.items():
            if hmac.compare_digest(given, digest):
                owner = name
        return owner


def read_users(path: Path | None) -> Users:
    """The users of a file, or the one of the environment variable, or none.

    Raises:
        UserError: the file cannot be read or has a bad line, or the token is short.
    """
    if path is not None:
        return Users(_read_file(path))
    token = os.environ.get(VARIABLE, "")
    if not token:
        return Users()
    if len(token) < LEAST_LENGTH:
        raise UserError(
            f"{VARIABLE} has {len(token)} letters, which can be guessed. Use at least "
            f"{LEAST_LENGTH}, for example {secrets.token_urlsafe(24)}"
        )
    return Users({TOKEN_USER: token_digest(token)})


def add_user(path: Path, name: str) -> str:
    """Write a new user, or a new token of a known one, into a file; the token.

    Raises:
        UserError: the name has other signs than small letters, digits, - and _.
    """
    if not NAME.fullmatch(name):
        raise UserError(
            f"`{name}` cannot be the name of a user. Use small letters, digits, - and _."
        )
    known = _read_file(path) if path.exists() else {}
    token = secrets.token_urlsafe(24)
    known[name] = token_digest(token)
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}")
    new.touch(mode=0o600)
    new.write_text("".join(f"{user} {digest}\n" for user, digest in known.items()), "utf-8")
    new.replace(path)
    return token


def token_digest(token: str) -> str:
    """SHA-256 of a token."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def _read_file(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The file of users `{path}` cannot be read ({error}).") from error
    users = {}
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 2 or not NAME.fullmatch(words[0]) or not DIGEST.fullmatch(words[1]):
            raise UserError(
                f"Line {number} of `{path}` is no user. A line is `name sha256`; write it with "
                "`orthodiff studio --users FILE --add_user NAME`."
            )
        users[words[0]] = words[1]
    if not users:
        raise UserError(f"The file of users `{path}` has no user. Add one with --add_user NAME.")
    return users

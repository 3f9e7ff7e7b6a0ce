"""Named things that outside packages can add to, by an entry point or by one call."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from orthodiff.errors import UserError, first_line

logger = logging.getLogger(__name__)
T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """The `builtin` entries, those registered since, and installed entry points of `group`.

    Entry points are found at the first look, not at import, and each is loaded when it is first
    used. One that cannot be loaded, or that `check` refuses by an error, is named in a warning
    once, and then left out.
    """

    def __init__(
        self,
        what: str,
        *,
        group: str,
        builtin: Mapping[str, T],
        check: Callable[[str, T], None] | None = None,
    ) -> None:
        self.what, self.group, self._check = what, group, check
        self._entries: dict[str, T] = dict(builtin)
        self._installed: dict[str, EntryPoint] | None = None

    def register(self, name: str, entry: T) -> T:
        """Add `entry`, and return it.

        Raises:
            UserError: the name is taken by something else, or the entry does not fit.
        """
        if self._check:
            self._check(name, entry)
        taken = self.get(name)
        if taken is not None and taken is not entry:
            raise UserError(f"The {self.what} `{name}` exists already. Give yours another name.")
        self._entries[name] = entry
        return entry

    def unregister(self, name: str) -> None:
        """Take out what `register` added."""
        del self._entries[name]

    def __getitem__(self, name: str) -> T:
        if name not in self._entries and name in self._entry_points():
            self._load(name)
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        for name in tuple(self._entry_points()):
            self._load(name)
        return iter(tuple(self._entries))

    def __len__(self) -> int:
        return len(tuple(iter(self)))

    def _entry_points(self) -> dict[str, EntryPoint]:
        """Those not yet loaded."""
        if self._installed is None:
            self._installed = {}
            for entry in entry_points(group=self.group):
                if entry.name in self._entries:
                    logger.warning(
                        "%s offers the %s `%s`, a name that is taken; it is left out.",
                        entry.value, self.what, entry.name,
                    )  # fmt: skip
                else:
                    self._installed[entry.name] = entry
        return self._installed

    def _load(self, name: str) -> None:
        entry = self._entry_points().pop(name)
        try:
            loaded = entry.load()
            if self._check:
                self._check(name, loaded)
            self._entries[name] = loaded
        except Exception as error:  # whatever a foreign package raises
            logger.warning(
                "The %s `%s` of %s cannot be loaded (%s: %s); it is left out.",
                self.what, name, entry.value, type(error).__name__, first_line(error),
            )  # fmt: skip

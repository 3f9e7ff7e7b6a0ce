"""Puts other code into functions that are there already, wherever they are referred to."""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType

Place = tuple[str, str, int]
"""A function's file, its qualified name and its first line."""
FUNCTION = 3
"""The flags of code with fast locals (CO_OPTIMIZED, CO_NEWLOCALS), which a class's body lacks."""


class NotPatchableError(Exception):
    """The difference is in what runs when the module is imported."""


class Functions:
    """All functions of a tree that are alive now."""

    def __init__(self, root: Path) -> None:
        self.known: defaultdict[Place, list[FunctionType]] = defaultdict(list)
        for function in [o for o in gc.get_objects() if type(o) is FunctionType]:
            if function.__code__.co_filename.startswith(f"{root}/"):
                self.known[_place(function.__code__)].append(function)

    def patch(self, filename: str, before: str, after: str) -> None:
        """Give those of a file the code that they have in `after`.

        Raises:
            NotPatchableError: the files differ in more than the insides of functions, or a function
                cannot take the code, because it refers to other variables around it.
        """
        for place, code in changed(filename, before, after):
            for function in self.known[place]:
                try:
                    function.__code__ = code
                except ValueError as error:
                    raise NotPatchableError(filename) from error


def changed(filename: str, before: str, after: str) -> list[tuple[Place, CodeType]]:
    """The functions of a file that are others in `after`, and their code there.

    Raises:
        NotPatchableError: other things differ, or nothing does.
    """
    old, new = (compile(text, filename, "exec", dont_inherit=True) for text in (before, after))
    functions = list(_changed(old, new))
    if not functions:
        raise NotPatchableError(filename)
    return functions


def _place(code: CodeType) -> Place:
    return code.co_filename, code.co_qualname, code.co_firstlineno


def _changed(before: CodeType, after: CodeType) -> Iterator[tuple[Place, CodeType]]:
    """The places of functions whose code differs, and what they do in `after`."""
    if before.co_flags & FUNCTION != FUNCTION and _own(before) != _own(after):
        raise NotPatchableError(before.co_filename)
    for old, new in zip(_inner(before), _inner(after), strict=False):
        if _whole(old) != _whole(new):
            if old.co_flags & FUNCTION == FUNCTION:
                yield _place(old), new
            yield from _changed(old, new)


def _inner(code: CodeType) -> list[CodeType]:
    return [value for value in code.co_consts if isinstance(value, CodeType)]


def _own(code: CodeType) -> tuple[object, ...]:
    """What code does, without line numbers and without what is defined in it."""
    constants = [(type(v), repr(v)) for v in code.co_consts if not isinstance(v, CodeType)]
    names = code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars
    return (code.co_name, code.co_code, code.co_flags, names, constants, len(_inner(code)))


def _whole(code: CodeType) -> tuple[object, ...]:
    return (_own(code), *map(_whole, _inner(code)))

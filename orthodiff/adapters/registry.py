"""Every method that can be trained, by name; open to other packages."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

from orthodiff.adapters.boft import BOFT
from orthodiff.adapters.hra import HRA
from orthodiff.adapters.lora import LoRA
from orthodiff.adapters.method import Method
from orthodiff.adapters.oft import OFT
from orthodiff.errors import UserError
from orthodiff.registry import Registry

M = TypeVar("M", bound=Method)


def _check(name: str, method: Any) -> None:
    """Refuse what is no method, or has no defaults.

    Raises:
        UserError: saying what is wrong with it.
    """
    if not (isinstance(method, type) and issubclass(method, Method)):
        raise UserError(
            f"`{name}` is {method!r}, but an adapter is a class that derives from RotationMethod "
            "or Method."
        )
    if getattr(method, "name", None) != name or not name.isidentifier():
        raise UserError(
            f"The adapter {method.__name__} is registered as `{name}`, but its `name` is "
            f"{getattr(method, 'name', None)!r}. Both must be the same word."
        )
    for field in dataclasses.fields(method):
        if field.default is dataclasses.MISSING:
            raise UserError(f"The setting `{field.name}` of {name} has no default. Give it one.")


ADAPTERS: Registry[type[Method]] = Registry(
    "adapter",
    group="orthodiff.adapters",
    builtin={method.name: method for method in (HRA, OFT, BOFT, LoRA)},
    check=_check,
)
"""Every method that can be trained, by name: flags, forms and tests are made from it.

A package adds its own by an entry point: `name = "package.module:Class"`.
"""


def register_adapter(method: type[M]) -> type[M]:
    """Add a method to `ADAPTERS`; also a class decorator. Its name must be new.

    An installed package does without the call by an entry point of the group `orthodiff.adapters`.

    Raises:
        UserError: if the name is taken, or the class is no method with defaults.
    """
    ADAPTERS.register(getattr(method, "name", ""), method)
    return method


def by_peft_type() -> dict[str, type[Method]]:
    """Return every method that can be trained by the type in the configs of its folders."""
    methods = list(ADAPTERS.values())
    theirs = {method.peft_type: method for method in methods if method.peft_type}
    return {**theirs, **{method.own_type(): method for method in methods}}

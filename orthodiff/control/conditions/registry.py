"""Every kind of control image by name; open to other packages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orthodiff.control.conditions.base import Condition
from orthodiff.control.conditions.canny import Canny
from orthodiff.control.conditions.depth import Depth
from orthodiff.control.conditions.landmarks import Landmarks
from orthodiff.control.conditions.scribble import Scribble
from orthodiff.control.conditions.segmentation import Segmentation
from orthodiff.errors import UserError
from orthodiff.registry import Registry

_BUILTIN: tuple[type[Condition], ...] = (Canny, Scribble, Segmentation, Depth, Landmarks)
CONDITIONS: Registry[type[Condition]] = Registry(
    "condition", group="orthodiff.conditions", builtin={kind.name: kind for kind in _BUILTIN}
)
"""Every condition by name; packages add theirs by entry points `orthodiff.conditions`."""


def register_condition(condition: type[Condition]) -> type[Condition]:
    """Let `condition_of`, and so the command line, know a kind of control image.

    Raises:
        UserError: another condition has its name.
    """
    return CONDITIONS.register(condition.name, condition)


def condition_of(name: str, settings: Mapping[str, Any] | None = None) -> Condition:
    """The condition `name` with `settings`; what they leave out is the default.

    Raises:
        UserError: there is no such condition, or a setting does not fit.
    """
    if name not in CONDITIONS:
        raise UserError(f"`{name}` is no condition. Known are {', '.join(CONDITIONS)}.")
    return CONDITIONS[name].from_settings(settings or {})

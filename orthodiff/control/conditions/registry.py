"""Every kind of map by name."""

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

_KINDS: tuple[type[Condition], ...] = (Canny, Scribble, Segmentation, Depth, Landmarks)
CONTROLS = {kind.name: kind for kind in _KINDS}


def condition_of(name: str, settings: Mapping[str, Any] | None = None) -> Condition:
    """The condition `name` with `settings`; what they leave out is usual.

    Raises:
        UserError: there is no such condition, or a setting does not fit.
    """
    if name not in CONTROLS:
        raise UserError(f"`{name}` is no kind of map. Known are {', '.join(CONTROLS)}.")
    return CONTROLS[name].from_settings(settings or {})

"""Steer generation by control images: edges, scribbles, segmentation, depth, landmarks."""

from orthodiff.control.adapter import (
    CONFIG,
    Control,
    attach,
    describe,
    is_control,
    load,
    read_config,
    read_metadata,
)
from orthodiff.control.conditions.base import Condition
from orthodiff.control.conditions.canny import Canny
from orthodiff.control.conditions.depth import Depth
from orthodiff.control.conditions.landmarks import Landmarks
from orthodiff.control.conditions.registry import CONDITIONS, condition_of, register_condition
from orthodiff.control.conditions.scribble import Scribble
from orthodiff.control.conditions.segmentation import Segmentation
from orthodiff.control.encoder import HintEncoder
from orthodiff.control.guidance import Steering
from orthodiff.control.image import (
    compute,
    fit,
    overlay,
    ready,
    to_tensor,
)

__all__ = [
    "CONDITIONS",
    "CONFIG",
    "Canny",
    "Condition",
    "Control",
    "Depth",
    "HintEncoder",
    "Landmarks",
    "Scribble",
    "Segmentation",
    "Steering",
    "attach",
    "compute",
    "condition_of",
    "describe",
    "fit",
    "is_control",
    "load",
    "overlay",
    "read_config",
    "read_metadata",
    "ready",
    "register_condition",
    "to_tensor",
]

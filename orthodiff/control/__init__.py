"""Steer generation by maps: edges, scribbles, segmentation, depth, landmarks. One file each."""

from orthodiff.control.base import Condition
from orthodiff.control.canny import Canny
from orthodiff.control.depth import Depth
from orthodiff.control.handle import (
    CONFIG,
    Control,
    attach,
    describe,
    is_control,
    load,
    read_config,
    read_metadata,
)
from orthodiff.control.hint import HintEncoder
from orthodiff.control.kinds import CONTROLS, condition_of
from orthodiff.control.landmarks import Landmarks
from orthodiff.control.maps import compute, fit, overlay, ready, to_tensor
from orthodiff.control.scribble import Scribble
from orthodiff.control.segmentation import Segmentation
from orthodiff.control.steering import Steering

__all__ = [
    "CONFIG",
    "CONTROLS",
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
    "to_tensor",
]

"""Steer generation by maps: edges, scribbles, segmentation, depth, landmarks. One file each."""

from orthodiff.control.base import Condition
from orthodiff.control.canny import Canny
from orthodiff.control.handle import Control, attach, is_control, load, read_config
from orthodiff.control.hint import HintEncoder
from orthodiff.control.kinds import CONTROLS, condition_of
from orthodiff.control.scribble import Scribble

__all__ = [
    "CONTROLS",
    "Canny",
    "Condition",
    "Control",
    "HintEncoder",
    "Scribble",
    "attach",
    "condition_of",
    "is_control",
    "load",
    "read_config",
]

"""The options of a run, one file per room; a task's configuration is composed of them.

Every field changes the result of a run unless marked `Harmless`: a run continued from a checkpoint
refuses a changed field by name. Validators of different rooms need different names, for a later
one of the same name would replace the earlier.
"""

from .adapter import AdapterOptions
from .alias import merged, spelled_out_file
from .base import Harmless, Options, harmful_fields
from .compatible import CompatibleOptions
from .control import ControlTrainingOptions
from .data import DataOptions
from .memory import MemoryOptions
from .model import ModelOptions
from .optimise import ObjectiveOptions, OptimiseOptions
from .output import CheckpointOptions, HubOptions, LogOptions
from .source import SourceOptions
from .subject import PriorOptions, SubjectOptions
from .text import TextOptions
from .validation import ValidationOptions

__all__ = [
    "AdapterOptions",
    "CheckpointOptions",
    "CompatibleOptions",
    "ControlTrainingOptions",
    "DataOptions",
    "Harmless",
    "HubOptions",
    "LogOptions",
    "MemoryOptions",
    "ModelOptions",
    "ObjectiveOptions",
    "OptimiseOptions",
    "Options",
    "PriorOptions",
    "SourceOptions",
    "SubjectOptions",
    "TextOptions",
    "ValidationOptions",
    "harmful_fields",
    "merged",
    "spelled_out_file",
]

"""The options of a run, one file per room; a task's configuration is composed of them.

Every field changes the result of a run unless marked `Harmless`: a run continued from a checkpoint
refuses a changed field by name. Validators of different rooms need different names, for a later
one of the same name would replace the earlier.
"""

from training.options.adapter import AdapterOptions
from training.options.alias import merged, spelled_out_file
from training.options.base import Harmless, Options, harmful_fields
from training.options.checkpoints import CheckpointOptions
from training.options.compatible import CompatibleOptions
from training.options.control import ControlOptions
from training.options.data import DataOptions
from training.options.hub import HubOptions
from training.options.logs import LogOptions
from training.options.memory import MemoryOptions
from training.options.model import ModelOptions
from training.options.objective import ObjectiveOptions
from training.options.optimise import OptimiseOptions
from training.options.source import SourceOptions
from training.options.subject import PriorOptions, SubjectOptions
from training.options.text import TextOptions
from training.options.validation import ValidationOptions

__all__ = [
    "AdapterOptions",
    "CheckpointOptions",
    "CompatibleOptions",
    "ControlOptions",
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

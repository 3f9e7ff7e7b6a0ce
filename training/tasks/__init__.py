"""What can be trained: a task says what a run is told, what it learns from, and what it learns."""

from typing import Any

from .base import Task
from .control import ControlTask
from .dreambooth import DreamBooth

TASKS: dict[str, Task[Any]] = {task.name: task for task in (DreamBooth(), ControlTask())}

__all__ = ["TASKS", "ControlTask", "DreamBooth", "Task"]

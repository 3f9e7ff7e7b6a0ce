"""What can be trained: a task says what a run is told, what it learns from, and what it learns."""

from .base import Task
from .control import ControlTask
from .dreambooth import DreamBooth

TASKS: dict[str, Task] = {task.name: task for task in (DreamBooth(), ControlTask())}

__all__ = ["TASKS", "ControlTask", "DreamBooth", "Task"]

"""Where workers run: in this process, in several on this machine, or on a Ray cluster."""

from orthodiff.batch.engines.base import Engine, Result

__all__ = ["Engine", "Result"]

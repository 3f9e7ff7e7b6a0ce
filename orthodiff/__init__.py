"""Personalise and control diffusion models with orthogonal adapters."""

from typing import Any

from orthodiff.adapters import (
    ADAPTERS,
    BOFT,
    HRA,
    OFT,
    LoRA,
    Method,
    RotationMethod,
    register_adapter,
)
from orthodiff.adapters.adapter import Adapter
from orthodiff.adapters.algebra.combine import compose, interpolate
from orthodiff.adapters.attach import attach
from orthodiff.adapters.peft_format.load import load
from orthodiff.adapters.targets import (
    ALL_LINEAR,
    ATTENTION,
    ATTENTION_AND_GEGLU,
    TEXT_ATTENTION,
)
from orthodiff.errors import UserError
from orthodiff.export import export
from orthodiff.models import load_base
from orthodiff.sampling import GenerateRequest, generate


def __getattr__(name: str) -> Any:
    """`generate_many`, whose rows need pydantic: imported when it is used."""
    if name == "generate_many":
        from orthodiff.batch.stream import generate_many

        return generate_many
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "ADAPTERS",
    "ALL_LINEAR",
    "ATTENTION",
    "ATTENTION_AND_GEGLU",
    "BOFT",
    "HRA",
    "OFT",
    "TEXT_ATTENTION",
    "Adapter",
    "GenerateRequest",
    "LoRA",
    "Method",
    "RotationMethod",
    "UserError",
    "attach",
    "compose",
    "export",
    "generate",
    "generate_many",
    "interpolate",
    "load",
    "load_base",
    "register_adapter",
]

"""Personalise and control diffusion models with orthogonal adapters."""

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
from orthodiff.adapters.adapter import Adapter, attach
from orthodiff.adapters.algebra.combine import compose, interpolate
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
    "interpolate",
    "load",
    "load_base",
    "register_adapter",
]

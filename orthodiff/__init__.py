"""Personalise and control diffusion models with orthogonal adapters."""

from orthodiff.adapters import ADAPTERS, BOFT, HRA, OFT, LoRA
from orthodiff.algebra import compose, interpolate
from orthodiff.checkpoint import load
from orthodiff.errors import UserError
from orthodiff.export import export
from orthodiff.inject import Adapter, attach
from orthodiff.targets import ALL_LINEAR, ATTENTION, ATTENTION_AND_GEGLU, TEXT_ATTENTION

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
    "LoRA",
    "UserError",
    "attach",
    "compose",
    "export",
    "interpolate",
    "load",
]

"""One file per method; `ADAPTERS` is the registry that forms, flags and tests are made from."""

from orthodiff.adapters.algebra.chain import Chain
from orthodiff.adapters.boft import BOFT
from orthodiff.adapters.hra import HRA
from orthodiff.adapters.lora import LoRA
from orthodiff.adapters.method import Method
from orthodiff.adapters.oft import OFT
from orthodiff.adapters.registry import ADAPTERS, register_adapter
from orthodiff.adapters.rotation import Rotation
from orthodiff.adapters.rotation_method import RotationMethod
from orthodiff.adapters.settings import setting

__all__ = [
    "ADAPTERS",
    "BOFT",
    "HRA",
    "OFT",
    "Chain",
    "LoRA",
    "Method",
    "Rotation",
    "RotationMethod",
    "register_adapter",
    "setting",
]

"""One file per method; `ADAPTERS` is the list that forms, flags and tests are made from."""

from orthodiff.adapters.base import Method
from orthodiff.adapters.boft import BOFT
from orthodiff.adapters.hra import HRA
from orthodiff.adapters.lora import LoRA
from orthodiff.adapters.oft import OFT

ADAPTERS: dict[str, type[Method]] = {method.name: method for method in (HRA, OFT, BOFT, LoRA)}
"""Every method by name."""

__all__ = ["ADAPTERS", "BOFT", "HRA", "OFT", "LoRA", "Method"]

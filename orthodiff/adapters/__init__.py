"""One file per method; `ADAPTERS` is the list that forms, flags and tests are made from."""

from orthodiff.adapters.boft import BOFT
from orthodiff.adapters.chain import Chain
from orthodiff.adapters.hra import HRA
from orthodiff.adapters.lora import LoRA
from orthodiff.adapters.method import Method
from orthodiff.adapters.oft import OFT

ADAPTERS: dict[str, type[Method]] = {method.name: method for method in (HRA, OFT, BOFT, LoRA)}
"""Every method that can be trained, by name."""

_LOADABLE: tuple[type[Method], ...] = (*ADAPTERS.values(), Chain)
OURS = "ORTHODIFF_"
"""Precedes PEFT's name of a method where PEFT would compute something else, and so refuses."""
READABLE: dict[str, type[Method]] = {
    **{method.peft_type: method for method in _LOADABLE},
    **{f"{OURS}{method.peft_type}": method for method in ADAPTERS.values()},
}
"""Every method that can be loaded, by PEFT's name or ours."""

__all__ = ["ADAPTERS", "BOFT", "HRA", "OFT", "OURS", "READABLE", "Chain", "LoRA", "Method"]

"""The adapters that are timed: PEFT's and ours, on the papers' attention projections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

import orthodiff
from orthodiff.adapters import Method

Attach = Callable[[nn.Module], nn.Module]


def ours(method: Method) -> Attach:
    """Return what attaches one of our adapters."""

    def attach(model: nn.Module) -> nn.Module:
        orthodiff.attach(model, method)
        return model

    return attach


def pefts(config: str, **settings: Any) -> Attach:
    """Return what attaches one of PEFT's."""

    def attach(model: nn.Module) -> nn.Module:
        import peft

        targets = list(orthodiff.ATTENTION)
        return peft.get_peft_model(model, getattr(peft, config)(target_modules=targets, **settings))

    return attach


def frozen(model: nn.Module) -> nn.Module:
    """Freeze the model and nothing else: the floor."""
    return model.requires_grad_(False)


COMPARED_ADAPTERS: dict[str, Attach] = {
    "frozen base": frozen,
    "PEFT LoRA r8": pefts("LoraConfig", r=8),
    "PEFT LoRA r32": pefts("LoraConfig", r=32),
    "PEFT HRA r8": pefts("HRAConfig", r=8),
    "PEFT OFT b8": pefts("OFTConfig", oft_block_size=8),
    "PEFT BOFT b8 m1": pefts("BOFTConfig", boft_block_size=8),
    "LoRA r8": ours(orthodiff.LoRA(rank=8)),
    "HRA r8": ours(orthodiff.HRA(rank=8)),
    "LoRA r32": ours(orthodiff.LoRA(rank=32)),
    "HRA r32": ours(orthodiff.HRA(rank=32)),
    "OFT b8": ours(orthodiff.OFT(block_size=8)),
    "OFT b32": ours(orthodiff.OFT(block_size=32)),
    "BOFT b8 m1": ours(orthodiff.BOFT(block_size=8, factors=1)),
    "BOFT b8 m4": ours(orthodiff.BOFT(block_size=8, factors=4)),
}

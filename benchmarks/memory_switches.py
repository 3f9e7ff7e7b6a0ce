"""Peak memory of a training step at Stable Diffusion 1.5's size, by the switches that lower it.

    python -m benchmarks.memory_switches --json benchmarks/results/memory_switches.json

The real step runs on tensors that have shapes but no numbers, so any size is counted in seconds on
any machine: weights, activations, gradients and the optimizer's state, without what kernels need
for themselves. HRA on the attention; prompts and latents are cached as in every run, so neither
text encoder nor autoencoder is there. `training/events/failures.py` tells these figures when
memory runs out.
"""

from __future__ import annotations

import argparse
import json
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.support.timed_models import TEXT
from orthodiff import HRA, attach
from orthodiff.training.run.hardware import attention_kernel


@dataclass(frozen=True)
class Setup:
    """A step: `batch` samples of `resolution` pixels a side, `accumulated` times."""

    batch: int = 4
    accumulated: int = 1
    resolution: int = 512
    bf16: bool = False
    checkpointing: bool = False
    attention: str = "sdpa"


def main() -> None:
    """Count, print the table and write the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--resolution", type=int, default=512)
    options = parser.parse_args()
    plain = Setup(batch=options.batch, resolution=options.resolution)
    peaks, saves = {}, {}
    for name, (before, after) in switched(plain).items():
        peaks[name] = [peak(before), peak(after)]
        saves[name] = round(1 - peak(after) / peak(before), 3)
        gib = [each / 2**30 for each in peaks[name]]
        print(f"{name:<24} {gib[0]:6.2f} -> {gib[1]:6.2f} GiB", flush=True)
    if options.json:
        results = {
            "torch": torch.__version__,
            "plain": asdict(plain),
            "peak_bytes": peaks,
            "saves": saves,
        }
        options.json.write_text(f"{json.dumps(results, indent=2)}\n", "utf-8")


def switched(plain: Setup) -> dict[str, tuple[Setup, Setup]]:
    """What is compared, by the name of its switch: without it and with it."""
    single = replace(plain, batch=1, accumulated=plain.batch)
    half = replace(plain, resolution=plain.resolution // 2)
    lean = replace(single, bf16=True, checkpointing=True)
    return {
        "gradient_checkpointing": (plain, replace(plain, checkpointing=True)),
        "train_batch_size": (plain, single),
        "attention": (replace(plain, attention="math"), plain),
        "mixed_precision": (plain, replace(plain, bf16=True)),
        "resolution": (plain, half),
        "all but resolution": (plain, lean),
    }


@cache
def peak(setup: Setup) -> int:
    """Bytes at the highest point of a step."""
    with FakeTensorMode():
        unet = make_unet(torch.bfloat16 if setup.bf16 else torch.float32)
        if setup.checkpointing:
            unet.enable_gradient_checkpointing()
        parameters = attach(unet, HRA(rank=8)).parameters()
        optimizer = torch.optim.AdamW(parameters)
        with Ledger(unet.parameters()) as ledger:
            take_step(unet, optimizer, setup)
    return ledger.peak


def make_unet(dtype: torch.dtype) -> Any:
    """Stable Diffusion 1.5's, made in `dtype`: what has no numbers cannot be converted."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        return UNet2DConditionModel(sample_size=64, cross_attention_dim=768).train()
    finally:
        torch.set_default_dtype(default)


def take_step(unet: Any, optimizer: torch.optim.Optimizer, setup: Setup) -> None:
    """A whole training step, from inputs to the update."""
    side, dtype = setup.resolution // 8, unet.conv_in.weight.dtype
    for _ in range(setup.accumulated):
        latents = torch.randn(setup.batch, 4, side, side, dtype=dtype)
        text = torch.randn(setup.batch, *TEXT, dtype=dtype)
        timesteps = torch.randint(1000, (setup.batch,))
        with attention_kernel(setup.attention):
            output = unet(latents, timesteps, text).sample
            (output.float().square().mean() / setup.accumulated).backward()
    optimizer.step()
    optimizer.zero_grad()


class Ledger(TorchDispatchMode):
    """Counts the bytes of every storage from the operation that makes it until nobody has it.

    What `there` holds is counted from the start.
    """

    def __init__(self, there: Iterable[Tensor]) -> None:
        super().__init__()
        self.held = self.peak = 0
        self.known: dict[int, Any] = {}
        for tensor in there:
            self._note(tensor.untyped_storage())

    def __torch_dispatch__(
        self,
        operation: Any,
        types: Sequence[type],
        arguments: Sequence[Any] = (),
        settings: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run the operation and take what it made into account."""
        made = operation(*arguments, **(settings or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._note(tensor.untyped_storage())
        return made

    def _note(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()
        if key in self.known:
            return

        def gone(_: Any) -> None:
            del self.known[key]
            self.held -= size

        self.known[key] = weakref.ref(storage, gone)
        self.held += size
        self.peak = max(self.peak, self.held)


if __name__ == "__main__":
    main()

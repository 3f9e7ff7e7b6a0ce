"""How many kernels one training step launches with each adapter, and how often it waits for them.

`python -m benchmarks.launches --json benchmarks/results/launches.json` counts the operations of a
forward and a backward pass as they reach torch's kernels, on UNets with the layers of Stable
Diffusion 1.5 and XL at small widths, on a CPU and in seconds. Where a GPU computes a step faster
than Python can launch it, this number is what an adapter costs. Views launch nothing. An operation
whose result Python has to see waits for the device. The optimizer is left out: it is the same.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.support.compared_adapters import COMPARED_ADAPTERS
from orthodiff.adapters.compiled import compile_model
from orthodiff.adapters.layers.shared_solves import SharedSolves

BASE, YARDSTICK = "frozen base", "PEFT LoRA r8"
ROWS = (BASE, YARDSTICK, "HRA r8", "OFT b32", "BOFT b8 m4")
PRECISIONS = ("float32", "bfloat16", "autocast")
"""Of the base: autocast computes in bfloat16 from float32 weights. Adapters are float32 in all."""

WITHOUT_KERNEL = {"detach", "_unsafe_view", "empty", "empty_strided", "empty_like", "new_empty",
                  "new_empty_strided", "lift_fresh", "_reshape_alias", "alias"}  # fmt: skip
WAITING = {"_local_scalar_dense", "item", "nonzero", "is_nonzero", "equal", "masked_select",
           "_linalg_check_errors", "_unique2", "unique_dim"}  # fmt: skip
SOLVES = {"linalg_solve_triangular", "linalg_inv_ex"}
MARKS = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}


class Launches(TorchDispatchMode):
    """Counts the kernels and the waits of what runs within, by operation."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()

    supports_higher_order_operators = True

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """Let compiled code run as compiled within: what its graphs launch is counted."""
        return True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not hasattr(func, "_schema"):  # checkpointing in a graph; what is in it comes by itself
            return func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::")
        depends = name in WAITING or MARKS & set(func.tags)
        if depends and not _takes_rows_by_number(name, args):
            self.waits[name] += 1
        if name not in WITHOUT_KERNEL and not _is_view(func):
            self.kernels[name] += 1
        return func(*args, **(kwargs or {}))


def _is_view(func: Any) -> bool:
    """Whether the result shows an argument's memory."""
    return any(r.alias_info and not r.alias_info.is_write for r in func._schema.returns)


def _takes_rows_by_number(name: str, args: Any) -> bool:
    """Whether this is a look-up, whose result has a known size, and no selection by a mask."""
    if name not in ("index", "index_put", "index_put_"):
        return False
    return all(index is None or index.dtype == torch.int64 for index in args[1])


def sd15() -> UNet2DConditionModel:
    """Return a UNet with the layers of Stable Diffusion 1.5, a fifth as wide."""
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(64, 128, 256, 256),
        cross_attention_dim=192,
        attention_head_dim=8,
    )


def sdxl() -> UNet2DConditionModel:
    """Return a UNet with the layers of Stable Diffusion XL, a fifth as wide."""
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(64, 128, 256),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 10),
        attention_head_dim=(4, 8, 16),
        cross_attention_dim=192,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=80,
    )


TOPOLOGIES: dict[str, Callable[[], UNet2DConditionModel]] = {"SD 1.5": sd15, "SDXL": sdxl}


def step_of(unet: nn.Module, precision: str) -> Callable[[], None]:
    """Return a forward and backward pass; the latents ask for a gradient, so that all rows do."""
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    latents = torch.randn(1, 4, 8, 8, dtype=dtype)
    text = torch.randn(1, 7, 192, dtype=dtype)
    extra = {"text_embeds": torch.randn(1, 32, dtype=dtype), "time_ids": torch.ones(1, 6)}

    def step() -> None:
        x: Tensor = latents.detach().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "autocast"):
            output = unet(x, torch.tensor(500), text, added_cond_kwargs=extra).sample
        output.float().square().mean().backward()
        unet.zero_grad()

    return step


def solve_apart(unet: nn.Module) -> None:
    """Let each adapted layer solve for itself."""
    for hook in list(unet._forward_pre_hooks.values()):
        if isinstance(owner := getattr(hook, "__self__", None), SharedSolves):
            owner.remove()


def compile_blocks(unet: UNet2DConditionModel) -> None:
    """Trace the repeated blocks, solves in their graphs, and run these as they stand."""
    unet.compile_repeated_blocks(backend="eager")


WAYS: dict[str, Callable[[UNet2DConditionModel], None]] = {
    "as it is": lambda unet: None,
    "each layer solving for itself": solve_apart,
    "blocks compiled, each layer solving for itself": compile_blocks,
    "blocks compiled, solves shared": partial(compile_model, repeated_blocks=True, backend="eager"),
}
"""Ways to run an adapted UNet. A compiler fuses some of what is counted; solves it cannot."""


def count(topology: str, row: str, precision: str, way: str = "as it is") -> Launches:
    """Return the launches of the second step; the first may do what is done once."""
    torch.manual_seed(0)
    torch.compiler.reset()
    unet = TOPOLOGIES[topology]().train()
    model = COMPARED_ADAPTERS[row](unet.to(torch.bfloat16) if precision == "bfloat16" else unet)
    WAYS[way](unet)
    step = step_of(model, precision)
    step()
    with Launches() as launches:
        step()
    return launches


def measure(topology: str, precision: str, rows: tuple[str, ...] = ROWS) -> list[dict[str, Any]]:
    """Return by row the launches, what it adds to the base, in additions of PEFT's LoRA, waits."""
    counts = {row: count(topology, row, precision) for row in rows}
    base, yardstick = (counts[row].kernels.total() for row in (BASE, YARDSTICK))
    return [
        {
            "topology": topology,
            "precision": precision,
            "row": row,
            "launches": row_count.kernels.total(),
            "added": row_count.kernels.total() - base,
            "ratio": round((row_count.kernels.total() - base) / (yardstick - base), 3),
            "waits": row_count.waits.total() - counts[BASE].waits.total(),
        }
        for row, row_count in counts.items()
    ]


def measure_ways(topology: str, rows: Sequence[str] = ROWS[2:]) -> list[dict[str, Any]]:
    """Return by row and way the launches beyond the base's, and the solves among them."""
    base = count(topology, BASE, "float32").kernels.total()
    results = []
    for row in rows:
        for way in WAYS:
            kernels = count(topology, row, "float32", way).kernels
            solves = sum(number for name, number in kernels.items() if name in SOLVES)
            head = {"topology": topology, "row": row, "way": way}
            results.append({**head, "added": kernels.total() - base, "solves": solves})
    return results


def table(results: list[dict[str, Any]]) -> str:
    """Return the figures as a Markdown table."""
    head = tuple(results[0])
    lines = [" | ".join(head), "|".join("---" for _ in head)]
    lines += [" | ".join(str(result[name]) for name in head) for result in results]
    return "\n".join(f"| {line} |" for line in lines)


def main() -> None:
    """Count, print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--precision", nargs="*", choices=PRECISIONS, default=PRECISIONS)
    parser.add_argument("--topology", nargs="*", choices=TOPOLOGIES, default=tuple(TOPOLOGIES))
    parser.add_argument("--ways", action="store_true", help="shared solves, compiled or not")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    if options.ways:
        results = [result for name in options.topology for result in measure_ways(name)]
    else:
        results = [
            result
            for topology in options.topology
            for precision in options.precision
            for result in measure(topology, precision)
        ]
    print(table(results))
    if options.json:
        content = {"torch": torch.__version__, "rows": results}
        options.json.write_text(f"{json.dumps(content, indent=2)}\n", "utf-8")


if __name__ == "__main__":
    main()

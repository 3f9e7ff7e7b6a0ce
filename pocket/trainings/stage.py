"""One time-boxed, resumable training loop for every part of the pocket model.

Under `torchrun --nproc_per_node N` each process computes its own batch and gradients are averaged.
On a CPU one process a core with one thread each is nearly twice as fast as one with two threads.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim.swa_utils import AveragedModel

Loss = Callable[[int], dict[str, Tensor]]
"""Step number -> named losses; the one called `loss` is minimised."""

_SAVE_SECONDS = 120.0


@dataclass(frozen=True)
class Box:
    """How long and how fast one stage learns."""

    minutes: float
    learning_rate: float
    weight_decay: float = 0.01
    ema_decay: float = 0.999
    warmup: float = 0.02  # share of the time the rate climbs
    cooldown: float = 0.4  # share of the time, at the end, the rate falls to zero

    def rate(self, progress: float) -> float:
        """Learning rate at a progress in [0, 1]: climb, stay, fall linearly to zero."""
        climb = min(1.0, progress / self.warmup)
        fall = min(1.0, max(0.0, 1 - progress) / self.cooldown)
        return self.learning_rate * min(climb, fall)


class Stage:
    """A module being trained, its optimizer and its moving average, saved as it goes.

    Args:
        folder: where `state.pt` and `log.jsonl` go; a state found there is continued.
        module: everything trained in this stage, in one module.
        box: time and rates. The time already spent by an earlier run counts.
    """

    def __init__(self, folder: Path, module: nn.Module, box: Box) -> None:
        self.folder, self.module, self.box = folder, module, box
        self.optimizers = _optimizers(module, box.weight_decay)
        self.average = AveragedModel(module, multi_avg_fn=_warming_average(box.ema_decay))
        self.step, self.spent = 0, 0.0
        self.processes = PartialState(cpu=not torch.cuda.is_available())
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / "state.pt").exists():
            self._resume()

    @property
    def progress(self) -> float:
        return min(1.0, self.spent / (60 * self.box.minutes))

    def run(self, loss: Loss, *, log_every: int = 50) -> Any:
        """Train until the time is up; returns the averaged module, in eval mode."""
        saved = time.monotonic()
        while self.progress < 1:
            start = time.monotonic()
            losses = self._step(loss)
            self.spent += float(self._mean(torch.tensor(time.monotonic() - start)))
            if self.step % log_every == 0 and self.processes.is_main_process:
                self._log(losses)
            if time.monotonic() - saved > _SAVE_SECONDS and self.processes.is_main_process:
                self.save()
                saved = time.monotonic()
        if self.processes.is_main_process:
            self.save()
        return self.average.module.eval()

    def _step(self, loss: Loss) -> dict[str, Tensor]:
        for group in chain.from_iterable(o.param_groups for o in self.optimizers):
            group["lr"] = self.box.rate(self.progress)
        with sdpa_kernel(SDPBackend.MATH):  # on CPU the fused backward is three times slower
            losses = loss(self.step)
            losses["loss"].backward()
        self._share_gradients()
        nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self.average.update_parameters(self.module)
        self.step += 1
        return losses

    def _share_gradients(self) -> None:
        """Average gradients over the processes, all in one message, in bfloat16."""
        if self.processes.num_processes == 1:
            return
        gradients = [p.grad for p in self.module.parameters() if p.grad is not None]
        message = torch.cat([g.detach().reshape(-1).bfloat16() for g in gradients])
        parts = self._mean(message).split([g.numel() for g in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def _mean(self, values: Tensor) -> Tensor:
        return reduce(values, "mean") if self.processes.num_processes > 1 else values

    def _log(self, losses: dict[str, Tensor]) -> None:
        line = {"step": self.step, "minutes": round(self.spent / 60, 2)}
        line |= {name: round(float(value.detach()), 5) for name, value in losses.items()}
        print(json.dumps(line), flush=True)
        with (self.folder / "log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")

    def save(self) -> None:
        """Write the state aside, then rename it over the last one."""
        aside = self.folder / "state.pt.part"
        torch.save(
            {
                "module": self.module.state_dict(),
                "average": self.average.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
                "step": self.step,
                "spent": self.spent,
            },
            aside,
        )
        os.replace(aside, self.folder / "state.pt")

    def _resume(self) -> None:
        state = torch.load(self.folder / "state.pt", weights_only=True)
        self.module.load_state_dict(state["module"])
        self.average.load_state_dict(state["average"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.spent = state["step"], state["spent"]
        print(f"continued {self.folder} at step {self.step}", flush=True)


def _warming_average(decay: float) -> Callable[..., None]:
    """A moving average over the last tenth of the steps so far, at most `1 / (1 - decay)` steps."""

    @torch.no_grad()
    def update(averages: list[Tensor], current: list[Tensor], count: Tensor) -> None:
        steps = float(count)
        torch._foreach_lerp_(averages, current, 1 - min(decay, (1 + steps) / (10 + steps)))

    return update


class KernelMuon(torch.optim.Muon):
    """Muon (torch's own, for matrices) that takes convolution kernels as matrices too.

    A kernel `(out, in, kh, kw)` in channels-last memory is the matrix `(out, kh*kw*in)` without a
    copy: the twin parameter handed to Muon shares its storage.
    """

    def __init__(self, weights: list[nn.Parameter], *, weight_decay: float) -> None:
        self.kernels = [p for p in weights if p.ndim == 4]
        self.twins = [nn.Parameter(_as_matrix(p.data)) for p in self.kernels]
        matrices = [p for p in weights if p.ndim == 2] + self.twins
        super().__init__(
            matrices, lr=0.0, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
        )

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for kernel, twin in zip(self.kernels, self.twins, strict=True):
            twin.grad = None if kernel.grad is None else _as_matrix(kernel.grad)
        super().step(closure)
        for kernel in self.kernels:
            kernel.grad = None


def _as_matrix(kernel: Tensor) -> Tensor:
    return kernel.permute(0, 2, 3, 1).flatten(1)


def _optimizers(module: nn.Module, weight_decay: float) -> list[torch.optim.Optimizer]:
    """Muon for matrices and kernels inside the network, AdamW for embeddings, norms and biases."""
    weights: list[nn.Parameter] = []
    embeddings: list[nn.Parameter] = []
    vectors: list[nn.Parameter] = []
    for name, p in module.named_parameters():
        home = weights if p.ndim > 1 else vectors
        (embeddings if "embedding." in name and p.ndim > 1 else home).append(p)
    groups = [
        {"params": embeddings, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98), fused=True)
    return [adamw, KernelMuon(weights, weight_decay=weight_decay)]


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def bf16(on: torch.device) -> torch.autocast:
    return torch.autocast(on.type, torch.bfloat16)

"""Everything learned for one base model, part by part, held and kept as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from orthodiff import control
from orthodiff.adapters.adapter import Adapter
from orthodiff.components.registry import COMPONENTS, Component, components_in
from orthodiff.errors import UserError
from orthodiff.io.atomic import publishing
from orthodiff.models import Base, Conditioning


class AdapterSet:
    """The parts learned for `base`, by name: `unet`, `text_encoder`, ... (see `COMPONENTS`)."""

    def __init__(self, base: Base, components: Mapping[str, Component]) -> None:
        self.base = base
        self.components = dict(components)
        self.changed()

    @classmethod
    def load(cls, base: Base, folder: str | Path) -> AdapterSet:
        """Put on `base` every part that `folder` holds.

        Raises:
            UserError: a part cannot be read or does not fit; the base is left as it was.
        """
        folder = Path(folder)
        adapter_set = cls(base, {})
        try:
            for name in components_in(folder):
                kind = COMPONENTS[name]
                adapter_set.components[name] = kind.load(base, kind.place(folder))
        except BaseException:
            adapter_set.detach()
            raise
        adapter_set.changed()
        return adapter_set

    def save(
        self,
        folder: str | Path,
        *,
        base: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Write every part so that `load` finds it; `base` and `metadata` go into each.

        A new folder appears complete or not at all; in an existing one each file is replaced in
        one step, and parts that this bundle does not have are removed.

        Raises:
            UserError: `folder` is a file.
        """
        folder = Path(folder)
        with publishing(folder) as new:
            for name, part in self.components.items():
                part.save(COMPONENTS[name].place(new), base=base, metadata=metadata)
        for name in components_in(folder):
            if name not in self.components:
                COMPONENTS[name].remove(folder)

    @property
    def adapters(self) -> dict[str, Adapter]:
        """The parts that are adapters."""
        return {name: part for name, part in self.components.items() if isinstance(part, Adapter)}

    @property
    def unet(self) -> Adapter | None:
        """The UNet's adapter."""
        return self.adapters.get("unet")

    @property
    def control(self) -> control.Control | None:
        """The hint encoder, where maps steer."""
        part = self.components.get("hint_encoder")
        return part if isinstance(part, control.Control) else None

    @property
    def method(self) -> str:
        """The name of the UNet's method; without one, the parts there are."""
        return self.unet.method.name if self.unet else " and ".join(self.components)

    @property
    def reads(self) -> bool:
        """Whether a part changes how prompts are read."""
        return any(name == "tokens" or name.startswith("text_encoder") for name in self.components)

    def steer(self, prompts: Sequence[str], remembered: Conditioning) -> Conditioning:
        """What steers `prompts`: read anew, with gradients, where a part changes the reading.

        Else it is what was `remembered`, whose sizes hold in any case.
        """
        return self.base.reread(prompts, remembered) if self.reads else remembered

    def parameters(self) -> list[nn.Parameter]:
        """The trainable parameters, part by part."""
        return [parameter for part in self.components.values() for parameter in part.parameters()]

    @property
    def num_parameters(self) -> int:
        """Number of trainable numbers."""
        return sum(parameter.numel() for parameter in self.parameters())

    def regularizer(self) -> Tensor:
        """What the adapters' methods add to the loss, a scalar."""
        return sum((a.regularizer() for a in self.adapters.values()), start=torch.zeros(()))

    def state_dict(self) -> dict[str, Tensor]:
        """A copy of the parameters as `part.name`, for a trainer's own checkpoints."""
        return {
            f"{name}.{key}": tensor
            for name, part in self.components.items()
            for key, tensor in part.state_dict().items()
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Set all parameters from `state_dict`'s form.

        Raises:
            UserError: names or shapes differ, naming the first.
        """
        by_part: dict[str, dict[str, Tensor]] = {}
        for key, tensor in state.items():
            part, _, name = key.partition(".")
            by_part.setdefault(part, {})[name] = tensor
        if set(by_part) != set(self.components):
            raise UserError(
                f"The saved state is of {', '.join(by_part)}, but here "
                f"{', '.join(self.components)} are trained. Go on with the settings it was saved "
                "with."
            )
        for part, own in by_part.items():
            self.components[part].load_state_dict(own)
        self.changed()

    @property
    def strength(self) -> float:
        """How far the adapters turn: 0 is the base, 1 as trained."""
        return next((adapter.strength for adapter in self.adapters.values()), 1.0)

    @strength.setter
    def strength(self, strength: float) -> None:
        for adapter in self.adapters.values():
            adapter.method.check_strength(strength)
        for adapter in self.adapters.values():
            adapter.strength = strength
        self.changed()

    def merge(self) -> None:
        """Put the adapters into the weights, so that the model runs at its own speed."""
        for adapter in self.adapters.values():
            adapter.merge()

    def detach(self) -> None:
        """Give the base its own parts back; this handle keeps the parameters."""
        for part in self.components.values():
            part.detach()
        self.changed()

    def changed(self) -> None:
        """Forget what was computed from parameters that have changed since."""
        for adapter in self.adapters.values():
            adapter.changed()
        if self.reads:
            self.base.prompts.clear()

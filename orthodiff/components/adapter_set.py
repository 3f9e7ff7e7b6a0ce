"""Everything learned for one base model, component by component, held and saved as one."""

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
    """The components learned for `base`, by their names in `COMPONENTS`."""

    def __init__(self, base: Base, components: Mapping[str, Component]) -> None:
        self.base = base
        self.components = dict(components)
        self.changed()

    @classmethod
    def load(cls, base: Base, folder: str | Path) -> AdapterSet:
        """Put on `base` every component that `folder` holds.

        Raises:
            UserError: a component cannot be read or does not fit; the base is left as it was.
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
        """Write every component so that `load` finds it; `base` and `metadata` go into each.

        A new folder appears complete or not at all; in an existing one each file is replaced in
        one step, and components that this set does not have are removed.

        Raises:
            UserError: `folder` is a file.
        """
        folder = Path(folder)
        with publishing(folder) as new:
            for name, component in self.components.items():
                component.save(COMPONENTS[name].place(new), base=base, metadata=metadata)
        for name in components_in(folder):
            if name not in self.components:
                COMPONENTS[name].remove(folder)

    @property
    def adapters(self) -> dict[str, Adapter]:
        """The components that are adapters."""
        return {name: each for name, each in self.components.items() if isinstance(each, Adapter)}

    @property
    def unet(self) -> Adapter | None:
        """The UNet's adapter."""
        return self.adapters.get("unet")

    @property
    def control(self) -> control.Control | None:
        """The hint encoder, where control images steer."""
        encoder = self.components.get("hint_encoder")
        return encoder if isinstance(encoder, control.Control) else None

    @property
    def method(self) -> str:
        """The name of the UNet's method; without one, the components there are."""
        return self.unet.method.name if self.unet else " and ".join(self.components)

    @property
    def reads(self) -> bool:
        """Whether a component changes how prompts are read."""
        return any(name == "tokens" or name.startswith("text_encoder") for name in self.components)

    def steer(self, prompts: Sequence[str], remembered: Conditioning) -> Conditioning:
        """What steers `prompts`: read anew, with gradients, where a component changes the reading.

        Else it is what was `remembered`, whose sizes hold in any case.
        """
        return self.base.reencode(prompts, remembered) if self.reads else remembered

    def parameters(self) -> list[nn.Parameter]:
        """The trainable parameters, component by component."""
        return [parameter for each in self.components.values() for parameter in each.parameters()]

    @property
    def num_parameters(self) -> int:
        """Number of trainable numbers."""
        return sum(parameter.numel() for parameter in self.parameters())

    def regularizer(self) -> Tensor:
        """What the adapters' methods add to the loss, a scalar."""
        return sum((a.regularizer() for a in self.adapters.values()), start=torch.zeros(()))

    def state_dict(self) -> dict[str, Tensor]:
        """A copy of the parameters as `component.name`, for a trainer's own checkpoints."""
        return {
            f"{name}.{key}": tensor
            for name, component in self.components.items()
            for key, tensor in component.state_dict().items()
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Set all parameters from `state_dict`'s form.

        Raises:
            UserError: names or shapes differ, naming the first.
        """
        by_component: dict[str, dict[str, Tensor]] = {}
        for key, tensor in state.items():
            component, _, name = key.partition(".")
            by_component.setdefault(component, {})[name] = tensor
        if set(by_component) != set(self.components):
            raise UserError(
                f"The saved state is of {', '.join(by_component)}, but here "
                f"{', '.join(self.components)} are trained. Go on with the settings it was saved "
                "with."
            )
        for component, own in by_component.items():
            self.components[component].load_state_dict(own)
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
        """Put the adapters into the weights, so that the model runs at its own speed.

        Raises:
            UserError: if one cannot be merged; all are left as they were then.
        """
        fresh = [adapter for adapter in self.adapters.values() if not adapter.merged]
        try:
            for adapter in fresh:
                adapter.merge()
        except BaseException:
            for adapter in fresh:
                adapter.unmerge()
            raise

    def detach(self) -> None:
        """Give the base its own layers back; this object keeps the parameters."""
        for component in self.components.values():
            component.detach()
        self.changed()

    def changed(self) -> None:
        """Forget what was computed from parameters that have changed since."""
        for adapter in self.adapters.values():
            adapter.changed()
        if self.reads:
            self.base.prompts.clear()

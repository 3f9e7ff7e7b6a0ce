"""How one method lies in PEFT's folder layout: names of files, entries and tensors."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Protocol

from torch import Tensor
from typing_extensions import Self

from orthodiff.adapters.layers.adaptable import Adaptable
from orthodiff.adapters.rotation import Parameters
from orthodiff.errors import UserError

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
"""PEFT's prefix of every tensor name."""
OURS = "ORTHODIFF_"
"""Precedes PEFT's name of a method where PEFT would compute something else, and so refuses."""

INERT = frozenset({
    "peft_type", "task_type", "auto_mapping", "base_model_name_or_path", "revision",
    "inference_mode", "peft_version", "target_modules", "exclude_modules", "layers_to_transform",
    "layers_pattern", "init_weights",
})  # fmt: skip
"""Entries of PEFT's config that say nothing of what a layer computes."""


class _Settings(Protocol):
    def settings(self) -> dict[str, Any]: ...


class PeftFormat:
    """A method's part of PEFT's layout; by default it is one that PEFT does not have.

    `pack` and `unpack` are inverse to each other, bit for bit.
    """

    name: ClassVar[str]
    peft_type: ClassVar[str | None] = None
    """PEFT's name of the method, or None where PEFT has none."""
    peft_entries: ClassVar[frozenset[str]] = frozenset({"settings"})
    """The entries of PEFT's config that `from_peft` takes into account."""

    @classmethod
    def own_type(cls) -> str:
        """Return the type of folders that PEFT is to refuse."""
        return f"{OURS}{cls.peft_type or cls.name.upper()}"

    def peft_config(self: _Settings) -> dict[str, Any]:
        """Return the method's own entries of PEFT's adapter_config.json."""
        return {"settings": self.settings()}

    @classmethod
    def from_peft(cls, config: Mapping[str, Any], tensors: Parameters) -> Self:
        """Return the settings described by PEFT's adapter_config.json and one layer's tensors.

        Raises:
            UserError: if the file asks for something this method does not do.
        """
        return cls(**config["settings"])

    def pack(self, parameters: Parameters, layer: Adaptable) -> dict[str, Tensor]:
        """Return the tensors of one adapted `layer` under PEFT's names."""
        return dict(parameters)

    def unpack(self, tensors: Parameters, config: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return one layer's parameters from PEFT's tensors, saved with PEFT's `config`."""
        return dict(tensors)

    def runs_in_peft(self, layer: Adaptable) -> bool:
        """Whether PEFT's own layer of this method computes the same for `layer`."""
        return False


def refuse_variants(config: Mapping[str, Any], known: Collection[str]) -> None:
    """Refuse a PEFT config unless all of its entries are known to be right here.

    What PEFT adds in the future is refused too, rather than computed in another way: an entry must
    be inert, `known` to the method, or switched off.

    Raises:
        UserError: naming the first entry that is none of these.
    """
    if config.get("bias", "none") != "none":
        raise UserError("The adapter has trained biases, which orthodiff does not read. Use PEFT.")
    for name, value in config.items():
        is_plain = name in INERT and not (name == "init_weights" and isinstance(value, str))
        if value and name != "bias" and not is_plain and name not in known:
            raise UserError(
                f"The adapter uses PEFT's `{name}` ({value!r}), which orthodiff does not read. "
                "Load it with PEFT."
            )

"""A chain of rotations applied in order: what `compose` makes of adapters that do not join."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from orthodiff.adapters.registry import ADAPTERS
from orthodiff.adapters.rotation import Factors, Parameters
from orthodiff.adapters.rotation_method import RotationMethod
from orthodiff.errors import UserError


@dataclass(frozen=True)
class Link:
    """One rotation of a chain, or its inverse."""

    method: RotationMethod
    inverse: bool = False


@dataclass(frozen=True)
class Chain(RotationMethod):
    """R = R_1 R_2 ..., some of them inverted. Saved in our own layout, which PEFT does not read."""

    name: ClassVar[str] = "chain"
    title: ClassVar[str] = "Chain of adapters"
    peft_entries: ClassVar[frozenset[str]] = frozenset({"links"})

    links: tuple[Link, ...]

    def split(self, parameters: Parameters) -> Iterator[tuple[Link, dict[str, Tensor]]]:
        """Yield every link with its own parameters."""
        for number, link in enumerate(self.links):
            start = f"link{number}_"
            own = {k.removeprefix(start): v for k, v in parameters.items() if k.startswith(start)}
            yield link, own

    def gather(self, parts: list[Parameters]) -> dict[str, Tensor]:
        """Return the parameters of the chain from those of its links."""
        return {f"link{i}_{k}": v for i, part in enumerate(parts) for k, v in part.items()}

    def shapes(self, d: int, out: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of all links' parameters.

        Raises:
            UserError: if one of them does not fit.
        """
        shapes = [link.method.shapes(d, out) for link in self.links]
        return {f"link{i}_{k}": v for i, part in enumerate(shapes) for k, v in part.items()}

    def start(self, d: int, out: int, *, generator: torch.Generator | None) -> dict[str, Tensor]:
        """Return the starts of all links.

        Raises:
            UserError: if one of them does not fit.
        """
        return self.gather([link.method.start(d, out, generator=generator) for link in self.links])

    def prepare(self, parameters: Parameters) -> Factors:
        """Return the factors of all links, one after the other."""
        prepared = [link.method.prepare(own) for link, own in self.split(parameters)]
        return tuple(factor for factors in prepared for factor in factors)

    def _factors(self, factors: Factors) -> list[tuple[Link, Factors]]:
        parts, start = [], 0
        for link in self.links:
            parts.append((link, factors[start : start + link.method.factor_count]))
            start += link.method.factor_count
        return parts

    def rotate(self, rows: Tensor, factors: Factors, *, inverse: bool = False) -> Tensor:
        """Return `rows R`, or `rows R^T` with `inverse`; rows (..., d)."""
        parts = self._factors(factors)
        for link, own in reversed(parts) if inverse else parts:
            rows = link.method.rotate(rows, own, inverse=inverse != link.inverse)
        return rows

    def power(self, factors: Factors, strength: float) -> Factors:
        """Return the powers of every link; as links do not commute, R(a) R(b) is not R(a + b)."""
        powers = [link.method.power(own, strength) for link, own in self._factors(factors)]
        return tuple(factor for power in powers for factor in power)

    def bake_strength(
        self, parameters: Parameters, strength: float
    ) -> tuple[RotationMethod, Parameters]:
        """Return a chain of links with their strength baked in."""
        baked = [
            (link, *link.method.bake_strength(own, strength))
            for link, own in self.split(parameters)
        ]
        chain = Chain(tuple(Link(method, link.inverse) for link, method, _ in baked))
        return chain, chain.gather([own for _, _, own in baked])

    def turned_round(self, parameters: Parameters) -> tuple[Chain, Parameters]:
        """Return the chain of R^T: every link inverted, in reverse order."""
        parts = list(self.split(parameters))[::-1]
        chain = Chain(tuple(Link(link.method, not link.inverse) for link, _ in parts))
        return chain, chain.gather([own for _, own in parts])

    def angles(self, factors: Factors) -> Tensor:
        """Return the angles of all links in radians, largest first."""
        angles = [link.method.angles(own) for link, own in self._factors(factors)]
        return torch.cat(angles).sort(descending=True).values

    def scale(self, parameters: Parameters) -> Tensor | None:
        """Return the product of the links' scales, or None if none has one."""
        product: Tensor | None = None
        for link, own in self.split(parameters):
            if (scale := link.method.scale(own)) is not None:
                scale = 1 / scale if link.inverse else scale
                product = scale if product is None else product * scale
        return product

    def check_strength(self, strength: float) -> None:
        """Refuse a strength that one of the links cannot have.

        Raises:
            UserError: naming the link's reason.
        """
        for link in self.links:
            link.method.check_strength(strength)

    def settings(self) -> dict[str, Any]:
        """Return nothing: the links are in the configuration."""
        return {}

    def peft_config(self) -> dict[str, Any]:
        """Return the links by name and settings."""
        return {
            "links": [
                {"method": k.method.name, "inverse": k.inverse, "settings": k.method.settings()}
                for k in self.links
            ]
        }

    @classmethod
    def from_peft(cls, config: Mapping[str, Any], tensors: Parameters) -> Chain:
        """Return the chain that was saved.

        Raises:
            UserError: if a link is of a method we do not know.
        """
        links = []
        for link in config["links"]:
            cls_of_link = ADAPTERS.get(link["method"])
            if cls_of_link is None or not issubclass(cls_of_link, RotationMethod):
                raise UserError(f"The chain has a link of unknown method {link['method']!r}.")
            links.append(Link(cls_of_link.from_settings(link["settings"]), bool(link["inverse"])))
        return cls(tuple(links))
